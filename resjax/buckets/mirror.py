"""Local copies of the objects in a bucket, downloaded again only where they have changed."""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from resjax.buckets.faults import Changed, NotThere
from resjax.buckets.objects import Listed
from resjax.buckets.store import BUSY, Store, at_once
from resjax.files import replacing

TIMES_TO_FETCH = 5
"""Number of tries to download an object that is overwritten while it is read."""

SMALL, BUSY_WITH_SMALL = 1 << 20, 64
"""Mean size in bytes below which objects count as small, and how many small ones to download at
once: latency dominates their time."""

MOST_WAITING = 10_000
"""Maximum number of objects in the queue; a folder of images may have a million."""

SECONDS_BETWEEN_SAVES = 10.0
"""Minimum seconds between two records of what was downloaded; a crash loses only what came after
the last."""

RECORD = ".mirror.json"
"""File of a mirror that records which objects its files are copies of."""


def fetch_all(store: Store, entries: Sequence[Listed], directory: Path) -> Iterator[Listed]:
    """Downloads listed objects into a directory, several at once.

    An object that has changed since the listing is copied in its current version; a missing one is
    left out.

    Yields:
      The objects that were copied, as they were then.
    """

    def fetch(entry: Listed) -> Listed | None:
        for _ in range(TIMES_TO_FETCH):
            try:
                store.fetch(entry, directory / entry.name)
                return entry
            except NotThere:
                return None
            except Changed:
                with contextlib.suppress(NotThere):
                    entry, _ = store.head(entry.name)
        raise OSError(f"{store.address / entry.name} is written anew all the time; try again later")

    small = sum(entry.size for entry in entries) < SMALL * len(entries)
    for start in range(0, len(entries), MOST_WAITING):
        some = entries[start : start + MOST_WAITING]
        yield from filter(None, at_once(fetch, some, BUSY_WITH_SMALL if small else BUSY))


class Mirror:
    """A directory, and a record of which files equal the objects below an address.

    A file that was changed since is not taken for a copy. Its time is when its object was
    written, by the clock of the bucket. Several processes may update it.

    Args:
      store: the objects.
      directory: where to; it is made when something is fetched.
    """

    def __init__(self, store: Store, directory: Path):
        self.store, self.directory = store, directory
        self.lock = threading.Lock()
        self.copies: dict[str, list] = {}  # {name: [ETag, bytes, when the file was written, in ns]}
        with contextlib.suppress(OSError, ValueError):
            self.copies = json.loads((directory / RECORD).read_text(encoding="utf-8"))

    def update(
        self,
        entries: Iterable[Listed],
        wanted: Callable[[str], bool] = lambda name: True,
        begun: Callable[[list[Listed]], Callable[[Listed], None]] = lambda missing: _silently,
    ) -> None:
        """Downloads the objects that are wanted and missing or outdated.

        Files of objects that are gone are removed.

        Args:
          entries: a listing of all objects.
          wanted: tells from its name whether an object is to be fetched.
          begun: called with the objects that will be fetched; returns what is called with each of
            them when it is here.
        """
        there = {entry.name: entry for entry in entries}
        missing = [each for each in there.values() if wanted(each.name) and not self.has(each)]
        gone = [name for name in self.copies if name not in there]
        for name in gone:
            (self.directory / name).unlink(missing_ok=True)
            del self.copies[name]
        arrived, saved = begun(missing), time.monotonic()
        pause = SECONDS_BETWEEN_SAVES
        try:
            for entry in fetch_all(self.store, missing, self.directory):
                os.utime(self.directory / entry.name, (entry.modified, entry.modified))
                self.note(entry.name, entry.e_tag)
                arrived(entry)
                if time.monotonic() > saved + pause:
                    began = time.monotonic()
                    self.save()
                    saved = time.monotonic()
                    pause = max(SECONDS_BETWEEN_SAVES, 20 * (saved - began))
        finally:
            if missing or gone:
                self.save()

    def has(self, entry: Listed) -> bool:
        """Tells whether the directory has the object's file with the same content."""
        return self.e_tag(entry.name) == entry.e_tag and entry.e_tag is not None

    def e_tag(self, name: str) -> str | None:
        """The ETag of the object that a file is a copy of; None if it is not known to be one."""
        e_tag, *written = self.copies.get(name) or [None]
        return e_tag if e_tag and written == _written(self.directory / name) else None

    def note(self, name: str, e_tag: str | None, written: list[int] | None = None) -> None:
        """Records that a file is a copy of the object with an ETag.

        Args:
          name: name of both.
          e_tag: the ETag.
          written: what `written` told of the file before it was read; by default what it is now.
        """
        written = written or _written(self.directory / name)
        if written:
            with self.lock:
                self.copies[name] = [e_tag, *written]

    def written(self, name: str) -> list[int] | None:
        """The size and modification time of a file; None if it does not exist."""
        return _written(self.directory / name)

    def forget(self, name: str) -> None:
        """Records that an object no longer exists."""
        with self.lock:
            self.copies.pop(name, None)

    def save(self) -> None:
        """Writes the record of the files, for other processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with replacing(self.directory / RECORD) as partial, self.lock:
            partial.write_text(json.dumps(self.copies), encoding="utf-8")


def _silently(entry: Listed) -> None:
    """Reports nothing when an object has arrived."""


def _written(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [stat.st_size, stat.st_mtime_ns]
