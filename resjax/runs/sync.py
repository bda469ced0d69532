"""Runs in a bucket: one process of all machines trains a run, and uploads it meanwhile."""

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resjax import interruption
from resjax.buckets.faults import Unanswered
from resjax.buckets.fetching import show_notice
from resjax.buckets.store import Store
from resjax.runs import claims, disk, files, scratch
from resjax.runs.claim_objects import ClaimObject
from resjax.runs.claims import Claim, Claimed, boot, claimed
from resjax.runs.upload import Upload


@contextmanager
def at_work(directory: Path) -> Iterator[Claim]:
    """Keeps other processes from working in a directory, and in the bucket it is uploaded to.

    Inside the block the directory is what is in the bucket, or more if this machine was the last to
    work on the run. What changes there is uploaded meanwhile, all of it before the block ends.

    Raises:
      Claimed: if another process runs there.
      ConfigError: if the bucket cannot be used.
      NotUploaded: at the end, if the bucket did not answer for long.
    """
    with claimed(directory) as here:
        address = scratch.address_of(directory)
        if address is None:
            yield here
            return
        store = Store(address, tell=show_notice)
        place, stat = ClaimObject(store), directory.stat()
        claim = Claim(place, uuid.uuid4().hex, f"{boot()} {stat.st_dev}:{stat.st_ino}")
        claim.take(here.locked)
        before = place.found or {}
        place.store = store.hastier(claims.SECONDS_BETWEEN_RENEWALS)
        with claim.kept():
            upload = Upload(directory, store, claim, before)
            with interruption.finished_first(upload.leave), upload.in_background():
                yield claim
        if claim.lost:
            raise Claimed(f"{directory} was taken over by another process; leave it to that one")


def upload_rest(directory: Path) -> None:
    """Uploads what a run left on this machine, unless another process works on it."""
    if scratch.address_of(directory) is not None:
        with contextlib.suppress(Claimed), at_work(directory):
            pass


def record_failure(directory: Path, reason: str) -> None:
    """Marks a run that no process works on as failed, also in the bucket."""
    disk.write_text(directory / files.ERROR, reason)
    if (address := scratch.address_of(directory)) is not None:
        Store(address).put(files.ERROR, directory / files.ERROR)


def forget_failure(directory: Path) -> None:
    """Marks a failed run as unfinished, also in the bucket."""
    (directory / files.ERROR).unlink(missing_ok=True)
    if (address := scratch.address_of(directory)) is not None:
        Store(address).delete([files.ERROR])


def try_to_refresh(runs: Iterable[Path]) -> None:
    """Refreshes runs between others; what a bucket does not answer stays as it was known."""
    with contextlib.suppress(Unanswered):  # the store has told of it
        refresh(runs)


def refresh(runs: Iterable[Path]) -> None:
    """Downloads what other machines changed in runs, and uploads what this one left of them."""
    for directory in scratch.fetch_states(runs):
        upload_rest(directory)
