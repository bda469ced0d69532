"""Tables and numbers formatted for people."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.lines import plain_console, spelled
from resjax.config.text import printable

NARROWEST = 12
"""Minimum width, in characters, of the first column of a table that has to be narrowed."""


def literal(name: str) -> Text:
    """A cell that shows a name as it is: no part of it is interpreted as a style."""
    return Text(spelled(printable(name)))


def text_table(headings: Iterable[str], words: Collection[str] = (), gap: int = 1) -> Table:
    """A table without rules, whose columns do not wrap.

    Args:
      headings: the headings of all columns.
      words: headings of the columns of words, aligned to the left; numbers are to the right.
      gap: spaces between two columns.
    """
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    for heading in headings:
        justify = "left" if heading in words else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    return table


def table_of_runs(
    rows: Mapping[Path, Sequence[Text | str]],
    headings: Sequence[str],
    apart: Mapping[Path, Mapping[str, Any]],
    width: int | None,
    shortens: bool = False,
) -> Table:
    """A table with a row for each run: its name, what tells it apart from others, and cells.

    What tells runs apart has a column for each key, or stands below the names if that is too wide.

    Args:
      rows: {run: cells after its name}; the first cell is a word, the others are numbers.
      headings: the headings of these cells; a column without any content is left out.
      apart: {run: {key: value}}, the same keys for each; a run whose values are not known may lack.
      width: maximum width in characters; None for any.
      shortens: whether names are shortened to `NARROWEST` before keys are moved below them.
    """
    keys = list(dict.fromkeys(key for run in rows for key in apart.get(run, ())))
    filled = [any(str(cells[n]) for cells in rows.values()) for n in range(len(headings))]

    def table(beside: bool) -> Table:
        columns = keys if beside else []
        if width is not None:
            columns = [key.replace(".", ".\n", 1) for key in columns]
        kept = [heading for heading, full in zip(headings, filled, strict=True) if full]
        made = text_table(["run", *columns, *kept], words=("run", *headings[:1]))
        for run, cells in rows.items():
            own = apart.get(run, {})
            below = [] if beside else [f"{key}={value}" for key, value in own.items()]
            made.add_row(
                Text("\n  ").join(map(literal, [run.name, *below])),
                *(literal(str(own.get(key, ""))) for key in keys if beside),
                *(cell for cell, full in zip(cells, filled, strict=True) if full),
            )
        return made

    wide = table(beside=True)
    spare = max(len(run.name) for run in rows) - NARROWEST if shortens and rows else 0
    fits = width is None or measured(wide) - max(0, spare) <= width
    return wide if fits or not keys else table(beside=False)


def terminal_width() -> int | None:
    """Number of columns of the terminal that stdout is; None if it is none."""
    console = plain_console()
    return console.width if console.is_terminal else None


def fit_to_terminal(console: Console, table: Table, overflow: str = "fold") -> None:
    """Narrows the first column of a table, the names, to fit a terminal; never cuts numbers.

    Args:
      console: the console that the table is printed on.
      table: a table whose columns do not wrap.
      overflow: the treatment of names that are too long: "fold" or "ellipsis".
    """
    excess = measured(table) - console.width
    if excess > 0:
        names = table.columns[0]
        texts = "\n".join(map(str, (names.header, *names.cells)))
        longest = max(map(cell_len, texts.split("\n")))
        names.max_width = max(NARROWEST, longest - excess)
        names.no_wrap, names.overflow = overflow != "fold", overflow
        if overflow == "fold":
            for cell in names.cells:
                if isinstance(cell, Text):
                    cell.plain = folded(cell.plain, names.max_width)


def folded(text: str, width: int) -> str:
    """Breaks the lines of a text after hyphens and between words; longer parts stay whole.

    >>> folded("identity-8-seed0-2bc17ebb", 14).splitlines()
    ['identity-8-', 'seed0-2bc17ebb']
    """
    lines = []
    for line in text.splitlines():
        begun = ""
        for part in re.split(r"(?<=[-\s])", line):
            if begun.strip() and cell_len((begun + part).rstrip()) > width:
                lines.append(begun.rstrip())
                begun = ""
            begun += part
        lines.append(begun.rstrip())
    return "\n".join(lines)


def print_table(table: Table) -> None:
    """Prints a table to stdout, at full width even if a terminal is narrower.

    No number is cut, and no line ends in spaces.
    """
    console = plain_console()
    if console.is_terminal:
        fit_to_terminal(console, table)
    console.width = max(console.width, measured(table))
    console.print(_Trimmed(table), crop=False)


class _Trimmed:
    """A table whose lines are not filled up with spaces."""

    def __init__(self, table: Table):
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for line in console.render_lines(self.table, options, pad=False):
            while line and not line[-1].text.rstrip():
                line.pop()
            yield from line[:-1]
            for text, *rest in line[-1:]:
                yield Segment(text.rstrip(), *rest)
            yield Segment.line()


def measured(table: Table) -> int:
    """The width in characters of a table whose columns do not wrap."""
    console = plain_console()
    options = console.options.update(max_width=10_000)
    return table.__rich_measure__(console, options).maximum
