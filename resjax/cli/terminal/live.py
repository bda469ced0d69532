"""Display of the runs of a sweep while they work."""

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ml_collections import ConfigDict
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.lines import say, shortened
from resjax.cli.terminal.tables import fit, literal, several
from resjax.interruption import cleared_at_the_end
from resjax.runs.rundir import DONE, FAILED, run_state
from resjax.runs.status import ENDED, INTERRUPTED, WAITING, Status, count_states, look, seconds_left
from resjax.runs.summary import Outcome, Progress

MOST_ROWS = 20
"""Most runs that are shown at once, chosen by `shown`."""

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two lines about all runs where the output is no terminal."""

SECONDS_BETWEEN_LOOKS = 1.0
"""Seconds between two looks at runs of other processes."""

STYLES = {"done": "green", "failed": "bold red", WAITING: "dim", INTERRUPTED: "yellow"}


class Board:
    """The statuses of runs, read again whenever they are shown, until a run has ended.

    Args:
      weights: the work of each run by its directory, in the order of the grid.
    """

    def __init__(self, weights: Mapping[Path, float]):
        self.weights = dict(weights)
        self.ended: dict[Path, Status] = {}

    def look(self) -> list[Status]:
        """All statuses, in the order of the grid."""
        statuses = [self.ended.get(directory) or look(directory) for directory in self.weights]
        self.ended |= {s.directory: s for s in statuses if s.state in ENDED}
        return statuses

    def line(self, statuses: list[Status]) -> str:
        """The progress of all runs in one line: counts of their states, and the time left."""
        left = seconds_left(statuses, self.weights)
        return count_states(statuses) + (f", {clock(left)} left" if left else "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        statuses = self.look()
        table = status_rows(shown(statuses))
        fit(console, table, "ellipsis")
        yield table
        yield Text(self.line(statuses))


def shown(statuses: list[Status]) -> list[Status]:
    """The statuses that fit into the table, at most `MOST_ROWS`, in their order.

    Runs at work come first, then the last five that failed, then the neighbours of those at work.
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


def status_rows(statuses: list[Status]) -> Table:
    """A table with a row for each run; (2x) marks a run that went on after two interruptions."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name, justify in (("run", "left"), ("state", "left"), ("epoch", "right"),
                          ("loss", "right"), ("train", "right"), ("test", "right"),
                          ("in all", "right")):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis")
    for status in statuses:
        state = status.state + (f" ({status.resumed}x)" if status.resumed else "")
        epoch = "" if status.epoch is None else _epochs(status.epoch, status.epochs)
        left, in_all = status.seconds_left, status.seconds
        table.add_row(
            literal(status.directory.name),
            Text(state, style=STYLES.get(status.state, "")),
            epoch,
            "" if status.loss is None else f"{status.loss:.3f}",
            _percent(status.train_error),
            _percent(status.test_error),
            f"{clock(left)} left" if left is not None else clock(in_all) if in_all else "",
        )
    return table


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def clock(seconds: float) -> str:
    """Formats seconds for reading, such as "2 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Screen:
    """A board that follows its runs in a terminal, and lines of text, there and elsewhere.

    It is a context manager. Without a board, or outside of a terminal, it prints lines alone.
    """

    def __init__(self, console: Console, board: Board | None, transient: bool = True):
        self.console = console
        self.live = None
        if board and console.is_terminal:
            self.live = Live(board, console=console, refresh_per_second=1, transient=transient)
        self.drawn = contextlib.ExitStack()
        self.told = time.monotonic()

    def __enter__(self) -> Self:
        if self.live:
            self.drawn.enter_context(self.live)
            self.drawn.enter_context(cleared_at_the_end(self.live.stop))
        return self

    def __exit__(self, *_: object) -> None:
        self.drawn.close()

    def say(self, line: str) -> None:
        """Prints a line, above the board if there is one."""
        say(self.console, line)

    def is_due(self) -> bool:
        """Tells whether it is time for a line about the progress; never if there is a board."""
        if self.live or time.monotonic() - self.told < SECONDS_BETWEEN_LINES:
            return False
        self.told = time.monotonic()
        return True


class Display(Screen):
    """Follows the runs of this process: rows of all in a terminal, a line now and then elsewhere.

    It is an observer of `resjax.sweeps.local.run_sweep`, and writes to stderr.
    """

    def __init__(self, runs: Mapping[Path, ConfigDict], silent: bool = False):
        self.runs = list(runs)
        self.places = {run: place for place, run in enumerate(self.runs, start=1)}
        # The time of a run grows with its layers; nothing better is known before it starts.
        self.weights = {
            run: 0 if run_state(run) in (DONE, FAILED) else config.model.depth
            for run, config in runs.items()
        }
        self.trained_weight = 0.0
        self.first: dict[Path, tuple[float, int]] = {}  # when and at which step training was seen
        board = None if silent else Board({run: c.model.depth for run, c in runs.items()})
        super().__init__(
            Console(file=sys.stderr, highlight=False, markup=False, quiet=silent), board
        )
        self.began = self.told

    def started(self, run: Path) -> None:
        pass

    def progressed(self, run: Path, progress: Progress) -> None:
        if progress.note:
            self.say(f"{self._place(run)} {run.name}: {progress.note}")
        if progress.phase == "training":
            self.first.setdefault(run, (time.monotonic(), progress.step))
        if self.is_due():
            doing = _doing(progress) + self._time_left(run, progress)
            self.say(f"{self._place(run)} {run.name}: {doing}")

    def finished(self, outcome: Outcome) -> None:
        self.told = time.monotonic()
        if not outcome.skipped:
            self.trained_weight += self.weights[outcome.directory]
        self.say(f"{self._place(outcome.directory)} {outcome.directory.name}: {_ending(outcome)}")

    def waiting(self, runs: list[Path]) -> None:
        if self.is_due():
            self.say(f"waiting for {several(len(runs), 'run')} in the hands of other processes")

    def _place(self, run: Path) -> str:
        return f"{self.places[run]}/{len(self.runs)}"

    def _time_left(self, run: Path, progress: Progress) -> str:
        """The time left, as text: for all runs, once one was trained here; else for the last run.

        Until one was trained, nothing tells how long the others take to compile, and how their time
        grows with their layers; so there is no text, except for the last run, by its own speed.
        """
        now, rest = time.monotonic(), 1 - progress.step / progress.steps
        later = sum(self.weights[other] for other in self.runs[self.places[run] :])
        if self.trained_weight:
            remaining = self.weights[run] * rest
            done = self.trained_weight + self.weights[run] - remaining
            seconds = (now - self.began) * (remaining + later) / done
        elif not later and run in self.first:
            since, step = self.first[run]
            if progress.step == step:
                return ""
            seconds = (now - since) * (progress.steps - progress.step) / (progress.step - step)
        else:
            return ""
        return f", {clock(seconds)} left"


def _doing(progress: Progress) -> str:
    if progress.phase == "compiling":
        return "compiling"
    loss = "" if progress.loss is None else f" loss {progress.loss:.3f}"
    return f"epoch {_epochs(progress.epoch, progress.epochs)}{loss}"


def _epochs(passed: float, whole: float) -> str:
    """Formats epochs, such as "1.5/15"; the second number has a decimal unless it is whole."""
    text = f"{whole:.1f}"
    return f"{passed:.1f}/{text.removesuffix('.0') if whole >= 1 else text}"


def _ending(outcome: Outcome) -> str:
    if outcome.error:
        return f"failed: {shortened(outcome.error)}"
    summary = outcome.summary
    errors = _errors(summary.train_error, summary.test_error)
    return errors + (", done before" if outcome.skipped else f", {summary.in_all:.1f} s in all")


def _ended(status: Status) -> str:
    if status.state == FAILED:
        return f"failed: {shortened(status.why)}"
    return f"{_errors(status.train_error, status.test_error)}, {status.seconds:.1f} s in all"


def _errors(train: float | None, test: float | None) -> str:
    return f"error: train {_percent(train)}, test {_percent(test)}"


class Watch(Screen):
    """Shows a board until its runs have ended: rows in a terminal, a line now and then elsewhere.

    It writes to stderr, or to stdout if that is asked for, where the rows stay at the end.
    """

    def __init__(self, board: Board, to_stdout: bool = False):
        self.board = board
        file = sys.stdout if to_stdout else sys.stderr
        console = Console(file=file, highlight=False, markup=False)
        super().__init__(console, board, transient=not to_stdout)
        self.last, self.looked = "", time.monotonic()
        self.board.look()  # what has ended before is no news

    def finished(self, outcome: Outcome) -> None:
        """Prints how a run ended."""
        self.say(f"{outcome.directory.name}: {_ending(outcome)}")

    def tell(self) -> None:
        """Prints which runs have ended and how far the others are, unless the board shows it."""
        if self.live or time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        before, statuses = dict(self.board.ended), self.board.look()
        self.looked = time.monotonic()
        for place, status in enumerate(statuses, start=1):
            if status.directory in self.board.ended.keys() - before.keys():
                self.told = self.looked
                self.say(f"{place}/{len(statuses)} {status.directory.name}: {_ended(status)}")
        if not self.is_due():
            return
        line = self.board.line(statuses)
        if line != self.last:
            self.say(line)
        self.last = line
