"""A record of what this process waits for, such as a compiler, for display."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True)
class Wait:
    """Something that the process waits for.

    Attributes:
      what: a name for it.
      since: time of `time.monotonic` at which it began.
    """

    what: str
    since: float


_waits: list[Wait] = []
"""All current waits, the outermost first."""


when_over: list[Callable[[], None]] = []
"""Functions that are called as soon as no wait is left."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Records that this process waits for something inside the block."""
    wait = Wait(what, time.monotonic())
    _waits.append(wait)
    try:
        yield
    finally:
        _waits.remove(wait)
        if not _waits:
            for tell in when_over:
                tell()


def current() -> tuple[Wait, ...]:
    """Returns all current waits, the outermost first.

    >>> with waiting("plain-8"), waiting("compiling"):
    ...     [wait.what for wait in current()]
    ['plain-8', 'compiling']
    """
    return tuple(_waits)
