"""Groups of runs that are trained side by side in one program, as they differ only in their seed.

A run that was begun in a group goes on in that group, on whose program its bits depend. The places
of runs that have ended, or that another process trains, are computed along.
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from ml_collections import ConfigDict

from resjax.process import workers
from resjax.runs import rundir
from resjax.runs.claims import Claimed
from resjax.runs.crashes import Crashed, crashes_recorded
from resjax.runs.divergence import Diverged
from resjax.runs.group import run_of, seeds_begun_with
from resjax.runs.loop import fit, plan_of
from resjax.runs.opening import open_directory
from resjax.runs.plans import Plans, kind_of
from resjax.runs.summary import Progress, Summary

Runs = dict[Path, ConfigDict]

Ending = Summary | Diverged | Crashed | Claimed
"""Outcome of a run: its result, why it failed, or that another process runs it."""


def groups_of(runs: Mapping[Path, ConfigDict], plans: Plans | None = None) -> list[Runs]:
    """Groups the runs that are trained together, each in one group, ordered by their first runs.

    Unless a config says how many these are, every process that shares the runs has a group if there
    are as many runs, and the groups do not depend on which of them were begun.
    """
    plans = plans or Plans()
    kinds: dict[str, Runs] = {}
    for directory, config in runs.items():
        kinds.setdefault(kind_of(config), {})[directory] = config
    groups: list[Runs] = []
    for alike in kinds.values():
        least = math.ceil(workers() * len(alike) / len(runs))
        groups += _divided(alike, plans, least)
    order = {directory: number for number, directory in enumerate(runs)}
    return sorted(groups, key=lambda group: order[next(iter(group))])


def _divided(alike: Runs, plans: Plans, least: int) -> list[Runs]:
    """Divides runs of one kind into groups: those in which they were begun, and new ones.

    If the config leaves their number open, all runs of the kind are at least `least` groups.
    """
    if len(alike) == 1 or (plan := plans.of(next(iter(alike.values())))).alone:
        return [{directory: config} for directory, config in alike.items()]
    ended = (rundir.DONE, rundir.FAILED)
    begun = {run: seeds_begun_with(run) for run in alike if rundir.run_state(run) not in ended}
    groups: dict[tuple[int, ...], Runs] = {seeds: {} for seeds in begun.values() if seeds}
    single, fresh = [], {}
    for directory, config in alike.items():
        if directory not in begun:
            single.append({directory: config})
        elif seeds := begun[directory] or next((g for g in groups if config.seed in g), None):
            groups[seeds][directory] = config
        else:
            fresh[directory] = config
    if asked := plan.config.train.side_by_side:
        new = _parts(list(fresh), math.ceil(len(fresh) / asked), asked)
    else:
        number = max(math.ceil(len(alike) / plan.side_by_side), min(least, len(alike)))
        new = _parts(list(alike), number)
    divided = [{run: fresh[run] for run in part if run in fresh} for part in new]
    return [*single, *groups.values(), *filter(None, divided)]


def _parts(runs: list[Path], number: int, size: int | None = None) -> list[list[Path]]:
    """Divides runs into a number of parts of a size, or of sizes that differ by one at most."""
    ends = [n * size if size else round(n * len(runs) / number) for n in range(number + 1)]
    return [runs[start:end] for start, end in itertools.pairwise(ends)]


def train_side_by_side(
    runs: Mapping[Path, ConfigDict],
    observe: Callable[[Path, Progress], None],
    plans: Plans | None = None,
) -> dict[Path, Ending]:
    """Trains runs that differ only in their seed in one program; see `train_and_evaluate`.

    Each has its own files, as if it were alone, and the others go on if one diverges. An error of
    the program ends the runs that are in it by then.

    Args:
      runs: {directory: config}, one group of `groups_of`.
      observe: called with the directory and the progress of each run.
      plans: those that are made already.

    Returns:
      {directory: ending}, without the runs that cannot go on with the others because their
      checkpoints are of other steps, or they were begun with others meanwhile.
    """
    if not runs:
        return {}
    plan = plan_of(next(iter(runs.values())), plans or Plans())
    endings: dict[Path, Ending] = {}
    working = list(runs)
    try:
        with crashes_recorded(working) as observing, ExitStack() as stack:
            ours = []
            for directory, config in runs.items():
                progressed = observing(functools.partial(observe, directory))
                try:
                    opened = stack.enter_context(open_directory(directory, config, progressed))
                    ending: Ending | None = opened.result
                except Claimed as error:
                    ending = error
                if ending:
                    endings[directory] = ending
                    working.remove(directory)
                else:
                    ours.append(opened)
            if ours:
                run = run_of(plan, ours)
                try:
                    with suppress(Diverged):
                        fit(run)
                finally:
                    endings |= run.endings()
                    working[:] = run.working()
    except Crashed as error:
        endings |= dict.fromkeys(working, error)
    return {directory: endings[directory] for directory in runs if directory in endings}
