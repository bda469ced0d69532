"""Runs that are trained side by side in one program, as they differ only in their seed."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from resjax.config import ConfigError
from resjax.models.resnet import ResNet
from resjax.runs import checkpoint, disk, files, rundir
from resjax.runs.checkpoint import Saved
from resjax.runs.divergence import Diverged
from resjax.runs.opening import OpenDirectory
from resjax.runs.position import Position
from resjax.runs.run import OpenRun
from resjax.runs.summary import Summary
from resjax.training.feeds import Feed
from resjax.training.metrics import Metrics
from resjax.training.plan import Plan
from resjax.training.seeds import FeedSideBySide, side_by_side, split_runs, stack_runs
from resjax.training.state import TrainState


def run_of(plan: Plan, opened: Sequence[OpenDirectory]) -> "OpenRun | RunGroup":
    """The run in a directory, or the group of runs in several, or in which a run was begun.

    A run without a place in the program of the others, as it was begun in another one, is left out.

    Args:
      plan: plan of one of them.
      opened: their directories.
    """
    directories = () if plan.alone else (each.directory for each in opened)
    begun = [seeds for directory in directories if (seeds := seeds_begun_with(directory))]
    seeds = begun[0] if begun else tuple(each.config.seed for each in opened)
    if len(seeds) > 1:
        plan = side_by_side(plan, seeds)
    else:
        plan = dataclasses.replace(plan, seed=np.uint32(seeds[0]))
    runs = [
        OpenRun(dataclasses.replace(plan, config=each.config), each)
        for each in opened
        if len(opened) == 1 or _has_place(seeds, each)
    ]
    return RunGroup(plan, runs) if len(seeds) > 1 else runs[0]


def _has_place(seeds: tuple[int, ...], opened: OpenDirectory) -> bool:
    """Tells whether a program has a place for a run, which may have been begun in another."""
    return opened.config.seed in seeds and seeds_begun_with(opened.directory) in (None, seeds)


def seeds_begun_with(directory: Path) -> tuple[int, ...] | None:
    """The seeds of the program in which a run was begun, including its own; None if it was not.

    If the manifest is damaged, a checkpoint tells them.

    Raises:
      ConfigError: if the config of the run is damaged.
    """
    if rundir.run_state(directory) == rundir.ABSENT:
        return None
    seed = rundir.read_config(directory)["seed"]
    try:
        execution = disk.read_json(directory / files.MANIFEST).get("execution", {})
    except ConfigError:
        _, facts, _ = checkpoint.newest(directory)
        if facts is None:
            return None
        execution = facts.execution
    return tuple(execution.get("side_by_side") or (seed,))


class RunGroup:
    """Runs that are trained side by side in one program; to the loop they are one run.

    All are at the same step. A seed without a run computes on a copy of another's state; the seed
    of a run that has failed keeps computing on whatever its state is by then.

    Args:
      plan: plan of the program.
      runs: runs of some of its seeds.
    """

    def __init__(self, plan: Plan, runs: list[OpenRun]):
        self.plan, self.runs, self.opened_runs = plan, runs, runs
        self.seeds: list[int] = np.atleast_1d(plan.seed).tolist()

    @property
    def at(self) -> Position:
        """The position of all runs."""
        return self.runs[0].at

    def _each(self, *trees: Any) -> Iterator[tuple[Any, ...]]:
        """Yields each run with its own parts of trees that have an axis of runs, on the host."""
        parts = [split_runs(tree, len(self.seeds)) for tree in trees]
        for run in self.runs:
            place = self.seeds.index(run.plan.config.seed)
            yield run, *(own[place] for own in parts)

    @contextmanager
    def opened(self) -> Iterator[Feed]:
        """Opens what the runs read and write, until the block ends; see `OpenRun.opened`."""
        with closing(FeedSideBySide(self.plan)) as feed, ExitStack() as stack:
            for run in self.opened_runs:
                stack.enter_context(run.opened(feed))
            yield feed

    def start(self, between: Callable[[], None]) -> TrainState:
        """Returns the state of all runs that can resume together; the others are left for later."""
        found = _of_one_step([run.checkpoints_found() for run in self.runs])
        for number, run in enumerate(self.runs):
            run.idle = number not in found
        self.runs = [self.runs[number] for number in found]
        if empty := len(self.seeds) - len(self.runs):
            self.runs[0].report_progress("compiling", _empty_places(empty, len(self.seeds)))
        states = {
            run.plan.config.seed: run.go_on_from(*saved) if saved else run.begin_anew()
            for run, saved in zip(self.runs, found.values(), strict=True)
        }
        for run in self.runs:
            run.begin(between)
        return self._stacked(states)

    def grow(self, state: TrainState) -> TrainState:
        """Grows each run's shallow network to the deep one."""
        each = self._each(state)
        return self._stacked({run.plan.config.seed: run.grow(own) for run, own in each})

    def _stacked(self, states: dict[int, TrainState]) -> TrainState:
        """Stacks the states by seed; a seed without a run gets the state of the first run."""
        first = next(iter(states.values()))
        return self.plan.parallel.whole(
            stack_runs([states.get(seed, first) for seed in self.seeds])
        )

    def at_step(self, step: int) -> None:
        """Records that `step` training steps have been taken."""
        for run in self.runs:
            run.at_step(step)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Counts the seconds spent in the block, an equal share for each run."""
        with ExitStack() as stack:
            for run in self.runs:
                stack.enter_context(run.timed(what, 1 / len(self.runs)))
            yield

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Counts the seconds until the first step; see `OpenRun.starting`."""
        with ExitStack() as stack:
            for run in self.runs:
                stack.enter_context(run.starting(1 / len(self.runs)))
            yield

    def report_progress(self, phase: str) -> None:
        """Reports the progress of each run."""
        for run in self.runs:
            run.report_progress(phase)

    def note(self, event: str, **more: Any) -> None:
        """Records an event of all runs."""
        for run in self.runs:
            run.note(event, **more)

    def look_at(self, metrics: Metrics) -> None:
        """Reads the metrics of each run, and drops those that have diverged."""
        self._left_by(OpenRun.look_at, metrics)

    def refuse_divergence(self, metrics: Metrics) -> None:
        """Drops the runs whose loss is not finite; raises Diverged if none is left."""
        self._left_by(OpenRun.refuse_divergence, metrics)

    def _left_by(self, look: Callable[[OpenRun, Metrics], None], metrics: Metrics) -> None:
        left = []
        for run, own in self._each(metrics):
            try:
                look(run, own)
                left.append(run)
            except Diverged:
                if not left and run is self.runs[-1]:
                    raise
        self.runs = left

    def failed_to_save(self) -> bool:
        """Tells whether a checkpoint that is being written has failed."""
        return any(run.failed_to_save() for run in self.runs)

    def save(self, state: TrainState) -> None:
        """Starts to write a checkpoint of each run."""
        for run, own in self._each(state):
            run.save(own)

    def wait(self) -> None:
        """Waits until the last checkpoints are written."""
        for run in self.runs:
            run.wait()

    def add_start(self, found: dict[str, np.ndarray]) -> None:
        """Adds the lines of the weights that the runs start from; see `OpenRun.add_start`."""
        for run, own in self._each(found):
            run.add_start(own)

    def probe(self, model: ResNet, state: TrainState) -> None:
        """Records the probes of the networks that were just evaluated."""
        for run, own in self._each(state):
            run.probe(model, own)

    def add_evaluation(self, found: dict[str, np.ndarray], state: TrainState) -> bool:
        """Records an evaluation; returns whether it is the best of a run so far."""
        improved = [run.add_evaluation(own, its) for run, own, its in self._each(found, state)]
        return any(improved)

    def write_line(self, state: TrainState) -> None:
        """Writes the lines of the last evaluation, which was of this state."""
        for run, own in self._each(state):
            run.write_line(own)

    def end(
        self, state: TrainState, variables: Any, compared: dict[str, dict[str, np.ndarray]]
    ) -> dict[Path, Summary]:
        """Writes everything except the results, which it returns; see `OpenRun.end`."""
        ended = [run.end(*own) for run, *own in self._each(state, variables, compared)]
        return {directory: result for one in ended for directory, result in one.items()}

    def write_results(self, summaries: dict[Path, Summary]) -> None:
        """Writes the results, one after another; each finishes its run, whatever comes after."""
        for run in self.runs:
            run.write_results(summaries)

    def working(self) -> list[Path]:
        """Returns the directories of the runs that are trained and have not ended."""
        return [run.directory for run in self.opened_runs if not run.idle]

    def endings(self) -> dict[Path, Summary | Diverged]:
        """Returns {directory: result or error} of the runs that have ended."""
        return {run.directory: run.ending for run in self.opened_runs if run.ending}


def _of_one_step(found: list[list[Saved]]) -> dict[int, Saved | None]:
    """Selects the runs that can resume together: {number of a run: its checkpoint}.

    These are the most runs that have a checkpoint of one step, or their start, which is None; if
    several steps have as many, the latest wins. As all runs save at the same steps, all can go on
    unless checkpoints were lost.
    """
    at: dict[tuple, dict[int, Saved | None]] = {}
    for number, checkpoints in enumerate(found):
        candidates: Sequence[Saved | None] = checkpoints or [None]
        for saved in candidates:
            place = (saved[1] if saved else Position.start()).place
            at.setdefault(place, {}).setdefault(number, saved)
    return at[max(at, key=lambda place: (len(at[place]), place))]


def _empty_places(empty: int, seeds: int) -> str:
    verb, them = ("is", "it") if empty == 1 else ("are", "them")
    return (
        f"{empty} of the {seeds} runs that were begun together {verb} not trained now, and "
        f"computed along for the sake of the bits; train.side_by_side=1 goes on without {them}"
    )
