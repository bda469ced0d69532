"""Screens: where commands show, while runs are trained, how far they are."""

import contextlib
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ml_collections import ConfigDict
from rich.console import Console
from rich.live import Live

from resjax.cli.terminal.board import SECONDS_BETWEEN_LOOKS, Board, epochs, percent, time_left
from resjax.cli.terminal.lines import plain_console, say, shortened
from resjax.cli.terminal.waits import FRAMES, shown_on
from resjax.config.naming import settings_of, told_apart
from resjax.config.text import clock, several
from resjax.interruption import cleared_at_the_end
from resjax.runs.planned import planned_work
from resjax.runs.rundir import DONE, FAILED, run_state
from resjax.runs.status import Status
from resjax.runs.summary import Outcome, Progress
from resjax.waits import waiting

SECONDS_BETWEEN_LINES = 10.0
"""Seconds between two lines about all runs where the output is not a terminal."""


class Screen:
    """A board that follows its runs in a terminal, and lines of text, there or elsewhere.

    It is a context manager. Without a board, or outside of a terminal, it prints lines alone.
    """

    def __init__(self, console: Console, board: Board | None):
        self.console = console
        self.live = None
        if board and console.is_terminal:
            self.live = Live(board, console=console, refresh_per_second=FRAMES, transient=True)
        self.drawn = contextlib.ExitStack()
        self.last_shown = time.monotonic()

    def __enter__(self) -> Self:
        self.drawn.enter_context(shown_on(self))
        if self.live:
            self.drawn.enter_context(self.live)
            self.drawn.enter_context(cleared_at_the_end(self.live.stop))
        return self

    def __exit__(self, *_: object) -> None:
        self.drawn.close()

    def say(self, line: str) -> None:
        """Prints a line, above the board if there is one."""
        say(line, console=self.console)

    def left(self) -> str:
        """The time until all runs have ended, as text; empty if it is unknown."""
        return ""

    def is_due(self) -> bool:
        """Tells whether a line about the progress is due; never if there is a board."""
        if self.live or time.monotonic() - self.last_shown < SECONDS_BETWEEN_LINES:
            return False
        self.last_shown = time.monotonic()
        return True


class Display(Screen):
    """Follows the runs of this process: rows in a terminal, occasional lines elsewhere.

    It is an observer of `resjax.sweeps.local.run_sweep`, and writes to stderr.
    """

    def __init__(self, runs: Mapping[Path, ConfigDict], silent: bool = False):
        self.runs = list(runs)
        self.apart = told_apart({run: settings_of(config) for run, config in runs.items()})
        self.places = {run: place for place, run in enumerate(self.runs, start=1)}
        self.ended = {run for run in self.runs if run_state(run) in (DONE, FAILED)}
        self.trained = 0.0  # work of the runs that were trained here
        self.first: dict[Path, tuple[float, int]] = {}  # when and at which step training was seen
        console = plain_console(stderr=True)
        console.quiet = silent
        super().__init__(console, None if silent else Board(lambda: planned_work(self.runs)))
        self.began = self.last_shown
        self.end: float | None = None  # when all runs should have ended
        self.starting = contextlib.ExitStack()

    def __exit__(self, *_: object) -> None:
        self.starting.close()
        super().__exit__()

    def started(self, run: Path) -> None:
        self.starting.close()
        self.starting.enter_context(waiting(self._named(run)))
        self.starting.enter_context(waiting("starting"))

    def progressed(self, run: Path, progress: Progress) -> None:
        if progress.note:
            self.say(f"{self._named(run)}: {progress.note}")
        if progress.phase != "compiling":
            self.starting.close()
        if progress.phase == "training":
            self.first.setdefault(run, (time.monotonic(), progress.step))
        if self.is_due():
            self._expect(run, progress.step, progress.steps)
            self.say(f"{self._named(run)}: {_doing(progress)}{self.left()}")

    def finished(self, outcome: Outcome) -> None:
        self.starting.close()
        self.last_shown = time.monotonic()
        if not outcome.skipped:
            self._expect(outcome.directory, 1, 1)
            self.trained += self._work[outcome.directory]
        self.say(f"{self._named(outcome.directory)}: {_ending(outcome)}")

    def left(self) -> str:
        return time_left(self.end)

    def waiting(self, runs: list[Path]) -> None:
        if self.is_due():
            self.say(f"waiting for {several(len(runs), 'run')} that other processes are training")

    @functools.cached_property
    def _work(self) -> dict[Path, float]:
        """The work of the runs, none of those that had ended; planned before the first begins."""
        work = planned_work(self.runs)
        return {run: 0.0 if run in self.ended else own for run, own in work.items()}

    def _named(self, run: Path) -> str:
        return f"{self.places[run]}/{len(self.runs)} {full_name(run, self.apart)}"

    def _expect(self, run: Path, step: int, steps: int) -> None:
        """Estimates the end of all runs, once one was trained here, or of the last run.

        Until one was trained, nothing tells how long the others take to compile, and how their time
        grows with their work; so nothing is expected, except of the last run, by its own speed.
        """
        now, share, begun = time.monotonic(), step / steps, self.first.get(run)
        later = sum(self._work[other] for other in self.runs[self.places[run] :])
        done = self.trained + self._work[run] * share
        if done and (self.trained or share == 1):
            left = self._work[run] * (1 - share) + later
            self.end = now + (now - self.began) * left / done
        elif not later and begun and step > begun[1]:
            self.end = now + (now - begun[0]) * (steps - step) / (step - begun[1])


def _compiling(statuses: list[Status]) -> str:
    """The runs that have been compiling for long, as text; empty if there are none."""
    slow = [s for s in statuses if s.compiling and s.compiling >= SECONDS_BETWEEN_LINES]
    times = (f"{status.directory.name} for {clock(status.compiling)}" for status in slow)
    return f" (compiling: {', '.join(times)})" if slow else ""


def full_name(run: Path, apart: Mapping[Path, Mapping[str, Any]]) -> str:
    """The name of a run, and what tells it apart from others of the same shortcut, depth, seed."""
    return " ".join([run.name, *(f"{key}={value}" for key, value in apart.get(run, {}).items())])


def _doing(progress: Progress) -> str:
    if progress.phase == "compiling":
        return "compiling"
    loss = "" if progress.loss is None else f" loss {progress.loss:.3f}"
    return f"epoch {epochs(progress.epoch, progress.epochs)}{loss}"


def _ending(outcome: Outcome) -> str:
    if outcome.error:
        return f"failed: {shortened(outcome.error)}"
    summary = outcome.summary
    errors = _errors(summary.train_error, summary.test_error)
    return errors + (", already done" if outcome.skipped else f", {summary.in_all:.1f} s in all")


def _ended(status: Status) -> str:
    if status.state == FAILED:
        return f"failed: {shortened(status.why)}"
    return f"{_errors(status.train_error, status.test_error)}, {status.seconds:.1f} s in all"


def _errors(train: float | None, test: float | None) -> str:
    return f"error: train {percent(train)} %, test {percent(test)} %"


class Watch(Screen):
    """Shows a board until its runs have ended: rows in a terminal, occasional lines elsewhere.

    It writes to stderr, or to stdout if that is asked for.
    """

    def __init__(self, board: Board, to_stdout: bool = False):
        self.board = board
        super().__init__(plain_console(stderr=not to_stdout), board)
        self.last, self.looked = "", time.monotonic()
        self.board.look()  # what has ended before is no news

    def finished(self, outcome: Outcome) -> None:
        """Prints how a run ended."""
        self.say(f"{full_name(outcome.directory, self.board.apart)}: {_ending(outcome)}")

    def tell(self) -> None:
        """Prints which runs have ended and how far the others are, unless the board shows it."""
        if self.live or time.monotonic() - self.looked < SECONDS_BETWEEN_LOOKS:
            return
        before, statuses = dict(self.board.ended), self.board.look()
        self.looked = time.monotonic()
        for place, status in enumerate(statuses, start=1):
            if status.directory in self.board.ended.keys() - before.keys():
                self.last_shown = self.looked
                name = full_name(status.directory, self.board.apart)
                self.say(f"{place}/{len(statuses)} {name}: {_ended(status)}")
        if not self.is_due():
            return
        line = self.board.line(statuses) + _compiling(statuses)
        if line != self.last:
            self.say(line)
        self.last = line
