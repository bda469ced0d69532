"""Places to read from: local directories, and local copies of what is at an address.

Both are read by the same code, which sees a directory with the files that it asked for.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resjax.buckets.faults import NotThere
from resjax.buckets.fetching import Fetch, refuse_too_little_room, show_notice
from resjax.buckets.mirror import RECORD, TIMES_TO_FETCH, Mirror
from resjax.buckets.objects import Listed
from resjax.buckets.store import Store, at_once
from resjax.config import ConfigError, worded
from resjax.config.addresses import Address
from resjax.config.errors import Verbatim
from resjax.process import cache_directory

Choice = Callable[[list[str]], Iterable[str]]
"""Function that chooses, from the names of all files in a directory, those to be read."""


def everything(names: list[str]) -> list[str]:
    """Chooses all files."""
    return names


def nothing(names: list[str]) -> list[str]:
    """Chooses no files."""
    return []


class Here:
    """A local directory.

    Attributes:
      directory: the directory.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def refresh(self, choose: Choice, show: Choice = nothing) -> None:
        """Does nothing: the files are local."""

    def named(self, text: str) -> str:
        """Returns the text unchanged."""
        return text

    def upload(self, below: str, last: str = "", alone: bool = False) -> None:
        """Does nothing: the files are where they belong."""


class Copy:
    """Local copy, in the user's cache, of the files below an address.

    A file is fetched on request, and again only if it has changed in the bucket. Copies may
    be removed at any time.

    Attributes:
      address: the address.
      directory: the directory; what is deleted in the bucket is removed there.
    """

    def __init__(self, address: Address):
        self.address, self.store = address, Store(address, tell=show_notice)
        self.directory = cached_directory(address, cache_directory() / "copies")

    def refresh(self, choose: Choice, show: Choice = nothing) -> None:
        """Lists the files, and downloads those of the chosen ones that are missing or outdated.

        A file that is removed while it is fetched, such as one of a checkpoint, is chosen anew.

        Args:
          choose: chooses the files.
          show: chooses files that only have to exist: they are empty unless they
            were fetched before.

        Raises:
          ConfigError: if the bucket refuses it, or there is no room on this machine.
          Unanswered: if it does not answer for a minute.
        """
        with _alone(self.directory):
            mirror = Mirror(self.store, self.directory)
            for _ in range(TIMES_TO_FETCH):
                entries = _files(self.store.list())
                chosen = set(choose([entry.name for entry in entries]))
                self._update(mirror, entries, chosen)
                if all(map(mirror.e_tag, chosen)):
                    break
            self._remove_others({entry.name for entry in entries})
            for name in show([entry.name for entry in entries]):
                (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
                if not (self.directory / name).exists():
                    (self.directory / name).touch()

    def fetch(self, names: Iterable[str]) -> list[str]:
        """Downloads files by name, without a listing; returns the names of those that exist."""
        with _alone(self.directory):
            mirror = Mirror(self.store, self.directory)
            entries = list(filter(None, at_once(self._head, names)))
            others = [name for name in mirror.copies if name not in names]
            self._update(mirror, [*entries, *map(_unseen, others)], {e.name for e in entries})
        return [entry.name for entry in entries]

    def _head(self, name: str) -> Listed | None:
        with contextlib.suppress(NotThere):
            return self.store.head(name)[0]
        return None

    def _update(self, mirror: Mirror, entries: list[Listed], chosen: set[str]) -> None:
        """Downloads the chosen files that are missing, if there is room; reports long downloads."""

        def begun(missing: list[Listed]) -> Callable[[Listed], None]:
            size = sum(entry.size for entry in missing)
            refuse_too_little_room(self.directory, size, self.address)
            return Fetch(self.address, len(missing), size).arrived

        mirror.update(entries, chosen.__contains__, begun)

    def _remove_others(self, there: set[str]) -> None:
        """Removes files that the bucket does not have, such as parts of interrupted downloads."""
        for above, _, files in os.walk(self.directory):
            inside = os.path.relpath(above, self.directory).replace(os.sep, "/")
            for file in files:
                name = file if inside == "." else f"{inside}/{file}"
                if name not in there and name != RECORD:
                    Path(above, file).unlink(missing_ok=True)

    def named(self, text: str) -> str:
        """Replaces the directory in a text by the address."""
        return text.replace(str(self.directory), str(self.address))

    def upload(self, below: str, last: str = "", alone: bool = False) -> None:
        """Uploads the contents of a directory of the copy to the bucket.

        Args:
          below: name of the directory.
          last: name of the file that is written last.
          alone: whether other files in the bucket are removed.

        Raises:
          ConfigError: if the bucket refuses it; the files remain on this machine.
        """
        try:
            with _alone(self.directory):
                self._upload(below, last, alone)
        except ConfigError as error:
            here = self.directory / below
            raise Verbatim(f"{error}; what was to be written there is in {here}") from None

    def _upload(self, below: str, last: str, alone: bool) -> None:
        mirror = Mirror(self.store, self.directory)
        there = {entry.name: entry for entry in self.store.list(below)}
        names = {
            path.relative_to(self.directory).as_posix()
            for path in (self.directory / below).rglob("*")
            if path.is_file() and not path.name.startswith(".")
        }
        changed = {name for name in names if name not in there or not mirror.has(there[name])}

        def put(name: str) -> None:
            written = mirror.written(name)
            mirror.note(name, self.store.put(name, self.directory / name).e_tag, written)

        try:
            list(at_once(put, sorted(changed - {last})))
            for name in changed & {last}:
                put(name)
            gone = there.keys() - names if alone else set()
            self.store.delete(sorted(gone))
            for name in gone:
                mirror.forget(name)
        finally:
            mirror.save()


@contextmanager
def reading(
    where: Path | Address, choose: Choice = everything, show: Choice = nothing
) -> Iterator[Here | Copy]:
    """Yields a place with the chosen files; errors in the block name the address, not the copy.

    Args:
      where: the directory or the address.
      choose: chooses the files of an address that are read.
      show: chooses those that only have to exist; see `Copy.refresh`.

    Raises:
      ConfigError: if the bucket cannot be read.
    """
    place = Here(where) if isinstance(where, Path) else Copy(where)
    place.refresh(choose, show)
    with worded(place.named):
        yield place


@contextmanager
def reading_file(
    where: Path | Address, choose: Choice, beside: Iterable[str] = ()
) -> Iterator[Path]:
    """Yields the path of a file, or of a directory with the chosen files.

    Args:
      where: the path or the address.
      choose: chooses the files if it is a directory.
      beside: names of files beside it that are read with it.

    Raises:
      ConfigError: if the bucket cannot be read.
    """
    if isinstance(where, Address) and where.path:
        above = Copy(where.parent)
        if where.name in above.fetch([where.name, *beside]):
            with worded(above.named):
                yield above.directory / where.name
            return
    with reading(where, choose) as place:
        yield place.directory


def retold(place: Here | Copy, record: Any) -> Any:
    """Replaces the copy by the address in the texts of a dataclass."""
    texts = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, str):
            texts[field.name] = place.named(value)
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            texts[field.name] = list(map(place.named, value))
    return dataclasses.replace(record, **texts)


def cached_directory(address: Address, above: Path) -> Path:
    """The directory for what is below an address, in one for those of all addresses."""
    return above / hashlib.sha256(str(address).encode()).hexdigest()[:12] / address.name


def _files(entries: list[Listed]) -> list[Listed]:
    """The objects that can be files: cloud consoles create some that stand for directories."""
    above = {entry.name.rpartition("/")[0] for entry in entries}
    above |= {name[:end] for name in above for end, letter in enumerate(name) if letter == "/"}
    return [entry for entry in entries if entry.name and entry.name not in above]


def _unseen(name: str) -> Listed:
    """A file of the copy that was not asked for this time."""
    return Listed(name, 0, None, 0.0)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Makes a directory, and keeps other local processes from changing it at the same time.

    The directory above is locked, which has nothing else: who writes a report claims this one.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(
            f"cannot write to {directory}: {error.strerror}; make it writable, or choose another "
            "cache by XDG_CACHE_HOME"
        ) from None
    try:
        with contextlib.suppress(OSError):  # a storage without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
