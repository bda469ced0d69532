"""A sweep from Python, in a notebook or a script: one call trains what is missing, and reports."""

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.buckets.places import reading
from resjax.cli.terminal.board import Board
from resjax.cli.terminal.lines import shortened
from resjax.cli.terminal.live import Display, full_name
from resjax.config.paths import place
from resjax.config.text import several
from resjax.process import enable_cache, set_up
from resjax.report.report import Report, write_report
from resjax.runs.claims import claimed
from resjax.runs.needed import REPORT
from resjax.runs.planned import planned_work
from resjax.runs.plans import Plans
from resjax.runs.scratch import workplace
from resjax.runs.summary import Outcome, Progress
from resjax.sweeps.grid import experiment_runs
from resjax.sweeps.local import Observer, check, run_sweep

SECONDS_BETWEEN_LINES = 1.0
"""Minimum seconds between two checks of all runs."""


def sweep(
    reference: str,
    workdir: Path | str,
    axes: str | None = None,
    seeds: int | None = None,
    added: Iterable[str] = (),
    only: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
    retry: bool = False,
) -> Report:
    """Trains the runs of an experiment that are not done, one after another, and reports on all.

    A line under the cell of a notebook, or a board on the terminal, says how far they are. When it
    is called again, what is done is not trained again, and what was interrupted goes on where it
    was. The report has a `table` of pandas and `verdicts`.

    Args:
      reference: `FILE` or `FILE:ARG` of the experiment.
      workdir: directory of the sweep, or an address in a bucket.
      axes: axes of the experiment to multiply, such as "depth,shortcut"; all by default.
      seeds: trains every network with seeds 0 to seeds - 1.
      added: further axes, such as "train.batch_size=32,64".
      only: filters of the runs, such as "depth=8,56"; see `resjax.sweeps.grid.experiment_runs`.
      settings: {dotted key: value} in place of what the experiment says.
      retry: resumes runs that failed before.

    Raises:
      ConfigError: before anything is trained, if a run cannot be trained; at the end if none is
        done, or another process is writing the report just then.
      KeyboardInterrupt: if the kernel is interrupted; the state is saved.
    """
    set_up()
    where = place(workdir)
    directory = workplace(where)
    runs = experiment_runs(reference, directory, axes, seeds, added, only, settings)
    plans = Plans()
    check(runs, plans)
    enable_cache()
    with _watching(runs) as observer:
        run_sweep(runs, observer, retry, plans)
    with reading(where, REPORT) as there, claimed(there.directory):
        report = write_report(there.directory)
        there.upload("report", last="report/index.html", alone=True)
        return report


def _watching(runs: Mapping[Path, ConfigDict]) -> AbstractContextManager[Observer]:
    """Makes the observer that displays a sweep in this kind of program."""
    return nullcontext(Line(runs)) if "ipykernel" in sys.modules else Display(runs)


class Line:
    """Shows the progress of the runs and their failures in one line below a cell.

    An observer of `resjax.sweeps.local.run_sweep`.
    """

    def __init__(self, runs: Mapping[Path, ConfigDict]):
        from IPython.display import DisplayHandle  # every notebook has it

        self.board = Board(lambda: planned_work(runs))
        self.failures: list[str] = []
        self.handle, self.last_shown = DisplayHandle(), 0.0
        self.handle.display(self._text(), raw=True)

    def started(self, run: Path) -> None:
        self._tell()

    def progressed(self, run: Path, progress: Progress) -> None:
        if time.monotonic() - self.last_shown > SECONDS_BETWEEN_LINES:
            self._tell()

    def finished(self, outcome: Outcome) -> None:
        if outcome.error:
            name = full_name(outcome.directory, self.board.apart)
            self.failures.append(shortened(f"{name} failed: {outcome.error}"))
        self._tell()

    def waiting(self, runs: list[Path]) -> None:
        self._tell()

    def _tell(self) -> None:
        self.last_shown = time.monotonic()
        self.handle.update(self._text(), raw=True)

    def _text(self) -> dict[str, str]:
        statuses = self.board.look()
        lines = [f"{several(len(statuses), 'run')}: {self.board.line(statuses)}", *self.failures]
        return {"text/plain": "\n".join(lines)}
