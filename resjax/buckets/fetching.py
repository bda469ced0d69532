"""Messages about long downloads from a bucket, and an error if the disk lacks the room."""

import contextlib
import shutil
import time
from pathlib import Path

from resjax.buckets.objects import Listed
from resjax.config import ConfigError, Notice, notify
from resjax.config.addresses import Address
from resjax.config.text import space

SECONDS_TO_TELL, SECONDS_BETWEEN_LINES = 5.0, 30.0
"""Seconds until a line is printed about a download, and from it to the next line."""

ROOM_TO_LEAVE = 1 << 28
"""Bytes that must stay free on the disk."""


def show_notice(line: str) -> None:
    """Shows a line about work that continues."""
    with contextlib.suppress(Notice):  # it ends nothing where warnings are errors
        notify(line)


class Fetch:
    """Reports a long download: how much has arrived, and when all of it will have.

    Args:
      address: the address that is fetched from.
      files: number of files.
      size: total bytes.
    """

    def __init__(self, address: Address, files: int, size: int):
        self.address, self.files, self.size = address, files, size
        self.here, self.bytes_here = 0, 0
        self.began = time.monotonic()
        self.due = self.began + SECONDS_TO_TELL

    def arrived(self, entry: Listed) -> None:
        """Counts a file that has arrived, and prints a line if one is due."""
        self.here += 1
        self.bytes_here += entry.size
        now = time.monotonic()
        if now < self.due or self.here == self.files:
            return
        self.due = now + SECONDS_BETWEEN_LINES
        done = self.bytes_here / self.size if self.size else self.here / self.files
        left = (now - self.began) * (1 - done) / done if done else 0.0
        show_notice(
            f"fetching from {self.address}: {self.here:,} of {self.files:,} files, "
            f"{space(self.bytes_here)} of {space(self.size)}, {left / 60:.1f} min left; "
            "if it is cut short, it goes on from there"
        )


def refuse_too_little_room(directory: Path, size: int, address: Address) -> None:
    """Raises ConfigError if the bytes do not fit on the disk of a directory."""
    free = shutil.disk_usage(directory).free
    if size and size + ROOM_TO_LEAVE > free:
        raise ConfigError(
            f"{address} takes {space(size)} here, and {space(free)} are free in "
            f"{directory}; make room, or set XDG_CACHE_HOME to a directory on a larger disk"
        )
