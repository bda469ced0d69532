"""The local launcher: the runs of a grid one after another in this process."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ml_collections import ConfigDict

from resjax.training import hosts, rundir
from resjax.training.loop import Diverged, train_and_evaluate
from resjax.training.plan import prepare
from resjax.training.summary import Progress, Summary, read_summary


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended: a summary, or the error that stopped it.

    `skipped` is true if it had ended before this sweep.
    """

    directory: Path
    summary: Summary | None
    error: str | None = None
    skipped: bool = False


class Observer(Protocol):
    """What a sweep tells while it works; a run is named by its directory."""

    def started(self, directory: Path) -> None: ...

    def progressed(self, directory: Path, progress: Progress) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


def check(runs: Mapping[Path, ConfigDict]) -> None:
    """Refuses a grid in which a run cannot be run, before the first is; {directory: config}.

    Raises:
      ConfigError: for the first run that is wrong, or whose directory is taken or out of reach.
    """
    for config in runs.values():
        prepare(config)
    hosts.on_first(lambda: _check_directories(runs))


def _check_directories(runs: Mapping[Path, ConfigDict]) -> None:
    for directory, config in runs.items():
        rundir.refuse_other_config(directory, config)
        if rundir.run_state(directory) == rundir.DONE:
            read_summary(directory)
    for parent in {directory.parent for directory in runs}:
        rundir.make_directory(parent)


def run_sweep(runs: Mapping[Path, ConfigDict], observer: Observer) -> list[Outcome]:
    """Trains what has not ended yet; a run that diverges is recorded and the rest go on.

    A run that diverged before would do so again, and is not repeated until its directory is
    removed.

    Args:
      runs: {directory: config}, as accepted by `check`.
      observer: is told of everything.
    """
    return [_run(directory, config, observer) for directory, config in runs.items()]


def _run(directory: Path, config: ConfigDict, observer: Observer) -> Outcome:
    state, reason = hosts.on_first(lambda: _before(directory))
    if state == rundir.FAILED:
        outcome = Outcome(directory, None, f"{reason}; remove {directory} to try again", True)
    else:
        if state != rundir.DONE:
            observer.started(directory)
        try:
            summary = train_and_evaluate(
                config, directory, lambda progress: observer.progressed(directory, progress)
            )
            outcome = Outcome(directory, summary, skipped=state == rundir.DONE)
        except Diverged as error:
            outcome = Outcome(directory, None, str(error))
    observer.finished(outcome)
    return outcome


def _before(directory: Path) -> tuple[str, str]:
    """The state of a run, and the reason if it failed."""
    state = rundir.run_state(directory)
    failed = state == rundir.FAILED
    error = (directory / "error.txt").read_text(encoding="utf-8").strip() if failed else ""
    return state, error
