"""Terminals that are closed while a command works, which goes on without them."""

import errno
import io
from typing import TextIO


class _Terminal(io.FileIO):
    """A terminal; what is written after it was closed goes nowhere."""

    def write(self, text: memoryview) -> int:  # type: ignore[override]
        try:
            return super().write(text)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(text)


def outliving_terminal(stream: TextIO | None) -> TextIO | None:
    """A stream to the same terminal whose writes do not fail when that is closed; others as is.

    The signal that tells of it comes a moment later, or to the leader of the session alone.
    """
    if stream is None or not stream.isatty():
        return stream
    raw = _Terminal(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=True
    )
