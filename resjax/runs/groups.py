"""Groups of runs that are trained side by side in one program, as they differ in their seed alone.

A run that was begun in a group goes on in that group, on whose program its bits depend. The lanes
of runs that have ended, or that another process trains, are computed along.
"""

from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from resjax.config import ConfigError
from resjax.runs import checkpoint, disk, rundir
from resjax.training.lanes import Lanes
from resjax.training.plan import Plan
from resjax.training.plans import Plans, kind_of

Runs = dict[Path, ConfigDict]


def begun_with(directory: Path) -> tuple[int, ...] | None:
    """Seeds of the program in which a run was begun, its own among them; None if it was not begun.

    If the manifest is damaged, a checkpoint tells them.

    Raises:
      ConfigError: if the config of the run is damaged.
    """
    if rundir.run_state(directory) == rundir.ABSENT:
        return None
    seed = rundir.read_config(directory)["seed"]
    try:
        execution = disk.read_json(directory / "manifest.json").get("execution", {})
    except ConfigError:
        _, facts, _ = checkpoint.newest(directory)
        if facts is None:
            return None
        execution = facts.execution
    return tuple(execution.get("side_by_side") or (seed,))


def groups_of(runs: Mapping[Path, ConfigDict], plans: Plans | None = None) -> list[Runs]:
    """Groups the runs that are trained together, each in one group, ordered by their first runs."""
    plans = plans or Plans()
    kinds: dict[str, Runs] = {}
    for directory, config in runs.items():
        kinds.setdefault(kind_of(config), {})[directory] = config
    groups = [group for alike in kinds.values() for group in _divided(alike, plans)]
    order = {directory: number for number, directory in enumerate(runs)}
    return sorted(groups, key=lambda group: order[next(iter(group))])


def _divided(alike: Runs, plans: Plans) -> list[Runs]:
    """Divides runs of one kind into groups: those in which they were begun, and new ones."""
    if len(alike) == 1 or (plan := plans.of(next(iter(alike.values())))).alone:
        return [{directory: config} for directory, config in alike.items()]
    ended = (rundir.DONE, rundir.FAILED)
    begun = {run: begun_with(run) for run in alike if rundir.run_state(run) not in ended}
    groups: dict[tuple[int, ...], Runs] = {seeds: {} for seeds in begun.values() if seeds}
    single, fresh = [], {}
    for directory, config in alike.items():
        if directory not in begun:
            single.append({directory: config})
        elif lanes := begun[directory] or next((g for g in groups if config.seed in g), None):
            groups[lanes][directory] = config
        else:
            fresh[directory] = config
    new = [
        dict(list(fresh.items())[start : start + plan.side_by_side])
        for start in range(0, len(fresh), plan.side_by_side)
    ]
    return [*single, *groups.values(), *new]


def lanes_of(plan: Plan, runs: Mapping[Path, ConfigDict]) -> Lanes:
    """The lanes of the program that trains the runs of one group."""
    begun = [] if plan.alone else [seeds for run in runs if (seeds := begun_with(run))]
    return Lanes(begun[0] if begun else tuple(config.seed for config in runs.values()))


def has_lane(lanes: Lanes, directory: Path, config: ConfigDict) -> bool:
    """Tells whether a run has a lane; another process may have begun it in another group."""
    return config.seed in lanes.seeds and begun_with(directory) in (None, lanes.seeds)
