"""What this process waits for, such as a compiler, for those who show it to a person."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@dataclasses.dataclass(frozen=True)
class Wait:
    """Something that takes its time.

    Attributes:
      what: a name for it.
      since: time of `time.monotonic` at which it began.
    """

    what: str
    since: float


_waits: list[Wait] = []
"""All that is waited for now, each for the sake of the one before it."""


when_over: list[Callable[[], None]] = []
"""Functions that are called as soon as nothing is waited for any more."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Notes that this process waits for something as long as the block lasts."""
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
    """All that is waited for now, each for the sake of the one before it.

    >>> with waiting("plain-8"), waiting("compiling"):
    ...     [wait.what for wait in current()]
    ['plain-8', 'compiling']
    """
    return tuple(_waits)
