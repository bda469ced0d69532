"""Output about the progress of runs and their cost."""

from rich.console import Console

from resjax.cli.terminal.lines import say, shortened
from resjax.cli.terminal.live import status_rows
from resjax.cli.terminal.tables import print_whole
from resjax.config.text import several
from resjax.runs.ledger import Ledger, known_total
from resjax.runs.rundir import IMPORTED
from resjax.runs.status import WAITING, Status


def print_statuses(statuses: list[Status], line: str, ledgers: list[Ledger | None]) -> None:
    """Prints a row for each run, a line about all, and one about their cost if it is known."""
    console = Console(highlight=False, markup=False)
    table = status_rows(statuses)
    print_whole(console, table)
    for status in statuses:
        if status.why:
            say(console, f"{status.directory.name}: {shortened(status.why)}")
    say(console, line)
    begun = [
        ledger
        for status, ledger in zip(statuses, ledgers, strict=True)
        if status.state not in (WAITING, IMPORTED)
    ]
    unknown = begun.count(None)
    rest = f"the cost of {several(unknown, 'run')} is not known" if unknown else ""
    if any(ledgers):
        cost = known_total(ledgers)
        lost = f"{cost.lost_seconds:,.1f} s lost to {several(cost.interruptions, 'interruption')}"
        compiled = f"compile {cost.compile_seconds:,.1f} s"
        spent = f"train + eval {cost.device_seconds:,.1f} device seconds"
        rest = "; ".join(part for part in (f"{compiled}, {spent}", lost, rest) if part)
    if rest:
        say(console, rest)
