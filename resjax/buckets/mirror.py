"""Copies on this machine of objects in a bucket, fetched again only where they have changed."""

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from resjax.buckets.faults import Changed, NotThere
from resjax.buckets.store import Listed, Store, at_once

TIMES_TO_FETCH = 5
"""Times that an object is fetched which is written anew while it is read."""

FILE = ".mirror.json"
"""File of a mirror with the ETags of its files: {name: ETag}."""


def fetch_all(store: Store, entries: Iterable[Listed], directory: Path) -> dict[str, str]:
    """Copies listed objects into a directory, several at once.

    An object that has changed since the listing is copied as it is by now; one that is gone is left
    out.

    Returns:
      {name: SHA-256} of the files that were written.
    """

    def fetch(entry: Listed) -> tuple[str, str] | None:
        for _ in range(TIMES_TO_FETCH):
            try:
                return entry.name, store.fetch(entry, directory / entry.name)
            except NotThere:
                return None
            except Changed:
                with contextlib.suppress(NotThere):
                    entry, _ = store.head(entry.name)
        raise OSError(f"{store.address / entry.name} is written anew all the time; try again later")

    return dict(filter(None, at_once(fetch, entries)))


class Mirror:
    """A directory with what is wanted of the objects below an address, for readers of files.

    Nothing but this class must write there. Several processes may refresh it at the same time.

    Args:
      store: the objects.
      directory: where to; it is made.
    """

    def __init__(self, store: Store, directory: Path):
        self.store, self.directory = store, directory

    def refresh(self, wanted: Callable[[str], bool] = lambda name: True) -> list[Listed]:
        """Lists the objects once, and fetches those that are wanted and not here as they are there.

        Files of objects that are gone are removed.

        Args:
          wanted: tells by its name whether an object is to be fetched.

        Returns:
          All objects, also those that are not wanted.
        """
        entries = self.store.list()
        before = self._fetched()
        stale = [each for each in entries if wanted(each.name) and not self._has(each, before)]
        fetch_all(self.store, stale, self.directory)
        there = {entry.name for entry in entries}
        for name in before.keys() - there:
            (self.directory / name).unlink(missing_ok=True)
        kept = {name: e_tag for name, e_tag in before.items() if name in there}
        self._note(kept | {entry.name: entry.e_tag for entry in stale})
        return entries

    def _has(self, entry: Listed, fetched: dict[str, str | None]) -> bool:
        """Tells whether the file of an object is here, with the same content."""
        path = self.directory / entry.name
        same = entry.e_tag is not None and fetched.get(entry.name) == entry.e_tag
        return same and path.is_file() and path.stat().st_size == entry.size

    def _fetched(self) -> dict[str, str | None]:
        try:
            return json.loads((self.directory / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def _note(self, fetched: dict[str, str | None]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        partial = self.directory / f"{FILE}.{os.getpid()}.partial"
        partial.write_text(json.dumps(fetched), encoding="utf-8")
        partial.replace(self.directory / FILE)
