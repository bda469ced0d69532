"""A whole run, or several side by side, from configs and directories to results."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax import process
from resjax.config import flatten, use_own_values
from resjax.config.paths import place
from resjax.interruption import deferred
from resjax.runs import checkpoint, groups, rundir
from resjax.runs.claims import Claim, Claimed
from resjax.runs.landing import at_work, refresh, workplace
from resjax.runs.loop import Training
from resjax.runs.manifest import versions
from resjax.runs.member import Diverged, Member
from resjax.runs.summary import Progress, Summary, read_summary
from resjax.training import hosts
from resjax.training.plans import Plans

Ending = Summary | Diverged | Claimed
"""Outcome of a run: its result, why it failed, or that another process runs it."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path | str,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Trains one network and evaluates it, or reads the result of the run that did.

    A run that was interrupted, in whatever way and however often, goes on from its last checkpoint
    and ends with the same bits as one that was not. If a signal asks it to end, it saves its state
    and leaves.

    Args:
      config: config of the run, as made by `default_config`.
      workdir: directory of this run; made if it does not exist. Or an address in a bucket.
      observe: called with the progress a few times a second.

    Raises:
      ConfigError: before anything is written, if the config is wrong, `workdir` is another run's,
        or its data have changed since the run began.
      Claimed: if another process runs in `workdir`; a ConfigError.
      Diverged: if the training loss stops being finite; the directory then says so.
      Interrupted: if the run has left because it was asked to; a KeyboardInterrupt.
      NoRoom: if the disk is full, or the quota used up; the checkpoints until then are kept.
    """
    process.set_up()
    directory = Path(hosts.on_first(lambda: str(workplace(place(workdir)))))
    hosts.on_first(lambda: refresh([directory]))
    outcomes = train_side_by_side({directory: config}, lambda _, progress: observe(progress))
    if isinstance(outcomes[directory], Summary):
        return outcomes[directory]
    raise outcomes[directory]


def train_side_by_side(
    runs: Mapping[Path, ConfigDict],
    observe: Callable[[Path, Progress], None],
    plans: Plans | None = None,
) -> dict[Path, Ending]:
    """Trains runs that differ in their seed alone in one program; see `train_and_evaluate`.

    Each has its own files, as if it were alone, and the others go on if one diverges.

    Args:
      runs: {directory: config}, one group of `resjax.runs.groups.groups_of`.
      observe: called with the directory and the progress of each run.
      plans: those that are made already.

    Returns:
      {directory: ending}, without the runs that cannot go on with the others because their
      checkpoints are of other steps.
    """
    if not runs:
        return {}
    for config in runs.values():
        use_own_values(config)
    process.set_up()
    first = next(iter(runs.values()))
    hosts.refuse_different(flatten(first) | versions())
    plan, outcomes = (plans or Plans()).of(first), {}
    with ExitStack() as until_it_ends:
        claims: dict[Path, Claim] = {}
        for directory, config in runs.items():
            begin = functools.partial(_begin, directory, config, until_it_ends, claims)
            begun = hosts.on_first(begin)
            if "claimed" in begun:
                outcomes[directory] = Claimed(begun["claimed"])
            elif "done" in begun:
                outcomes[directory] = Summary(**begun["done"])
        ours = {directory: runs[directory] for directory in runs if directory not in outcomes}
        if not ours:
            return outcomes
        lanes = groups.lanes_of(plan, ours)
        members = [
            Member(
                dataclasses.replace(plan, config=config, lanes=lanes),
                directory,
                functools.partial(observe, directory),
                claims.get(directory),
            )
            for directory, config in ours.items()
            if not lanes.several or groups.has_lane(lanes, directory, config)
        ]
        request = until_it_ends.enter_context(deferred())
        summaries = Training(dataclasses.replace(plan, lanes=lanes), members, request).execute()
        for directory, summary in summaries.items():
            if hosts.is_first():
                rundir.write_result(directory, summary.recorded())
                (directory / "progress.json").unlink(missing_ok=True)
    outcomes |= summaries
    outcomes |= {member.directory: member.failure for member in members if member.failure}
    return {directory: outcomes[directory] for directory in runs if directory in outcomes}


def _begin(
    directory: Path, config: ConfigDict, until_it_ends: ExitStack, claims: dict[Path, Claim]
) -> dict[str, Any]:
    """Makes a directory that of the run, and claims it.

    Returns:
      A dict for all hosts: {"done": the result} if the run is done already, {"claimed": by whom} if
      another process runs it, or {}.
    """
    rundir.refuse_other_config(directory, config)
    if rundir.run_state(directory) != rundir.DONE:
        rundir.make_directory(directory)
        try:
            claims[directory] = until_it_ends.enter_context(at_work(directory))
        except Claimed as error:
            return {"claimed": str(error)}
    if rundir.run_state(directory) == rundir.DONE:  # also by the process that had the lock before
        return {"done": read_summary(directory).recorded()}
    rundir.begin_run(directory, config)
    checkpoint.remove_partial(directory)
    return {}
