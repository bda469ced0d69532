"""Lines for a person: broken between words in a terminal, and whole everywhere else."""

import shutil
import sys
import textwrap

from rich.console import Console


def tell(line: str) -> None:
    """A line to stderr."""
    width = shutil.get_terminal_size().columns
    print(wrapped(line, width) if sys.stderr.isatty() else line, file=sys.stderr)


def say(console: Console, line: str, style: str | None = None) -> None:
    """A line to a console."""
    line = wrapped(line, console.width) if console.is_terminal else line
    console.print(line, style=style, soft_wrap=True)


def wrapped(line: str, width: int) -> str:
    """The line in as many as it needs, the further ones indented; a path is never broken."""
    indent = " " * (2 + len(line) - len(line.lstrip()))
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
