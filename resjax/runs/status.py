"""Status of the runs of a sweep, from their directories alone."""

import dataclasses
import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from resjax.config import ConfigError
from resjax.runs import claims, disk, files, planned, rundir

WAITING, INTERRUPTED = "waiting", "interrupted"

ENDED = (rundir.DONE, rundir.FAILED, rundir.IMPORTED)


@dataclasses.dataclass(frozen=True)
class Status:
    """The status of a run, as seen from outside.

    Attributes:
      directory: directory of the run.
      state: waiting, compiling, training, evaluating, interrupted, done, failed, imported.
      step, steps: steps taken, and in all; None where that is not known.
      epoch, epochs: the same in passes over the training set.
      loss: mean loss of the latest training batches.
      compiling: seconds since it began to compile, if that is what it is at.
      seconds_left: seconds until its end, at its speed since it was last begun.
      resumed: number of times that it went on after an interruption.
      seconds: seconds that a run that is done has taken in all.
      train_error, test_error: errors of a run that is done, as fractions.
      why: why a run has failed, or what is not known of another.
      owner: process that is working on it.
    """

    directory: Path
    state: str
    step: int | None = None
    steps: int | None = None
    epoch: float | None = None
    epochs: float | None = None
    loss: float | None = None
    compiling: float | None = None
    seconds_left: float | None = None
    resumed: int = 0
    seconds: float | None = None
    train_error: float | None = None
    test_error: float | None = None
    why: str | None = None
    owner: str | None = None


def look(directory: Path) -> Status:
    """Reads the status of a run; a damaged file makes it failed, with the reason."""
    try:
        return _LOOKS[rundir.run_state(directory)](directory)
    except ConfigError as error:
        return Status(directory, rundir.FAILED, why=str(error))


def look_in(directory: Path) -> list[Status]:
    """Reads the statuses of all runs in a directory, also of those that are planned.

    Raises:
      ConfigError: if there is none.
    """
    return [look(run) for run in planned.work_in(directory)]


def at_work_on(statuses: Iterable[Status], plans: Iterable[Collection[Path]]) -> set[Path]:
    """The runs that processes train now or later: those at work, and all of the same plans."""
    trained = {status.directory for status in statuses if status.owner}
    return trained.union(*(plan for plan in plans if not trained.isdisjoint(plan)))


def in_a_queue(statuses: Iterable[Status], plans: Iterable[Collection[Path]]) -> set[Path]:
    """The runs that wait for their sweep to begin, or to go on once it has a machine.

    Nothing tells that from a sweep that was given up. But where a run was interrupted its process
    is gone, and nobody waits for that plan any more.
    """
    states = {status.directory: status.state for status in statuses}
    alive = [plan for plan in plans if INTERRUPTED not in {states.get(run) for run in plan}]
    return {run for plan in alive for run in plan if states.get(run) == WAITING}


def seconds_left(statuses: Iterable[Status], work: Mapping[Path, float]) -> float | None:
    """Seconds until all runs have ended, by their work; None if unknown or no run is in progress.

    The speed of a process shows in the runs that are done, and in those under way; several that it
    trains side by side add up. The processes at work now share what is left.

    Args:
      statuses: status of each run.
      work: {directory: work of the run}, as multiply-adds of its whole training.
    """
    statuses = list(statuses)
    speeds, left = [], 0.0
    at_work: dict[str, float] = {}  # the speed of each, as far as it is known
    for status in statuses:
        own = work[status.directory]
        if status.state in ENDED:
            if status.seconds:
                speeds.append(own / status.seconds)
            continue
        share = (status.step or 0) / status.steps if status.steps else 0.0
        left += own * (1 - share)
        if status.owner:
            speed = own * (1 - share) / status.seconds_left if status.seconds_left else 0.0
            at_work[status.owner] = at_work.get(status.owner, 0.0) + speed
    if not left:
        return 0.0
    speeds += filter(None, at_work.values())
    return left / statistics.median(speeds) / len(at_work) if speeds and at_work else None


def count_states(states: Iterable[str]) -> str:
    """Counts the runs in each state, such as "3 done, 1 training"."""
    return ", ".join(f"{number} {state}" for state, number in sorted(Counter(states).items()))


def _waiting(directory: Path) -> Status:
    rundir.refuse_no_config(directory)
    return Status(directory, WAITING)


def _done(directory: Path) -> Status:
    result = disk.read_json(directory / files.RESULT)
    return Status(
        directory,
        rundir.DONE,
        step=result.get("steps"),
        steps=result.get("steps"),
        seconds=sum(result.get("seconds", {}).values()),
        train_error=result.get("train_error"),
        test_error=result.get("test_error"),
    )


def _failed(directory: Path) -> Status:
    complaints = [rundir.read_failure(directory).partition("\n")[0]]
    progress = dict(_beside(directory / files.PROGRESS, disk.read_json, complaints))
    return Status(directory, rundir.FAILED, why="; ".join(complaints), **_shown(progress))


def _unfinished(directory: Path) -> Status:
    owner = claims.owner(directory)
    complaints: list[str] = []
    progress = dict(_beside(directory / files.PROGRESS, disk.read_json, complaints))
    events = _beside(directory / files.TIMING, disk.read_lines, complaints)
    resumed = max(0, sum(event["event"] == "begun" for event in events) - 1)
    return Status(
        directory,
        progress.get("phase", WAITING) if owner else INTERRUPTED,
        resumed=resumed,
        owner=owner,
        why="; ".join(complaints) or None,
        compiling=_compiling(progress) if owner else None,
        seconds_left=_left(progress) if owner else None,
        **_shown(progress),
    )


_LOOKS = {
    rundir.ABSENT: _waiting,
    rundir.DONE: _done,
    rundir.FAILED: _failed,
    rundir.UNFINISHED: _unfinished,
    rundir.IMPORTED: lambda directory: Status(directory, rundir.IMPORTED),
}


def _beside(
    path: Path, read: Callable[[Path], Iterable[Any]], complaints: list[str]
) -> Iterable[Any]:
    """Reads a file that does not determine a run's state; empty with a complaint if damaged."""
    try:
        return read(path)
    except ConfigError as error:
        if path.exists():
            complaints.append(str(error).partition("; ")[0])
        return []


def _shown(progress: Mapping[str, Any]) -> dict[str, Any]:
    return {key: progress.get(key) for key in ("step", "steps", "epoch", "epochs", "loss")}


def _compiling(progress: Mapping[str, Any]) -> float | None:
    """Seconds since compilation began, when its report was written."""
    if progress.get("phase") != "compiling" or "at" not in progress:
        return None
    return max(0.0, time.time() - progress["at"])


def _left(progress: Mapping[str, Any]) -> float | None:
    """The remaining seconds, at the speed since training began or was resumed."""
    if "begun_at" not in progress:  # a run that goes on, and still compiles
        return None
    taken = progress["step"] - progress["begun_step"]
    if taken <= 0:
        return None
    speed = (progress["at"] - progress["begun_at"]) / taken
    return max(0.0, speed * (progress["steps"] - progress["step"]) - (time.time() - progress["at"]))
