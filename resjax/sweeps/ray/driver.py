"""The driver of the Ray launcher: starts the runs of a grid as tasks wherever there is room.

Ray says where a run trains and that a process or a node is gone. What is done, who is at work and
where to go on is in the directories of the runs, which are on storage that all nodes see: a driver
that is started again reads it there, and so do drivers and local launchers beside it.
"""

import os
import time
from collections.abc import Mapping
from importlib.util import decode_source
from pathlib import Path
from typing import Any, Protocol

import ray
from ml_collections import ConfigDict
from ray import exceptions

from resjax.buckets.faults import Unanswered
from resjax.config import ConfigError, flatten, type_and_message
from resjax.config.addresses import Address
from resjax.interruption import deferred
from resjax.runs import claims, planned, rundir, sync
from resjax.runs.claims import SECONDS_BETWEEN_RENEWALS
from resjax.runs.room import NoRoom
from resjax.runs.summary import Outcome, read_summary
from resjax.sweeps import local
from resjax.sweeps.ray.cluster import is_offered, needs, refuse_unoffered, task
from resjax.sweeps.ray.worker import HostLost, WorkerSettings, check_there, run_there

POLL = 0.2
"""Seconds between two checks of the tasks."""

SECONDS_FOR_A_NODE = 300.0
"""Maximum seconds to wait for a node, if no remaining one has what a run needs."""

SECONDS_TO_LEAVE = 60.0
"""Maximum seconds for runs that were asked to end to save their state."""


class ClusterObserver(Protocol):
    """An observer of a sweep on a cluster, called during the work."""

    def tell(self) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


def run_on_cluster(
    runs: Mapping[Path, ConfigDict],
    observer: ClusterObserver,
    retry: bool = False,
    platform: str | None = None,
    experiment: Path | None = None,
    address: Address | None = None,
) -> list[Outcome]:
    """Trains the runs that have not ended on the cluster that this process is connected to.

    A run whose process or node dies is started again, `resources.retries` times, and goes on from
    its last checkpoint; one that fails is recorded and the others continue. If this process is
    asked to end, it has the runs save their state first.

    Args:
      runs: {absolute directory: config}.
      observer: called a few times a second, and with each outcome.
      retry: resumes runs that failed before.
      platform: platform that JAX must see on the nodes.
      experiment: file that defines the runs; the nodes need not see it.
      address: where the runs are uploaded to, if anywhere; every node has a directory of its own.

    Raises:
      ConfigError: if a run is refused, or no node has what it needs.
      NoRoom: if the disk is full, or the quota used up.
      KeyboardInterrupt: if this process was asked to end.
    """
    text = (experiment, decode_source(experiment.read_bytes())) if experiment else None
    settings = WorkerSettings(os.getcwd(), platform, text, address)
    with deferred() as request:
        request.patience = 1e6  # that of the runs is what counts
        work = _Work(runs, settings, observer)
        try:
            work.check()
            if retry:
                local.forget_failures(runs)
            planned.record(runs, lambda: work.amounts)
            while len(work.outcomes) < len(runs):
                if request():
                    raise KeyboardInterrupt
                work.advance()
        finally:
            work.leave()
        work.refresh()
    return [work.outcomes[directory] for directory in runs]


class _Work:
    """The runs of a sweep, between a driver and its tasks."""

    def __init__(
        self, runs: Mapping[Path, ConfigDict], settings: WorkerSettings, observer: ClusterObserver
    ):
        self.runs, self.settings, self.observer = runs, settings, observer
        self.amounts: dict[Path, float] = {}  # multiply-adds of each run, known once it is checked
        self.outcomes: dict[Path, Outcome] = {}
        self.tasks: dict[ray.ObjectRef, Path] = {}
        self.deaths = dict.fromkeys(runs, 0)
        self.looked, self.refreshed = float("-inf"), float("-inf")
        self.offered = time.monotonic()

    def check(self) -> None:
        """Refuses a grid that contains an invalid run, before any is trained.

        Raises:
          ConfigError: for the first run that is wrong, or has no node.
        """
        for config in self.runs.values():
            if config.train.side_by_side > 1:
                raise ConfigError(
                    f"train.side_by_side={config.train.side_by_side} has no effect, Ray runs every "
                    "run in a process of its own; set it to 0, or use --launcher=local"
                )
        groups: dict[tuple, dict[Path, ConfigDict]] = {}
        for directory, config in self.runs.items():
            groups.setdefault(tuple(needs(config).items()), {})[directory] = config
        for group in groups.values():
            refuse_unoffered(next(iter(group.values())))
        for parent in {directory.parent for directory in self.runs}:
            rundir.make_directory(parent)
        for group in groups.values():
            first = next(iter(group.values()))
            flat = {directory: flatten(config) for directory, config in group.items()}
            started = task(check_there, needs(first)).remote(self.settings, flat)
            self.tasks[started] = next(iter(group))
        while self.tasks:
            for reference in self._ended():
                self.amounts |= self._get(reference)

    def advance(self) -> None:
        """Starts runs that no process trains, and collects the outcomes of finished tasks."""
        if time.monotonic() - self.looked > local.SECONDS_TO_LOOK_AGAIN:
            self._look()
            self.looked = time.monotonic()
        for reference, directory in self._ended().items():
            try:
                outcome = self._get(reference)
            except (exceptions.RayError, HostLost) as error:
                outcome = self._after_death(directory, error)
            if outcome:
                self._end(outcome)

    def leave(self) -> None:
        """Asks the runs in progress to save their state, and waits for them."""
        for reference in self.tasks:
            ray.cancel(reference)
        if self.tasks:
            ray.wait(
                list(self.tasks), num_returns=len(self.tasks), timeout=SECONDS_TO_LEAVE,
                fetch_local=False,
            )  # fmt: skip
        self.tasks.clear()

    def _look(self) -> None:
        """Starts all runs that no process trains, and collects the outcomes of those that ended."""
        if time.monotonic() - self.refreshed > SECONDS_BETWEEN_RENEWALS:  # of claims in a bucket
            self.refresh()
            self.refreshed = time.monotonic()
        at_work = set(self.tasks.values())
        for directory, config in self.runs.items():
            if directory in self.outcomes or directory in at_work:
                continue
            state, reason = local.state_and_reason(directory)
            if state == rundir.DONE:
                self._end(Outcome(directory, read_summary(directory), skipped=True))
            elif state == rundir.FAILED:
                self._end(local.failed_before(directory, reason))
            elif state != local.RUNNING:
                started = task(run_there, needs(config)).remote(
                    self.settings, directory, flatten(config)
                )
                self.tasks[started] = directory
        if not self.tasks or any(is_offered(needs(self.runs[run])) for run in at_work):
            self.offered = time.monotonic()
        elif time.monotonic() - self.offered > SECONDS_FOR_A_NODE:
            refuse_unoffered(self.runs[next(iter(self.tasks.values()))])

    def refresh(self) -> None:
        """Reads in the bucket, if there is one, what changed of all runs not known to be done."""
        sync.try_to_refresh(run for run in self.runs if rundir.run_state(run) != rundir.DONE)

    def _ended(self) -> dict[ray.ObjectRef, Path]:
        """Waits a moment, and returns the tasks that have ended since the last check."""
        self.observer.tell()
        if not self.tasks:
            time.sleep(POLL)
            return {}
        waiting = list(self.tasks)
        ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=POLL, fetch_local=False)
        return {reference: self.tasks.pop(reference) for reference in ended}

    def _get(self, reference: ray.ObjectRef) -> Any:
        """Returns what a task has returned."""
        try:
            return ray.get(reference)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, HostLost | Unanswered):
                raise HostLost(str(cause)) from None
            if isinstance(cause, ConfigError):
                raise ConfigError(str(cause)) from None
            if isinstance(cause, NoRoom):
                raise cause from None
            raise ConfigError(
                f"a worker cannot run resjax: {type_and_message(cause)}; install resjax and what "
                "it requires on all nodes, as here"
            ) from error
        except exceptions.RuntimeEnvSetupError as error:
            raise ConfigError(
                f"resjax cannot reach the workers: {type_and_message(error)}"
            ) from None

    def _after_death(self, directory: Path, error: Exception) -> Outcome | None:
        """The outcome of a run whose process died; None if it is tried again."""
        self.deaths[directory] += 1
        retries = self.runs[directory].resources.retries
        if self.deaths[directory] <= retries:
            return None
        times = self.deaths[directory]
        reason = (
            f"its process died {times} time{'s' * (times > 1)} ({type(error).__name__}), more "
            f"often than resources.retries={retries} allows"
        )
        if rundir.run_state(directory) == rundir.UNFINISHED and not claims.owner(directory):
            sync.record_failure(directory, f"{reason}\n\n{error}\n")
        return Outcome(directory, None, reason)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.directory] = outcome
        self.observer.finished(outcome)
