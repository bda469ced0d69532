"""Claims of run directories: one process at a time, across all machines that share the storage.

A lock of the operating system keeps out other processes of the machine and dies with its owner.
Other machines see `claim.json`, in the directory or in the bucket, which says who runs there and is
renewed every few seconds. A claim that nobody has renewed for a while is stale: it is of a process
that is gone, and whoever comes next takes it. Clocks of machines are not compared.
"""

import contextlib
import fcntl
import os
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from resjax.config import ConfigError
from resjax.runs import disk, files

SECONDS_BETWEEN_RENEWALS = 10.0

SECONDS_TO_STALE = 60.0
"""Seconds without a renewal after which a claim may be taken over."""

Content = Mapping[str, Any]


class Claimed(ConfigError):
    """A directory that another process works in, or may work in while a bucket does not tell."""


class ClaimPlace(Protocol):
    """A place for the claim of a run; prints as the directory or the address of the run."""

    def read(self) -> Content | None:
        """The current claim, empty if it is damaged or being written; None if there is none."""

    def create(self, claim: Content) -> None:
        """Writes a claim; raises FileExistsError if there is one."""

    def replace(self, stale: Content, claim: Content) -> None:
        """Replaces a stale claim that was read before.

        Raises:
          Claimed: if another process was first.
        """

    def renew(self, claim: Content) -> bool:
        """Renews the caller's claim; returns whether it is still valid."""

    def is_stale(self) -> bool:
        """Tells whether the claim has not been renewed for long, or is gone."""

    def release(self, claim: Content) -> None:
        """Releases the caller's claim."""


def unchanged_for(name: str, mark: Any, age: Callable[[], float] = lambda: 0.0) -> float:
    """Seconds since a claim got its mark: `age` when this process first saw it, and since then."""
    if name not in _seen or _seen[name][0] != mark:
        _seen[name] = mark, monotonic() - age()
    return monotonic() - _seen[name][1]


_seen: dict[str, tuple[Any, float]] = {}
"""{name of a claim: (its mark when last seen, when it was made by this process's clock)}."""


class ClaimFile:
    """The claim of a directory."""

    def __init__(self, directory: Path):
        self.directory, self.path = directory, directory / files.CLAIM

    def __str__(self) -> str:
        return str(self.directory)

    def read(self) -> Content | None:
        """The current claim, empty if it is damaged or being written; None if there is none."""
        try:
            return disk.read_json(self.path)
        except ConfigError:
            return {} if self.path.exists() else None

    def create(self, claim: Content) -> None:
        """Writes a claim; raises FileExistsError if there is one."""
        _write(self.path, claim)

    def replace(self, stale: Content, claim: Content) -> None:
        """Replaces a stale claim.

        Of several processes that find the same one, the first one to make the file named
        after it.
        """
        token = stale.get("token")
        taking = self.path.with_name(f"{files.CLAIM}.{token or 'unreadable'}")
        if (_age(taking) or 0.0) > SECONDS_TO_STALE:
            taking.unlink(missing_ok=True)
        try:
            _write(taking, claim)
        except FileExistsError:
            raise Claimed(f"{self} is being taken over by another process") from None
        if (self.read() or {}).get("token") != token:  # it was, before this file was made
            taking.unlink()
            raise Claimed(f"{self} was taken over by another process")
        taking.replace(self.path)

    def renew(self, claim: Content) -> bool:
        """Touches the file; returns whether it is still this process's claim."""
        if not self._stands(claim):
            return False
        os.utime(self.path)
        return True

    def is_stale(self) -> bool:
        """Tells whether the file has not been touched for long, or is gone."""
        age = _age(self.path)
        return age is None or age > SECONDS_TO_STALE

    def release(self, claim: Content) -> None:
        """Removes the file, unless another process has replaced it."""
        if self._stands(claim):
            self.path.unlink(missing_ok=True)

    def _stands(self, claim: Content) -> bool:
        there = self.read()
        return there is not None and there.get("token", claim["token"]) == claim["token"]


def _write(path: Path, claim: Content) -> None:
    """Writes a claim to a new file."""
    with path.open("x", encoding="utf-8") as file:
        file.write(disk.sealed_text(dict(claim)))


def _age(path: Path) -> float | None:
    """Seconds since a file was touched, by the clock of its storage; None if it does not exist.

    That clock is asked once about every touch, as it takes a new file. A touch in the future, as
    some clock was put right in between, is taken for one of the moment in which it is first seen.
    """
    try:
        touched = path.stat().st_mtime
    except FileNotFoundError:
        return None
    return unchanged_for(str(path), touched, lambda: max(0.0, _now(path.parent) - touched))


def _now(directory: Path) -> float:
    """The time by the clock of a storage, or by that of this machine if it cannot be written to."""
    try:
        with tempfile.TemporaryFile(dir=directory, prefix=".clock.") as probe:
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


class Claim:
    """A directory, local or in a bucket, claimed by this process.

    Attributes:
      lost: whether another process has taken it over, because this one was stalled for too long.
      locked: whether a lock keeps out other processes of this machine.
      renewed_at: when it was last certain to be this process's; see `holds_for`.

    Args:
      place: where the claim is kept.
      token: identifies it.
      machine: identifies the machine since its last start, and what of it processes share.
    """

    def __init__(self, place: ClaimPlace, token: str, machine: str | None = None):
        self.place, self.token, self.machine = place, token, machine or boot()
        self.lost = self.locked = False
        self.ended = threading.Event()
        self.writing = threading.Lock()
        self.renewed_at = 0.0

    @property
    def content(self) -> dict[str, Any]:
        """The description of this process in its claim, for others."""
        own = {"host": socket.gethostname(), "boot": self.machine, "pid": os.getpid()}
        return {**own, "pids": pid_namespace(), "token": self.token}

    def take(self, locked: bool) -> None:
        """Writes the claim, if there is none or its process is gone.

        Args:
          locked: whether no other process of the same `machine` can be working in the place.

        Raises:
          Claimed: if another process runs there.
        """
        self.locked, began = locked, since_boot()
        try:
            self.place.create(self.content)
        except FileExistsError:
            there = self.place.read() or {}
            ended = there.get("released")
            ended = ended or (locked and there.get("boot") == self.machine)  # or it has the lock
            if not ended and not self.place.is_stale():
                raise Claimed(
                    f"{self.place} is being run by {_named(there)}; wait for it or choose another "
                    "directory"
                ) from None
            self.place.replace(there, self.content)
        self.renewed_at = began

    def keep(self) -> None:
        """Renews the claim until the run ends."""
        while not self.ended.wait(SECONDS_BETWEEN_RENEWALS):
            with contextlib.suppress(OSError, ConfigError):  # the storage may be away for a moment
                if not self.renew():
                    return

    def renew(self) -> bool:
        """Renews the claim; returns whether it is valid, and records if it is lost."""
        with self.writing:
            began = since_boot()
            if self.ended.is_set():
                return False
            if self.lost or not self.place.renew(self.content):
                self.lost = True
            else:
                self.renewed_at = began
        return not self.lost

    def holds_for(self, seconds: float) -> bool:
        """Tells whether nobody can take over the claim within this many seconds."""
        stands = not self.lost and not self.ended.is_set()
        return stands and since_boot() + seconds < self.renewed_at + SECONDS_TO_STALE

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renews the claim on a thread inside the block, and releases it at the end."""
        self.keeper = threading.Thread(target=self.keep, daemon=True)
        self.keeper.start()
        try:
            yield
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Releases the claim."""
        self.ended.set()
        self.keeper.join()
        with self.writing:
            if not self.lost:
                self.place.release(self.content)


@contextmanager
def claimed(directory: Path) -> Iterator[Claim]:
    """Keeps other processes from working in a directory.

    Raises:
      Claimed: if another one does.
    """
    with lock(directory) as locked:
        claim = Claim(ClaimFile(directory), uuid.uuid4().hex)
        claim.take(locked)
        with claim.kept():
            yield claim


@contextmanager
def lock(directory: Path) -> Iterator[bool]:
    """Locks a directory against other local processes; yields False if its storage has no locks.

    Raises:
      Claimed: if another process has locked it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            raise Claimed(
                f"{directory} is being run by another process; wait for it or choose another "
                "directory"
            ) from None
        except OSError:
            locked = False
        yield locked
    finally:
        os.close(descriptor)


def owner(directory: Path) -> str | None:
    """Names the process that works in a directory, if this one can see it; None if none does."""
    place = ClaimFile(directory)
    there = place.read()
    if there is None or there.get("released") or place.is_stale():
        return None
    own = pid_namespace()
    seen = there.get("boot") == boot() and there.get("pids", own) == own
    if seen and not _is_alive(there.get("pid")):
        return None
    return _named(there)


def _named(claim: Content) -> str:
    """The process of a claim, for a message."""
    if not claim:
        return f"a process that its {files.CLAIM} does not tell"
    return f"process {claim.get('pid')} on {claim.get('host')}"


def since_boot() -> float:
    """Seconds since this machine was started, including those suspended."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _is_alive(pid: Any) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def boot() -> str:
    """Identifies this machine since its last start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def pid_namespace() -> str | None:
    """Identifies the processes of this machine that this one sees: those of its container.

    None where the system has no such namespaces.
    """
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
