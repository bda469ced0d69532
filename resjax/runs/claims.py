"""Claims of run directories: one process at a time, on all machines that share the storage.

A lock of the operating system keeps out other processes of the machine and dies with its owner.
Other machines see `claim.json`, which says who runs there and is touched every few seconds. A claim
that nobody has touched for a while is of a process that is gone, and whoever comes next takes it.
"""

import contextlib
import fcntl
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resjax.config import ConfigError
from resjax.runs import disk

FILE = "claim.json"

SECONDS_BETWEEN_TOUCHES = 10.0

SECONDS_TO_STALE = 60.0
"""Seconds without a touch after which a claim may be taken over.

Clocks of machines are not compared.
"""


class Claimed(ConfigError):
    """A directory in which another process runs."""


class Claim:
    """A directory that this process runs in.

    Attributes:
      lost: whether another process has taken it over, as this one stood still for too long.
    """

    def __init__(self, directory: Path, token: str):
        self.path, self.token = directory / FILE, token
        self.lost = False
        self.ended = threading.Event()

    def stands(self) -> bool:
        """Tells whether the file is still this claim's; a process that takes over replaces it."""
        there = _read(self.path)
        return there is not None and there.get("token", self.token) == self.token

    def keep(self) -> None:
        """Touches the file until the run ends."""
        while not self.ended.wait(SECONDS_BETWEEN_TOUCHES):
            if not self.stands():
                self.lost = True
                return
            with contextlib.suppress(OSError):  # the storage may be away for a moment
                os.utime(self.path)


@contextmanager
def claimed(directory: Path) -> Iterator[Claim]:
    """Keeps other processes from running in a directory.

    Raises:
      Claimed: if another one does.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        locked = _lock(descriptor, directory)
        claim = Claim(directory, uuid.uuid4().hex)
        _take(claim, locked)
        keeper = threading.Thread(target=claim.keep, daemon=True)
        keeper.start()
        try:
            yield claim
        finally:
            claim.ended.set()
            keeper.join()
            if claim.stands():
                claim.path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def owner(directory: Path) -> str | None:
    """Names the process that runs in a directory, as far as this one can see; None if none does."""
    path = directory / FILE
    there = _read(path)
    if there is None or _is_stale(path):
        return None
    if there.get("boot") == _boot() and not _is_alive(there.get("pid")):
        return None
    return _named(there)


def _named(claim: Mapping[str, Any]) -> str:
    """The process of a claim, for a message."""
    if not claim:
        return f"a process that its {FILE} does not tell"
    return f"process {claim.get('pid')} on {claim.get('host')}"


def remove_stale(directory: Path) -> list[Path]:
    """Removes the files of claims whose processes are gone; returns their paths."""
    left = [] if owner(directory) else sorted(directory.glob(f"{FILE}*"))
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _lock(descriptor: int, directory: Path) -> bool:
    """Locks a directory against processes of this machine; False if its storage has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        raise Claimed(
            f"{directory} is being run by another process; wait for it or choose another directory"
        ) from None
    except OSError:
        return False


def _take(claim: Claim, locked: bool) -> None:
    """Writes the claim, if there is none, or only that of a process that is gone.

    Of several processes that find the same stale claim, the one wins that is first to make the file
    named after it.
    """
    try:
        _write(claim.path, claim.token)
        return
    except FileExistsError:
        there = _read(claim.path) or {}
    ended = locked and there.get("boot") == _boot()  # or it would have the lock
    if not ended and not _is_stale(claim.path):
        raise Claimed(
            f"{claim.path.parent} is being run by {_named(there)}; wait for it or choose another "
            "directory"
        )
    token = there.get("token")
    taking = claim.path.with_name(f"{FILE}.{token or 'unreadable'}")
    if (_age(taking) or 0.0) > SECONDS_TO_STALE:
        taking.unlink(missing_ok=True)
    try:
        _write(taking, claim.token)
    except FileExistsError:
        raise Claimed(f"{claim.path.parent} is being taken over by another process") from None
    if (_read(claim.path) or {}).get("token") != token:  # it was, before this file was made
        taking.unlink()
        raise Claimed(f"{claim.path.parent} was taken over by another process")
    taking.replace(claim.path)


def _write(path: Path, token: str) -> None:
    """Writes a claim to a file that is not there yet."""
    content = {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "token": token}
    with path.open("x", encoding="utf-8") as file:
        file.write(disk.sealed_text(content))


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a claim, empty if it is damaged or being written; None if there is none."""
    try:
        return disk.read_json(path)
    except ConfigError:
        return {} if path.exists() else None


_ahead: dict[Path, tuple[float, float]] = {}
"""Claims touched in the future by the clock of their storage: {path: (touch, when first seen)}."""


def _is_stale(path: Path) -> bool:
    """Tells whether nobody has touched a claim for long, or it is gone.

    The touch may be in the future by the clock of the storage, as some clock was put right in
    between; then it counts how long this process has seen that same touch.
    """
    age = _age(path)
    if age is None or age >= 0:
        return age is None or age > SECONDS_TO_STALE
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return True
    if path not in _ahead or _ahead[path][0] != touched:
        _ahead[path] = touched, time.monotonic()
    return time.monotonic() - _ahead[path][1] > SECONDS_TO_STALE


def _age(path: Path) -> float | None:
    """Seconds since a file was touched, by the clock of its storage; None if it is not there."""
    probe = path.with_name(f".clock.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:  # a storage that cannot be written to
        now = time.time()
    return now - touched


def _is_alive(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _boot() -> str:
    """Identifies this machine since its last start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()
