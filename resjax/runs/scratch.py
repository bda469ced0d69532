"""Local directories for training runs that are uploaded to a bucket.

A directory that is uploaded has a mark with its address, which holds for the runs in it, too:
whatever process trains there uploads; see `resjax.runs.sync`.
"""

import contextlib
import dataclasses
import fnmatch
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from resjax.buckets.fetching import show_notice
from resjax.buckets.mirror import Mirror
from resjax.buckets.objects import Listed
from resjax.buckets.places import cached_directory
from resjax.buckets.store import Store, at_once
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.process import cache_directory
from resjax.runs import claims, disk, files, rundir
from resjax.runs.claim_objects import ClaimObject
from resjax.runs.claims import Claimed, Content, lock, unchanged_for

ENDS = {rundir.DONE: files.RESULT, rundir.FAILED: files.ERROR}
"""Files that mark the end of a run, by its state."""

LARGE = (f"{files.CHECKPOINTS}/", files.EVENTS, files.WEIGHTS, files.PROBES, f"{files.PROBED}/")
"""Prefixes of the names of files that are only needed to resume a run."""


def scratch_directory(address: Address, below: Path | None = None) -> Path:
    """The directory for training the runs of an address, by default in the user's cache."""
    return cached_directory(address, below or cache_directory() / "scratch")


def address_of(directory: Path) -> Address | None:
    """The address to which a directory is uploaded; None if it is not a scratch directory."""
    for place, name in ((directory, ""), (directory.parent, directory.name)):
        if (place / files.BUCKET).is_file():
            address = Address.of(disk.read_json(place / files.BUCKET)["address"])
            return address / name if name else address
    return None


def workplace(place: Path | Address, below: Path | None = None, writes: bool = True) -> Path:
    """The local directory in which to work on a place: itself, or a scratch directory.

    Args:
      place: a directory, or an address.
      below: directory of scratch directories; None is that in the user's cache.
      writes: whether it must be possible to write to the bucket, on conditions.

    Raises:
      ConfigError: if the bucket is not there, refuses this process, or ignores conditions.
    """
    if isinstance(place, Path):
        return place
    directory, store = scratch_directory(place, below), Store(place)
    if writes:
        store.refuse_unconditional(f".{uuid.uuid4().hex}.probe")
    mark(directory, place)
    return directory


def mark(directory: Path, address: Address) -> None:
    """Makes a directory that is uploaded to an address."""
    rundir.make_directory(directory)
    if not (directory / files.BUCKET).is_file():
        with contextlib.suppress(FileNotFoundError):  # another has begun the run
            disk.write_json(directory / files.BUCKET, {"address": str(address)})


# ------------------------------------------------------------------------ what others have uploaded


def fetch_states(runs: Iterable[Path]) -> list[Path]:
    """Downloads what determines the states of runs, where other machines have changed it.

    Runs that are not in scratch directories, or that this machine is at, are left as they are. One
    listing is made for all that are in one directory.

    Returns:
      The runs that ended on this machine and have not been uploaded.
    """
    together: dict[Path, list[Path]] = defaultdict(list)
    for run in runs:
        for above in (run, run.parent):
            if (above / files.BUCKET).is_file():
                together[above].append(run)
                break
    left: list[Path] = []
    for above, inside in together.items():
        if (address := address_of(above)) is None:
            continue  # removed meanwhile
        store = Store(address, tell=show_notice)
        listed = {above: store.list()} if above in inside else _by_run(above, store.list())

        def look(run: Path, above: Path = above, store: Store = store, listed=listed) -> bool:
            own = store if run == above else store.below(run.name)
            return _refreshed(run, own, listed.get(run, []))

        not_uploaded = list(at_once(look, inside))
        left += [run for run, is_left in zip(inside, not_uploaded, strict=True) if is_left]
    return left


def _by_run(above: Path, entries: Iterable[Listed]) -> dict[Path, list[Listed]]:
    """The objects of each run in a directory, by their names in the run."""
    listed: dict[Path, list[Listed]] = defaultdict(list)
    for entry in entries:
        run, _, name = entry.name.partition("/")
        listed[above / run].append(dataclasses.replace(entry, name=name))
    return listed


def _refreshed(run: Path, store: Store, entries: list[Listed]) -> bool:
    """Downloads what determines a run's state; returns whether it ended here, not yet uploaded."""
    there = {entry.name: entry for entry in entries}
    if files.CLAIM in there:
        unchanged_for(str(store.address), there[files.CLAIM].e_tag)  # it is watched from now on
    if not there and not run.is_dir():
        return False
    run.mkdir(exist_ok=True)
    with contextlib.suppress(Claimed), lock(run) as locked:
        if not locked and claims.owner(run):  # a storage without locks has the claim alone
            return False
        if ended := _end_of(run):
            mirror = Mirror(store, run)
            if ended in there and mirror.has(there[ended]):
                return False
        if is_owned(run, there, lambda: _claim_in(store) if files.CLAIM in there else {}):
            return bool(ended)
        mirror_bucket(run, store, entries, large=False)
        _mirror_claim(run, store, there.get(files.CLAIM))
    return False


def mirror_bucket(run: Path, store: Store, entries: list[Listed], large: bool) -> Mirror:
    """Makes the directory of a run equal to what is in the bucket, except for its claim.

    What another machine left there is removed, and what this one had not uploaded.

    Args:
      run: the directory.
      store: the objects of the run.
      entries: a listing of them.
      large: whether to fetch what only those need who go on with the run, too.
    """
    (run / files.LANDED).unlink(missing_ok=True)
    mirror = Mirror(store, run)
    mirror.forget(files.CLAIM)
    others = [entry for entry in entries if entry.name != files.CLAIM]
    mirror.update(others, lambda name: large or not name.startswith(LARGE))
    there = {entry.name for entry in entries} | {files.CLAIM}
    for path in sorted(run.rglob("*"), reverse=True):
        name = path.relative_to(run).as_posix()
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):  # it is not empty
                path.rmdir()
        elif name not in there and not name.startswith("."):
            path.unlink()
    return mirror


def _mirror_claim(run: Path, store: Store, entry: Listed | None) -> None:
    """Copies the claim of another machine's process, if one works on the run, for local readers.

    The copy of a stale one is removed, or it would seem to be fresh and be respected once more.
    """
    fresh = entry and unchanged_for(str(store.address), entry.e_tag) < claims.SECONDS_TO_STALE
    claim = _claim_in(store) if fresh else {}
    if claim and not claim.get("released"):
        disk.write_json(run / files.CLAIM, claim)
    else:
        (run / files.CLAIM).unlink(missing_ok=True)


def is_owned(run: Path, there: Iterable[str], claim: Callable[[], Content]) -> bool:
    """Tells whether this machine was the last to work on a run, and has all of it.

    Args:
      run: the directory.
      there: names of the objects of the run.
      claim: reads the claim in the bucket; called only if that matters.
    """
    try:
        token = disk.read_json(run / files.LANDED)["token"]
    except ConfigError:
        return False
    lost = fnmatch.filter(there, files.ALL_FACTS) and not list(run.glob(files.ALL_FACTS))
    intact = (run / files.CONFIG).is_file() and not lost
    return intact and claim().get("token") == token


def _claim_in(store: Store) -> Content:
    return ClaimObject(store).read() or {}


def _end_of(run: Path) -> str | None:
    """The file that marks the end of a run; None if it has not ended."""
    return ENDS.get(rundir.run_state(run))
