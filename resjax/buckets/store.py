"""A store of objects below an address: read, write conditionally, list, delete.

Every method is synchronous and may be called by several threads. A fault that passes, such as a
time-out, 429, 503, a reset connection or a token that has expired, is retried with growing pauses;
others are raised at once, as one line with its remedy. The credentials, and the endpoint, are what
`obstore` finds in the environment; docs/buckets.md names the variables.
"""

import collections
import contextlib
import copy
import mimetypes
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from resjax.buckets import faults
from resjax.buckets.connection import connected
from resjax.buckets.faults import Changed, NotThere
from resjax.buckets.objects import Listed, Version
from resjax.config.addresses import Address
from resjax.files import replacing

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds before the first retry of a request, doubled for each further one, and their maximum."""

SECONDS_TO_TELL = 30.0
"""Seconds without an answer until a line says so, and until the next line."""

PART = 8 << 20
"""Bytes in one request for a large object: at 0.5 MB/s, one fits into the timeout."""

BUSY = 16
"""Maximum number of concurrent requests for many objects."""


class Store:
    """The objects below an address.

    Args:
      address: the address.
      patience: seconds for which faults that pass are retried, before `Unanswered` is raised.
      tell: called with a line when the bucket has not answered for a while, and when it does again.

    Attributes:
      requests: {kind: number} of the requests that were made: get, put, list, head, delete.

    Raises:
      ConfigError: if `obstore` is not installed, or there are no credentials.
    """

    def __init__(
        self,
        address: Address,
        patience: float = 60.0,
        tell: Callable[[str], None] = lambda line: None,
    ):
        self.address, self.patience, self.tell = address, patience, tell
        self.requests: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()
        self.silent_since: float | None = None
        self.told_at = 0.0
        self.objects = connected(address)

    def below(self, name: str) -> "Store":
        """The objects in a subdirectory, with the same connection and request count."""
        other = copy.copy(self)
        other.address = self.address / name
        return other

    def hastier(self, patience: float) -> "Store":
        """The same objects and request count, without messages and with another patience."""
        other = copy.copy(self)
        other.patience, other.tell = patience, lambda line: None
        return other

    # ------------------------------------------------------------------------------------- requests

    def get(self, name: str) -> tuple[bytes, Version]:
        """The content of an object, and its version.

        Raises:
          NotThere: if there is none.
        """

        def request() -> tuple[bytes, Version]:
            result = self.objects.get(self._key(name))
            return bytes(result.bytes()), Version.of(result.meta)

        return self._tried("get", request, name)

    def get_range(self, entry: Listed, start: int, stop: int) -> bytes:
        """The bytes of a listed object from `start` to before `stop`.

        Raises:
          Changed: if the content of the object has changed.
          NotThere: if it no longer exists.
        """
        options = {"range": (start, stop), "if_match": entry.e_tag}

        def request() -> bytes:
            return bytes(self.objects.get(self._key(entry.name), options=options).bytes())

        return self._tried("get", request, entry.name)

    def fetch(self, entry: Listed, path: Path) -> None:
        """Copies a listed object to a file, part by part.

        The file is complete or missing. A part that was cut off is fetched again, not the others.

        Raises:
          Changed: if the content of the object has changed.
          NotThere: if it no longer exists.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial, partial.open("wb") as file:
            for start in range(0, entry.size, PART):
                file.write(self.get_range(entry, start, min(start + PART, entry.size)))

    def head(self, name: str) -> tuple[Listed, Version]:
        """The size and version of an object.

        Raises:
          NotThere: if there is none.
        """
        meta = self._tried("head", lambda: self.objects.head(self._key(name)), name)
        return Listed.of(meta, len(self._key(""))), Version.of(meta)

    def list(self, prefix: str = "") -> list[Listed]:
        """All objects in a directory below the address, or in all of it, sorted by name.

        One request lists a thousand of them.
        """
        found: list[Any] = []
        above = len(self._key(""))
        where = self._key(prefix).rstrip("/") or None

        def request() -> None:
            found.clear()
            for number, chunk in enumerate(self.objects.list(where, chunk_size=1000)):
                found.extend(chunk)
                if number:
                    self._count("list")

        self._tried("list", request, prefix)
        return sorted((Listed.of(meta, above) for meta in found), key=lambda entry: entry.name)

    def put(
        self,
        name: str,
        content: bytes | Path,
        create: bool = False,
        replacing: Version | None = None,
    ) -> Version:
        """Writes an object atomically; returns its version.

        Args:
          name: name of the object.
          content: the bytes, or a file.
          create: whether it must not exist yet.
          replacing: the version that must still be current.

        Raises:
          Changed: if it is there, or another version of it is; never for what this call has
            written itself, in a request whose answer was lost.
        """
        mode: Any = "create" if create else replacing.condition() if replacing else "overwrite"
        conditional = create or replacing is not None
        content = content.read_bytes() if conditional and isinstance(content, Path) else content
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"  # browsers go by it
        lost = 0

        def request() -> Version:
            nonlocal lost
            lost += 1  # as long as no answer says otherwise
            return Version.of(
                self.objects.put(
                    self._key(name),
                    content,
                    attributes={"Content-Type": kind},
                    mode=mode,
                    use_multipart=_is_large(content),
                    chunk_size=PART,
                )
            )

        try:
            return self._tried("put", request, name)
        except Changed:
            if lost > 1:
                with contextlib.suppress(NotThere):
                    there, version = self.get(name)
                    if there == content:
                        return version
            raise

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; missing ones are ignored."""
        keys = [self._key(name) for name in names]
        together = [keys] if self.address.kind == "s3" else [[key] for key in keys]
        for some in filter(None, together):
            with contextlib.suppress(NotThere):
                self._tried("delete", lambda some=some: self.objects.delete(some), some[0])

    def refuse_unconditional(self, name: str) -> None:
        """Makes sure that this process may write here and that conditions are obeyed.

        Args:
          name: name of an object to write and delete for that; no other process must use it.

        Raises:
          ConfigError: if it may not, or they are not.
        """
        first = self.put(name, b"1", create=True)
        try:
            with contextlib.suppress(Changed):
                self.put(name, b"2", create=True)
                raise faults.conditions_ignored(self.address, "it is not there")
            self.put(name, b"3", replacing=first)
            with contextlib.suppress(Changed):
                self.put(name, b"4", replacing=first)
                raise faults.conditions_ignored(self.address, "it is unchanged")
        finally:
            self.delete([name])

    # -------------------------------------------------------------------------------------- retries

    def _tried(self, kind: str, request: Callable[[], Any], name: str) -> Any:
        """Repeats a request until it succeeds, is refused, or the patience runs out."""
        began, pause = time.monotonic(), FIRST_PAUSE
        while True:
            self._count(kind)
            try:
                answer = request()
            except FileNotFoundError as error:
                if "NoSuchBucket" in str(error):
                    raise faults.understood(error, self.address).error from None
                self._answered()
                raise NotThere(str(self.address / name)) from None
            except Exception as error:
                if type(error).__name__ in _CHANGED and not faults.is_conflict(error):
                    self._answered()
                    raise Changed(str(self.address / name)) from None
                fault = faults.understood(error, self.address)
                if not fault.passes:
                    raise fault.error from None
                self._silent(fault.reason)
                if time.monotonic() + pause - began > self.patience:
                    raise fault.error from None
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._answered()
                return answer

    def _key(self, name: str) -> str:
        """The name of an object in the bucket."""
        return f"{self.address.path}/{name}" if self.address.path else name

    def _count(self, kind: str) -> None:
        with self.lock:
            self.requests[kind] += 1

    def _silent(self, reason: str) -> None:
        """Records a fault, and prints a line if there has been no answer for a while."""
        now = time.monotonic()
        with self.lock:
            if self.silent_since is None:
                self.silent_since = self.told_at = now
            due = now - self.told_at >= SECONDS_TO_TELL
            self.told_at = now if due else self.told_at
            since = now - self.silent_since
        if due:
            self.tell(
                f"{self.address} does not answer since {since:.0f} s ({reason}); "
                "the work goes on, and it is tried again and again"
            )

    def _answered(self) -> None:
        """Records an answer, and prints a line if one had said that there was none."""
        with self.lock:
            since, self.silent_since = self.silent_since, None
            silent = since is not None and self.told_at > since
        if silent:
            self.tell(f"{self.address} answers again, after {time.monotonic() - since:.0f} s")


_CHANGED = ("AlreadyExistsError", "PreconditionError")
"""Exceptions of `obstore` for a condition that does not hold."""


def _is_large(content: bytes | Path) -> bool:
    """Tells whether an object is written in parts."""
    return isinstance(content, Path) and content.stat().st_size > PART


def at_once(work: Callable[[Any], Any], items: Iterable[Any], threads: int = BUSY) -> Iterator[Any]:
    """Yields the result of `work` for each item, in order, computed by several threads."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads, thread_name_prefix="bucket") as pool:
        yield from pool.map(work, items)
