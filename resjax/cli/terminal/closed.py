"""Streams whose readers end while a command works, which goes on without them.

Such a reader is a terminal that is closed, a `head` that has seen enough, a `tee` that was killed.
"""

import errno
import io
from typing import TextIO

GONE = (errno.EIO, errno.EPIPE)
"""Errors of writing to a terminal that was closed, and to a pipe that nobody reads any more."""


class _Outliving(io.FileIO):
    """A file; what is written after its reader has gone goes nowhere."""

    def write(self, text: memoryview) -> int:  # type: ignore[override]
        try:
            return super().write(text)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return len(text)


def outliving(stream: TextIO | None) -> TextIO | None:
    """A stream to the same file whose writes do not fail when its reader goes.

    The signal that tells of a closed terminal comes a moment later, or to the leader of the session
    alone. A stream that is no file, as in a notebook, is returned as it is.
    """
    file = getattr(stream, "buffer", None)
    if stream is None or not isinstance(file, io.BufferedWriter | io.FileIO):
        return stream
    raw = _Outliving(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True
    )
