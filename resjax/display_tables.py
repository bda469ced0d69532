"""Tables and numbers as a person reads them."""

from rich.console import Console
from rich.table import Table


def several(number: int, what: str) -> str:
    """Such as "1 run" and "2 runs"."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def print_whole(console: Console, table: Table) -> None:
    """Prints a table in the columns it needs, also where there are fewer: no number is cut off."""
    options = console.options.update(max_width=10_000)
    before = console.width
    console.width = max(before, table.__rich_measure__(console, options).maximum)
    console.print(table, crop=False, no_wrap=True)
    console.width = before
