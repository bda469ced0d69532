"""The numbers of `metrics.jsonl` as an event file, for TensorBoard."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

AXES = ("step", "epoch")


class Events:
    """The event file of a run, made anew from the lines so far, and then added to.

    What is a number in a line is a scalar; the step is the axis.
    """

    def __init__(self, directory: Path, lines: Iterable[dict[str, Any]]):
        from tensorboardX import SummaryWriter

        for stale in directory.glob("events.out.tfevents.*"):
            stale.unlink()
        self.writer = SummaryWriter(str(directory), write_to_disk=True)
        for line in lines:
            self.add(line)

    def add(self, line: dict[str, Any]) -> None:
        """Adds the numbers of one line."""
        for name, value in line.items():
            if name not in AXES and isinstance(value, int | float):
                self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self.writer.close()
