"""Tables and numbers formatted for people."""

from collections.abc import Collection, Iterable, Iterator

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.lines import plain_console
from resjax.config.text import printable

NARROWEST = 12
"""Minimum width, in characters, of the first column of a table that has to be narrowed."""


def literal(name: str) -> Text:
    """A cell that shows a name as it is: no part of it is interpreted as a style."""
    return Text(printable(name))


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


def fit_to_terminal(console: Console, table: Table, overflow: str = "fold") -> None:
    """Narrows the first column of a table, the names, to fit a terminal; never cuts numbers.

    Args:
      console: the console that the table is printed on.
      table: a table whose columns do not wrap.
      overflow: the treatment of names that are too long: "fold" or "ellipsis".
    """
    excess = _needs(console, table) - console.width
    if excess > 0:
        names = table.columns[0]
        texts = "\n".join(map(str, (names.header, *names.cells)))
        longest = max(map(cell_len, texts.split("\n")))
        names.max_width = max(NARROWEST, longest - excess)
        names.no_wrap, names.overflow = overflow != "fold", overflow


def print_table(table: Table) -> None:
    """Prints a table to stdout, at full width even if a terminal is narrower.

    No number is cut, and no line ends in spaces.
    """
    console = plain_console()
    if console.is_terminal:
        fit_to_terminal(console, table)
    console.width = max(console.width, _needs(console, table))
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


def _needs(console: Console, table: Table) -> int:
    options = console.options.update(max_width=10_000)
    return table.__rich_measure__(console, options).maximum
