"""Runs that are planned in a directory: which ones a sweep is going to train, and their work.

`planned/DIGEST.json` holds the plan of one sweep, {"work": {name: multiply-adds}, "settings":
{name: {key: value}}} in the order of its grid, and is named by the digest of those names. It is
written before the first run begins, and never changes. So all processes of a sweep, and the same
command given again, mean one file; and sweeps that share a directory or a bucket, from any number
of machines, need no lock, as each has a file of its own. Earlier versions told no settings, or no
work either, {"runs": {name: number}}.

All plans are shown. None replaces another, since nothing tells whether the sweep of an older one
was given up, waits for a machine, or has just begun beside this one. So what was given up is
waiting until its plan is removed; `resjax status` says that where no process is at work. A sweep is
at work if a process trains one of its runs; the time that is left is of such sweeps alone.
"""

import contextlib
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.buckets.faults import NotThere
from resjax.buckets.fetching import show_notice
from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.config.naming import settings_of
from resjax.runs import disk, room, rundir, scratch

DIRECTORY = "planned"

FILES = f"{DIRECTORY}/*.json"
"""Pattern of the names of plans in the directory of a sweep."""

Planned = dict[Path, float | None]
"""{run: multiply-adds of its whole training}, None where an earlier version did not tell them."""


def record(runs: Mapping[Path, ConfigDict], work: Callable[[], Mapping[Path, float]]) -> None:
    """Records the plan of a sweep, also in the bucket that it is uploaded to.

    Nothing is written if that plan is there, or all runs have ended.

    Args:
      runs: {directory: config}, in the order of the grid.
      work: computes the multiply-adds of each whole training; called only if they are to be
        written, as networks are traced for them.

    Raises:
      NoRoom: if the disk is full.
    """
    if all(rundir.run_state(run) in (rundir.DONE, rundir.FAILED) for run in runs):
        return
    for above in {run.parent for run in runs}:
        names = [run.name for run in runs if run.parent == above]
        path = above / DIRECTORY / f"{disk.sealed({'runs': names})[disk.DIGEST]}.json"
        try:
            disk.read_json(path)
        except ConfigError:  # it is not there, or damaged
            found = work()
            with room.refused(path, "the plan of a sweep did not fit"):
                rundir.make_directory(path.parent)
                plan = {
                    "work": {name: found[above / name] for name in names},
                    "settings": {name: settings_of(runs[above / name]) for name in names},
                }
                disk.write_json(path, plan)
        if (address := scratch.address_of(above)) is not None:
            _upload(Store(address / DIRECTORY, tell=show_notice), path)


def _upload(store: Store, path: Path) -> None:
    """Uploads a plan, unless it is in the bucket."""
    try:
        disk.opened(store.get(path.name)[0])
    except (NotThere, ValueError):
        store.put(path.name, path.read_bytes())


def plans_in(directory: Path) -> list[Planned]:
    """The plans in a directory."""
    works = [
        content.get("work", dict.fromkeys(content.get("runs", ()))) for content in _read(directory)
    ]
    return [{directory / name: own for name, own in work.items()} for work in works]


def _read(directory: Path) -> Iterator[dict[str, Any]]:
    """The contents of the plans in a directory; a damaged one is left out."""
    for path in sorted(directory.glob(FILES)):
        with contextlib.suppress(ConfigError):  # its sweep writes it again
            yield disk.read_json(path)


def planned_in(directory: Path) -> Planned:
    """The runs that are planned in a directory, by any plan, and their work as far as one tells."""
    found: Planned = {}
    for plan in plans_in(directory):
        for run, work in plan.items():
            found[run] = found.get(run) if work is None else work
    return found


def work_in(directory: Path) -> dict[Path, float]:
    """The work of all runs in a directory; one whose work is unknown has the median of the others.

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
    others: Planned = {run: None for run in begun if run not in planned}
    return _completed(others | planned)


def planned_work(runs: Collection[Path]) -> dict[Path, float]:
    """The work of some runs, as plans beside them tell; as in `work_in` where none does."""
    planned: Planned = {}
    for above in {run.parent for run in runs}:
        planned |= planned_in(above)
    return _completed({run: planned.get(run) for run in runs})


def planned_settings(runs: Collection[Path]) -> dict[Path, dict[str, Any]]:
    """The settings of some runs, from plans beside them or their configs; none of others."""
    found: dict[Path, dict[str, Any]] = {}
    for above in {run.parent for run in runs}:
        for plan in _read(above):
            found |= {above / name: own for name, own in plan.get("settings", {}).items()}
    for run in runs:
        if run not in found:
            with contextlib.suppress(ConfigError):  # it is waiting, or its config is damaged
                found[run] = rundir.added_defaults(run) | settings_of(rundir.read_config(run))
    return {run: found[run] for run in runs if run in found}


def _completed(work: Planned) -> dict[Path, float]:
    """Takes the median of the known for unknown work, and 1 if all is unknown."""
    known = [own for own in work.values() if own is not None]
    usual = statistics.median(known) if known else 1.0
    return {run: usual if own is None else own for run, own in work.items()}


def waiting_in(directory: Path) -> list[Path]:
    """The runs that are planned in a directory and have not begun."""
    return [run for run in planned_in(directory) if not rundir.is_run(run)]
