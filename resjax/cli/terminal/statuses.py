"""Output about the progress of runs and their cost."""

from resjax.cli.terminal.board import MOST_ROWS, status_rows
from resjax.cli.terminal.lines import say, shortened
from resjax.cli.terminal.tables import print_table
from resjax.config.text import several
from resjax.runs.ledger import Ledger, known_total
from resjax.runs.rundir import IMPORTED
from resjax.runs.status import WAITING, Status


def print_statuses(
    statuses: list[Status], line: str, ledgers: list[Ledger | None], last: str = ""
) -> None:
    """Prints a row for each run, a line about all, and one about their cost if it is known.

    Runs that are waiting have rows if all fit into a board; otherwise a line names the first. The
    `last` line is printed if there is one.
    """
    hidden = [s for s in statuses if s.state == WAITING] if len(statuses) > MOST_ROWS else []
    print_table(status_rows([s for s in statuses if not hidden or s.state != WAITING]))
    for status in statuses:
        if status.why:
            say(f"{status.directory.name}: {shortened(status.why)}")
    if hidden:
        more = f" and {len(hidden) - 1} more" if hidden[1:] else ""
        say(f"waiting: {hidden[0].directory.name}{more}")
    say(line)
    begun = [
        ledger
        for status, ledger in zip(statuses, ledgers, strict=True)
        if status.state not in (WAITING, IMPORTED)
    ]
    parts, cost, unknown = [], known_total(ledgers), begun.count(None)
    if any(ledgers):
        spent = f"train + eval {cost.device_seconds:,.1f} device seconds"
        parts.append(f"compile {cost.compile_seconds:,.1f} s, {spent}")
    if cost.interruptions:
        stops = several(cost.interruptions, "interruption")
        parts.append(f"{cost.lost_seconds:,.1f} s lost to {stops}")
    if unknown:
        parts.append(f"the cost of {several(unknown, 'run')} is not known")
    if parts:
        say("; ".join(parts))
    if last:
        say(last)
