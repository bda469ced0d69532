"""The local launcher: trains the runs of a grid in this process, one by one or seeds together.

Any number of processes may be given the same grid, on all machines that share its storage: each
takes what nobody else is running, and none ends before all runs have.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import jax
import numpy as np
from ml_collections import ConfigDict

from resjax.config import ConfigError, flatten
from resjax.config.keys import KEYS
from resjax.probes.measure import refuse_broken_probes
from resjax.runs import claims, planned, rundir, scratch, sync
from resjax.runs.claims import SECONDS_BETWEEN_RENEWALS, Claimed
from resjax.runs.estimate import total_work
from resjax.runs.plans import Plans, kind_of
from resjax.runs.summary import Outcome, Progress, Summary, read_summary
from resjax.runs.together import groups_of, train_side_by_side
from resjax.sweeps.experiment import as_refusal, with_place
from resjax.training import hosts
from resjax.training.plan import Plan

RUNNING = "running"

SECONDS_TO_LOOK_AGAIN = 2.0
"""Seconds between checks of runs that other processes train, when no others are left."""


class Observer(Protocol):
    """An observer of a sweep, called during the work; runs are named by their directories."""

    def started(self, directory: Path) -> None: ...

    def progressed(self, directory: Path, progress: Progress) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...

    def waiting(self, directories: list[Path]) -> None: ...


def check(runs: Mapping[Path, ConfigDict], plans: Plans | None = None) -> None:
    """Refuses a grid {directory: config} that contains an invalid run, before any is trained.

    Raises:
      ConfigError: for the first run that is wrong, or whose directory is taken or out of reach.
    """
    plans, seen = plans or Plans(), set()
    for config in runs.values():
        # Runs that differ in their seed alone are right or wrong together.
        kind = kind_of(config)
        if kind not in seen:
            _refuse_broken_parts(plans.of(config))
            seen.add(kind)
    hosts.on_first(lambda: sync.refresh(runs))
    hosts.on_first(lambda: _check_directories(runs))


def _refuse_broken_parts(plan: Plan) -> None:
    """Raises ConfigError if parts that an experiment defines make no network, or no loss."""
    if not (parts := KEYS.parts(flatten(plan.config))):
        return
    with as_refusal(", ".join(parts), with_place):
        plan.sizes, plan.rates  # noqa: B018 - they are computed
        refuse_broken_probes(plan)
        logits = jax.ShapeDtypeStruct((4, plan.model.classes), np.float32)
        labels = jax.ShapeDtypeStruct((4,), np.int32)
        shape = jax.eval_shape(plan.loss, logits, labels).shape
        if shape != (4,):
            raise ConfigError(
                f"train.loss={plan.config.train.loss} gives 4 examples losses of shape {shape}; "
                "return one for each, of shape (4,)"
            )


def _check_directories(runs: Mapping[Path, ConfigDict]) -> None:
    for directory, config in runs.items():
        rundir.refuse_other_config(directory, config)
        if rundir.run_state(directory) == rundir.DONE:
            read_summary(directory)
    for parent in {directory.parent for directory in runs}:
        rundir.make_directory(parent)


def run_sweep(
    runs: Mapping[Path, ConfigDict],
    observer: Observer,
    retry: bool = False,
    plans: Plans | None = None,
) -> list[Outcome]:
    """Trains the runs that have not ended; one that fails is recorded, and the others continue.

    A run that failed before would most likely do so again, and is left alone without `retry`.

    Args:
      runs: {directory: config}, as accepted by `check`.
      observer: called when a run starts, progresses or ends, or is waited for.
      retry: resumes runs that failed before.
      plans: those that `check` made, which need not be made again.

    Raises:
      ConfigError: if a run is refused for a reason that `check` cannot see.
      NoRoom: if the disk is full, or the quota used up.
    """
    plans = plans or Plans()
    if retry:
        hosts.on_first(lambda: forget_failures(runs))
    hosts.on_first(lambda: planned.record(runs, lambda: total_work(runs, plans)))
    outcomes: dict[Path, Outcome] = {}
    in_bucket = any(map(scratch.address_of, runs))
    while waiting := [directory for directory in runs if directory not in outcomes]:
        hosts.on_first(lambda left=waiting: sync.try_to_refresh(left))
        for group in groups_of({run: runs[run] for run in waiting}, plans):
            for outcome in run_group(group, observer, plans):
                outcomes[outcome.directory] = outcome
                observer.finished(outcome)
        if all(directory not in outcomes for directory in waiting):
            observer.waiting(waiting)
            time.sleep(SECONDS_BETWEEN_RENEWALS if in_bucket else SECONDS_TO_LOOK_AGAIN)
    return [outcomes[directory] for directory in runs]


def forget_failures(runs: Iterable[Path]) -> None:
    """Marks failed runs as unfinished."""
    for directory in runs:
        if rundir.run_state(directory) == rundir.FAILED:
            sync.forget_failure(directory)


def run_one(directory: Path, config: ConfigDict, observer: Observer) -> Outcome | None:
    """Trains one run and returns its outcome; None if another process trains it."""
    hosts.on_first(lambda: sync.try_to_refresh([directory]))
    return next(iter(run_group({directory: config}, observer, Plans())), None)


def run_group(runs: Mapping[Path, ConfigDict], observer: Observer, plans: Plans) -> list[Outcome]:
    """Trains runs together in one program, and returns their outcomes.

    It leaves out runs that another process trains, and those that wait for the others to end.
    """
    ours, outcomes = {}, []
    for directory, config in runs.items():
        state, outcome = before(directory)
        if outcome:
            outcomes.append(outcome)
        elif state != RUNNING:
            ours[directory] = config
    for directory in ours:
        observer.started(directory)
    try:
        ended = train_side_by_side(ours, observer.progressed, plans)
    except Claimed:
        return outcomes
    for directory, end in ended.items():
        if isinstance(end, Summary):
            outcomes.append(Outcome(directory, end))
        elif not isinstance(end, Claimed):
            outcomes.append(Outcome(directory, None, str(end)))
    return outcomes


def failed_before(directory: Path, reason: str) -> Outcome:
    """The outcome of a run that failed earlier and is not retried."""
    return Outcome(directory, None, f"{reason}; --retry tries again", True)


def before(directory: Path) -> tuple[str, Outcome | None]:
    """The state of a run on all hosts, RUNNING if a process trains it, and any outcome."""
    state, reason = hosts.on_first(lambda: state_and_reason(directory))
    if state == rundir.DONE:
        result = hosts.on_first(lambda: read_summary(directory).recorded())
        return state, Outcome(directory, Summary(**result), skipped=True)
    if state == rundir.FAILED:
        return state, failed_before(directory, reason)
    return state, None


def wait_for(directory: Path, observer: Observer) -> Outcome | None:
    """Waits while another process trains a run; returns the outcome if it has then ended."""
    while (now := before(directory))[0] == RUNNING:
        observer.waiting([directory])
        time.sleep(SECONDS_TO_LOOK_AGAIN)
        hosts.on_first(lambda: sync.try_to_refresh([directory]))
    return now[1]


def state_and_reason(directory: Path) -> tuple[str, str]:
    """The state of a run, RUNNING if a process trains it, and the reason if it failed."""
    state = rundir.run_state(directory)
    if state in (rundir.DONE, rundir.ABSENT):
        return state, ""
    if claims.owner(directory):
        return RUNNING, ""
    if state == rundir.FAILED:
        return state, rundir.read_failure(directory).partition("\n")[0]
    return state, ""
