"""Lines for people: wrapped between words in a terminal, and unbroken everywhere else.

Names of classes, files and errors come from others. Their text is shown and never interpreted: no
control character moves the cursor, and no brackets are taken for a style.
"""

import re
import shutil
import sys
import textwrap
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from resjax.config.text import printable

LONGEST_WORD, LONGEST = 200, 1000
"""Maximum characters of a word, and of a whole message, in messages that quote an input."""


def say(line: str, style: str | None = None, console: Console | None = None) -> None:
    """Prints a line to stdout, or to a console that also draws something else."""
    console = console or plain_console()
    line = spelled(printable(line))
    line = wrapped(line, console.width) if console.is_terminal else line
    console.print(Text(line), style=style, soft_wrap=True)


SPELLED = {"±": "+-"}
"""Spellings of signs that not every output can encode."""


def spelled(text: str, encoding: str = "") -> str:
    """Spells out the signs that an encoding lacks, by default that of stdout.

    >>> spelled("6.61±0.16", "ascii"), spelled("6.61±0.16", "utf-8")
    ('6.61+-0.16', '6.61±0.16')
    """
    encoding = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    for sign, spelling in SPELLED.items():
        if sign in text and not sign.encode(encoding, "ignore"):
            text = text.replace(sign, spelling)
    return text


def plain_console(stderr: bool = False) -> Console:
    """A console on stdout or stderr that takes no part of a text for a style."""
    return _Console(stderr=stderr, highlight=False, markup=False)


class _Console(Console):
    """A console whose reader may go, such as `head`; `resjax.cli.main` says what that means."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def tell(line: str) -> None:
    """Prints a line to stderr, above what a live display draws there; none if it was closed."""
    if sys.stderr is not None:
        line, width = printable(line), shutil.get_terminal_size().columns
        print(wrapped(line, width) if sys.stderr.isatty() else line, file=sys.stderr)


def complain(error: object) -> None:
    """Prints an error to stderr, in one line."""
    tell(f"resjax: {shortened(str(error))}")


def wrapped(line: str, width: int) -> str:
    """Wraps a line between words, with an indent from the second line on; paths are not broken."""
    indent = " " * (2 + len(line) - len(line.lstrip()))
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def shortened(text: str) -> str:
    """Shortens a message: long words at the end, and a message that is too long in the middle.

    >>> shortened(f"model.name={1000 * 'x'}; choose mlp")[-30:]
    'xxxxxxxxxxxxxxx...; choose mlp'
    """
    end = r"['\")\]]*[;:,.]?(?=\s|$)"  # the end of a word, which is kept
    long = rf"(\S{{{LONGEST_WORD}}})(?!{end})\S+?({end})"
    text = re.sub(long, r"\1...\2", printable(text))
    if len(text) > LONGEST:
        text = f"{text[: LONGEST * 2 // 3]} ... {text[-LONGEST // 3 :]}"
    return text
