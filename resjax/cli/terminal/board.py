"""The board of runs: a table of their states that is read again each time it is drawn."""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.tables import fit_to_terminal, literal, table_of_runs
from resjax.cli.terminal.waits import WaitLine
from resjax.config import ConfigError
from resjax.config.naming import told_apart
from resjax.config.text import clock, printable, several, time_taken
from resjax.runs.planned import planned_settings
from resjax.runs.status import (
    ENDED,
    INTERRUPTED,
    WAITING,
    Status,
    at_work_on,
    count_states,
    look,
    seconds_left,
)

MOST_ROWS = 20
"""Maximum number of runs that are shown at once, chosen by `shown`."""

SECONDS_BETWEEN_LOOKS = 1.0
"""Seconds between two reads of the files of runs."""

STYLES = {"done": "green", "failed": "bold red", WAITING: "dim", INTERRUPTED: "yellow"}


class Board:
    """The statuses of runs, read again each time they are shown, until a run has ended.

    Args:
      find_work: finds the work of each run by its directory, in the order of the grid. It is
        called at every look, as a sweep records its plan only when it has begun.
      find_plans: finds the runs of each sweep that has planned some; by default all are of one.

    Attributes:
      work, plans: what these found last.
      settings: those of each run, as far as plans or configs tell them.
      apart: what tells the runs apart beside their names; see `told_apart`.
    """

    def __init__(
        self,
        find_work: Callable[[], dict[Path, float]],
        find_plans: Callable[[], Sequence[Collection[Path]]] | None = None,
    ):
        self.find_work = find_work
        self.find_plans = find_plans or (lambda: [self.work])
        self.work = self.find_work()
        self.plans = self.find_plans()
        self.settings: dict[Path, dict[str, Any]] = {}
        self.apart: dict[Path, dict[str, Any]] = {}
        self.ended: dict[Path, Status] = {}
        self.wait = WaitLine()
        self.seen: tuple[float, list[Status]] = (-math.inf, [])  # when last drawn, and what
        self.reached: list[tuple[str, int | None]] = []
        self.end: float | None = None  # when all runs should have ended

    def look(self) -> list[Status]:
        """Reads all statuses, in the order of the grid."""
        self.work = self.find_work()
        self.plans = self.find_plans()
        if unknown := self.work.keys() - self.settings.keys():
            self.settings |= planned_settings(unknown)
        known = {run: self.settings[run] for run in self.work if run in self.settings}
        self.apart = told_apart(known)
        statuses = [self.ended.get(directory) or look(directory) for directory in self.work]
        self.ended |= {s.directory: s for s in statuses if s.state in ENDED}
        return statuses

    def line(self, statuses: list[Status]) -> str:
        """The progress of all runs in one line: counts of their states, and the remaining time."""
        return count_states(status.state for status in statuses) + self.left(statuses)

    def left(self, statuses: list[Status]) -> str:
        """The remaining time as text; while no run advances, as during compilation, it counts down.

        It is that of the sweeps at work, and empty if that is unknown.
        """
        reached, now = [(status.state, status.step) for status in statuses], time.monotonic()
        ours = at_work_on(statuses, self.plans)
        counted = [s for s in statuses if s.state in ENDED or s.directory in ours]
        if reached != self.reached:
            seconds = seconds_left(counted, self.work)
            self.reached, self.end = reached, seconds and now + seconds
        left, others = time_left(self.end), len(statuses) - len(counted)
        if not left or not others:
            return left
        return f"{left} without {several(others, 'run')} of no sweep at work"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if time.monotonic() - self.seen[0] >= SECONDS_BETWEEN_LOOKS:
            with contextlib.suppress(ConfigError):  # they were removed, which `look` says
                self.seen = time.monotonic(), self.look()
        statuses = self.seen[1]
        table = status_rows(shown(statuses), self.apart, options.max_width, shortens=True)
        fit_to_terminal(console, table, "ellipsis")
        yield table
        yield literal(self.line(statuses))
        yield self.wait


def shown(statuses: list[Status]) -> list[Status]:
    """The statuses that fit into the table, at most `MOST_ROWS`, in their order.

    Runs in progress come first, then the last five that failed, then the neighbours of those at
    work.
    """
    if len(statuses) <= MOST_ROWS:
        return statuses
    at_work = [n for n, status in enumerate(statuses) if status.owner]
    failed = [n for n, status in enumerate(statuses) if status.state == "failed"]
    around = at_work or [
        next((n for n, s in enumerate(statuses) if s.state not in ENDED), len(statuses) - 1)
    ]
    others = sorted(range(len(statuses)), key=lambda n: min(abs(n - place) for place in around))
    chosen = list(dict.fromkeys([*at_work, *failed[-5:], *others]))[:MOST_ROWS]
    return [statuses[n] for n in sorted(chosen)]


def status_rows(
    statuses: list[Status],
    apart: Mapping[Path, Mapping[str, Any]],
    width: int | None,
    shortens: bool = False,
) -> Table:
    """A table with one row per run.

    Args:
      statuses: status of each run.
      apart: what tells the runs apart beside their names, {run: {key: value}}.
      width: maximum width in characters; None for any.
      shortens: whether names are shortened rather than keys moved below them.
    """
    headings = ("state", "epoch", "loss", "train\nerror %", "test\nerror %", "in all", "left")
    return table_of_runs(
        {status.directory: _cells(status) for status in statuses}, headings, apart, width, shortens
    )


def _cells(status: Status) -> list[Text | str]:
    state = status.state + (f" (resumed {status.resumed}x)" if status.resumed else "")
    if status.compiling is not None:
        state += f" {clock(status.compiling)}"
    return [
        Text(printable(state), style=STYLES.get(status.state, "")),
        "" if status.epoch is None else epochs(status.epoch, status.epochs),
        "" if status.loss is None else f"{status.loss:.3f}",
        percent(status.train_error),
        percent(status.test_error),
        time_taken(status.seconds) if status.seconds else "",
        "" if status.seconds_left is None else clock(status.seconds_left),
    ]


def time_left(end: float | None) -> str:
    """The time until `end` as text; empty if that is unknown or past."""
    seconds = 0.0 if end is None else end - time.monotonic()
    return f", {clock(seconds)} left" if seconds > 0 else ""


def percent(fraction: float | None) -> str:
    """Formats a fraction as a number of percent; empty if there is none."""
    return "" if fraction is None else f"{100 * fraction:.2f}"


def epochs(passed: float, whole: float) -> str:
    """Formats epochs, such as "1.5/15"; the second number has a decimal unless it is whole."""
    text = f"{whole:.1f}"
    return f"{passed:.1f}/{text.removesuffix('.0') if whole >= 1 else text}"
