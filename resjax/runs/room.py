"""Room on the disk: a run without it ends with one line, and resumes when there is some."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resjax.config import message_of

REASONS = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file would be larger than this process may write (ulimit -f)",
}
"""Reasons for a lack of room, by error number."""


class NoRoom(OSError):
    """There is no room for a file; what was written before is kept."""


def no_room(path: Path, what: str, number: int = errno.ENOSPC) -> NoRoom:
    """The error for a file without room; `what` follows the reason."""
    remedy = "those before are kept, make room and start again"
    return NoRoom(number, f"{REASONS[number]} ({what}); {remedy}", str(path))


@contextmanager
def refused(path: Path, what: str) -> Iterator[None]:
    """Turns an error caused by a lack of room into `NoRoom`, whatever library raised it."""
    try:
        yield
    except NoRoom:
        raise
    except Exception as error:
        if number := _number(error):
            raise no_room(path, what, number) from None
        raise


def _number(error: BaseException | None) -> int | None:
    """The number of an error caused by a lack of room; libraries give it as text, or as a cause."""
    while error is not None:
        for number in REASONS:
            if getattr(error, "errno", None) == number or os.strerror(number) in message_of(error):
                return number
        error = error.__cause__ or error.__context__
    return None
