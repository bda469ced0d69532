"""Runs that are planned in a directory: which ones a sweep is going to train, and their work.

`planned/DIGEST.json` holds the plan of one sweep, {"runs": {name: weight}} in the order of its
grid, and is named by the digest of that. It is written before the first run begins, and never
changes. So all processes of a sweep, and the same command given again, mean one file; and sweeps
that share a directory or a bucket, from any number of machines, need no lock, as each has a file of
its own.

All plans are shown. None replaces another, since nothing tells whether the sweep of an older one
was given up, waits for a machine, or has just begun beside this one. So what was given up is
waiting until its plan is removed; `resjax status` says that where no process is at work. A sweep is
at work if a process trains one of its runs; the time that is left is of such sweeps alone.
"""

import contextlib
import statistics
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict

from resjax.buckets.faults import NotThere
from resjax.buckets.fetching import show_notice
from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.runs import disk, room, rundir, scratch

DIRECTORY = "planned"

FILES = f"{DIRECTORY}/*.json"
"""Pattern of the names of plans in the directory of a sweep."""


def weights_of(runs: Mapping[Path, ConfigDict]) -> dict[Path, float]:
    """The weights of runs {directory: config}: their work, for estimates of the remaining time.

    The time of a run grows with its layers; nothing better is known before it starts.
    """
    return {directory: config.model.depth for directory, config in runs.items()}


def record(runs: Mapping[Path, ConfigDict]) -> None:
    """Records the plan of a sweep {directory: config}, also in the bucket that it is uploaded to.

    Nothing is written if that plan is there, or all runs have ended.

    Raises:
      NoRoom: if the disk is full.
    """
    if all(rundir.run_state(run) in (rundir.DONE, rundir.FAILED) for run in runs):
        return
    weights = weights_of(runs)
    for above in {run.parent for run in runs}:
        plan = {"runs": {run.name: weights[run] for run in runs if run.parent == above}}
        path = above / DIRECTORY / f"{disk.sealed(plan)[disk.DIGEST]}.json"
        try:
            disk.read_json(path)
        except ConfigError:  # it is not there, or damaged
            with room.refused(path, "the plan of a sweep did not fit"):
                rundir.make_directory(path.parent)
                disk.write_json(path, plan)
        if (address := scratch.address_of(above)) is not None:
            _upload(Store(address / DIRECTORY, tell=show_notice), path)


def _upload(store: Store, path: Path) -> None:
    """Uploads a plan, unless it is in the bucket."""
    try:
        disk.opened(store.get(path.name)[0])
    except (NotThere, ValueError):
        store.put(path.name, path.read_bytes())


def plans_in(directory: Path) -> list[dict[Path, float]]:
    """The plans in a directory, {run: its weight} each; a damaged one is left out."""
    found = []
    for path in sorted(directory.glob(FILES)):
        with contextlib.suppress(ConfigError):  # its sweep writes it again
            runs = disk.read_json(path).get("runs", {})
            found.append({directory / name: weight for name, weight in runs.items()})
    return found


def planned_in(directory: Path) -> dict[Path, float]:
    """The weights of the runs that are planned in a directory, by any plan."""
    return {run: weight for plan in plans_in(directory) for run, weight in plan.items()}


def weights_in(directory: Path) -> dict[Path, float]:
    """The weights of all runs in a directory; one that is not planned has the median of the others.

    Those that are not planned come first, by name, and the others in the order of their grids.

    Raises:
      ConfigError: if there is none.
    """
    planned = planned_in(directory)
    try:
        begun = rundir.runs_in(directory)
    except ConfigError:
        if not planned:
            raise
        begun = []
    if begun == [directory]:
        planned = {}
    usual = statistics.median(planned.values()) if planned else 1.0
    return {run: usual for run in begun if run not in planned} | planned


def waiting_in(directory: Path) -> list[Path]:
    """The runs that are planned in a directory and have not begun."""
    return [run for run in planned_in(directory) if not rundir.is_run(run)]
