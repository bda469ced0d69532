"""Writers that pass the numbers of `metrics.jsonl` to tools that plot them, such as TensorBoard.

The lines are the source: what such a tool has of a run is made from them, except for histograms.
"""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from resjax.config import flatten
from resjax.config.naming import run_id
from resjax.config.tables import Table
from resjax.files import replacing
from resjax.runs import files

AXES = ("step", "epoch")

_POSITIVE = 1e-12 * 1.1 ** np.arange(774)

BUCKETS = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])
"""Edges of the buckets of histograms, those of TensorFlow: up to 1e20, each a tenth wider."""

OF_A_PROBE = ".probe"
"""End of the name of a probe's event file."""


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line, apart from step and epoch; in the file others are null."""
    return {
        name: value
        for name, value in line.items()
        if name not in AXES and isinstance(value, int | float) and math.isfinite(value)
    }


class Writer(Protocol):
    """A writer of a run's lines for a tool that plots them; begins with those that there are."""

    def add(self, line: Mapping[str, Any]) -> None: ...

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files for TensorBoard, which reads all those in a directory: scalars and histograms.

    When a run goes on, the scalars are written anew from its lines. Histograms are nowhere else:
    those of its lines stay in the files of before, from which everything else is removed.

    Without a config they are scalars and figures of a probe, written from scratch. Neither touches
    the files of the other in one directory.
    """

    def __init__(
        self,
        directory: Path,
        config: ConfigDict | None = None,
        lines: Sequence[Mapping[str, Any]] = (),
    ):
        # tensorboardX would import PyTorch for the name of a type: a second and 200 MB a process.
        with hidden("torch"):
            from tensorboardX import event_file_writer, proto, summary

        directory.mkdir(parents=True, exist_ok=True)
        suffix = OF_A_PROBE if config is None else ""
        before = [
            path
            for path in directory.glob(f"{files.EVENTS}.*")
            if path.name.endswith(OF_A_PROBE) == bool(suffix)
        ]
        last = lines[-1]["step"] if lines else -1
        kept = [path for path in before if keep_histograms(path, last)]
        if kept:
            suffix = f".{time.time_ns()}"  # names of files that were begun in one second are equal
        # SummaryWriter would write from a queue: what it has flushed may not have been written yet.
        self.writer = event_file_writer.EventsWriter(str(directory / "events"), suffix)
        self.proto, self.summary = proto, summary
        for line in lines:
            self._write_scalars(line)
        self.writer.flush()

    def add(self, line: Mapping[str, Any]) -> None:
        self._write_scalars(line)
        self.writer.flush()

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self._write(step, self.summary.histogram(name, array, BUCKETS))
        self.writer.flush()

    def add_figures(self, step: int, paths: Iterable[Path]) -> None:
        """Adds PNG files as pictures, by name."""
        from matplotlib.image import imread

        for path in paths:
            picture = np.uint8(255 * imread(path)[..., :3])
            self._write(step, self.summary.image(path.stem, picture, dataformats="HWC"))
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()

    def _write_scalars(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line).items():
            self._write(line["step"], self.summary.scalar(name, value))

    def _write(self, step: int, summary: Any) -> None:
        event = self.proto.event_pb2.Event(wall_time=time.time(), step=step, summary=summary)
        self.writer.write_event(event)


def keep_histograms(path: Path, last: int) -> bool:
    """Removes all but the histograms up to step `last` from an event file, and tells if any are.

    Without any it removes the file.
    """
    events = list(_events(path.read_bytes()))
    kept = [
        framed
        for event, framed in events
        if event.step <= last and any(value.HasField("histo") for value in event.summary.value)
    ]
    if not kept:
        path.unlink()
        return False
    version = [framed for event, framed in events if event.file_version]
    with replacing(path) as partial:
        partial.write_bytes(b"".join([*version, *kept]))
    return True


def _events(content: bytes) -> Iterator[tuple[Any, bytes]]:
    """Yields the events of a file, and their bytes, up to one that is cut off or damaged.

    The bytes of an event are those of its length and of itself, each with a check sum behind.
    """
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    def checked(start: int, length: int) -> bytes | None:
        """The bytes at `start` if their check sum is theirs."""
        found, end = content[start : start + length], start + length
        check = int.from_bytes(content[end : end + 4], "little")
        return found if len(content) >= end + 4 and masked_crc32c(found) == check else None

    start = 0
    while (head := checked(start, 8)) is not None:
        length = int.from_bytes(head, "little")
        if (event := checked(start + 12, length)) is None:
            return
        yield Event.FromString(event), content[start : start + length + 16]
        start += length + 16


class WeightsAndBiases:
    """A run of Weights & Biases with the same name, which is resumed with this one.

    Its own environment variables, WANDB_MODE and WANDB_PROJECT, say whether and where it is sent.
    """

    def __init__(
        self, directory: Path, config: ConfigDict, lines: Sequence[Mapping[str, Any]] = ()
    ):
        import wandb

        self.histogram: Callable[..., Any] = wandb.Histogram  # takes any array
        self.run = wandb.init(
            id=run_id(config),
            name=run_id(config),
            dir=str(directory),
            config=flatten(config),
            resume="allow",
            settings=wandb.Settings(silent=True),
        )
        for line in lines:
            self.add(line)

    def add(self, line: Mapping[str, Any]) -> None:
        self.run.log(scalars(line), step=line["step"])

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        shown = {name: self.histogram(array) for name, array in arrays.items()}
        self.run.log(shown, step=step)

    def close(self) -> None:
        self.run.finish()


WRITERS = Table("log.writers", {"tensorboard": TensorBoard, "wandb": WeightsAndBiases})
"""Writers by name, as in `log.writers`."""


@contextmanager
def hidden(package: str) -> Iterator[None]:
    """Hides a package from imports in the block, unless it has been imported."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # so an import of it fails
    try:
        yield
    finally:
        del sys.modules[package]


def as_arrays(variables: Any) -> dict[str, np.ndarray]:
    """Returns {path: array} of the finite leaves, as a histogram cannot show others."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(jax.device_get(variables))
    named = {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
    return {name: array for name, array in named.items() if np.isfinite(array).all()}
