"""Writers that pass the numbers of `metrics.jsonl` to tools that plot them, such as TensorBoard.

The lines are the source: whatever such a tool has of a run is made from them.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ml_collections import ConfigDict

from resjax.config import flatten
from resjax.config.naming import run_id
from resjax.config.tables import Table

AXES = ("step", "epoch")

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
    """A writer of a run's lines for a tool that plots them."""

    def add(self, line: Mapping[str, Any]) -> None: ...

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """The event file of a run, written from scratch: scalars of its lines, histograms, figures.

    Without a config it is that of a probe. Neither replaces the other in one directory.
    """

    def __init__(self, directory: Path, config: ConfigDict | None = None):
        # tensorboardX would import PyTorch for the name of a type: a second and 200 MB a process.
        with hidden("torch"):
            from tensorboardX import SummaryWriter

        suffix = OF_A_PROBE if config is None else ""
        for stale in directory.glob("events.out.tfevents.*"):
            if stale.name.endswith(OF_A_PROBE) == bool(suffix):
                stale.unlink()
        self.writer = SummaryWriter(str(directory), filename_suffix=suffix, write_to_disk=True)

    def add(self, line: Mapping[str, Any]) -> None:
        for name, value in scalars(line).items():
            self.writer.add_scalar(name, value, line["step"])
        self.writer.flush()

    def add_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        for name, array in arrays.items():
            self.writer.add_histogram(name, array, step)
        self.writer.flush()

    def add_figures(self, step: int, paths: Iterable[Path]) -> None:
        """Adds PNG files as pictures, by name."""
        from matplotlib.image import imread

        for path in paths:
            picture = np.uint8(255 * imread(path)[..., :3])
            self.writer.add_image(path.stem, picture, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases with the same name, which is resumed with this one.

    Its own environment variables, WANDB_MODE and WANDB_PROJECT, say whether and where it is sent.
    """

    def __init__(self, directory: Path, config: ConfigDict):
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
