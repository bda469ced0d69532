"""How the images of a run get to its devices."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from resjax.data.resident import (
    STATISTICS,
    Batch,
    Resident,
    evaluation_batches,
    to_device,
    training_epochs,
    training_order,
)
from resjax.training.parallel import Parallel
from resjax.training.plan import Plan

CUT = 2
"""The axis along which the pieces of a call, `[k, micro_batches, N, ...]`, are cut."""


class Feed(Protocol):
    """What a run is fed by.

    Attributes:
      view: `view(data, pieces, seed)`, the batch of pieces `[N, ...]`, inside a compiled program;
        equal views are one program.
      data: what the view needs beside the pieces, on all devices.
      lengths: number of examples of each split.
    """

    view: Callable[[Any, Any, jax.Array], Batch]
    data: Any
    lengths: dict[str, int]

    def pieces(self, steps: range, calls: int) -> Any:
        """For the batches of some steps `[calls, micro_batches, N, ...]`, cut over the devices.

        There may be more `calls` than steps; what is beyond is not used.
        """
        ...

    def training_batches(self, steps: range) -> Iterator[Batch]:
        """The micro-batches of some steps as they are trained on, cut over the devices."""
        ...

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        """Every example of a split once, with which `[size]` are valid; cut over the devices."""
        ...

    def first_images(self, number: int) -> jax.Array:
        """Training images `[number, H, W, C]`, as evaluation sees them."""
        ...


class ResidentFeed:
    """Splits that every device has whole; the compiled step takes its examples itself."""

    def __init__(self, plan: Plan):
        self.plan, self.view = plan, plan.augmentation
        statistics = STATISTICS[plan.config.data.standardise](plan.source.train.images)
        self.splits = plan.parallel.whole(
            {name: to_device(split, *statistics) for name, split in plan.source.splits.items()}
        )
        self.data: Resident = self.splits["train"]
        self.lengths = {name: len(split) for name, split in plan.source.splits.items()}

    def pieces(self, steps: range, calls: int) -> Any:
        size = self.plan.config.train.batch_size
        order = np.zeros((2, calls, size), np.int32)
        for row, step in enumerate(steps):
            order[:, row] = self._order(step)
        shape = (calls, self.plan.config.train.micro_batches, -1)
        return tuple(self.plan.parallel.pieces(part.reshape(shape), CUT) for part in order)

    def training_batches(self, steps: range) -> Iterator[Batch]:
        parallel, config = self.plan.parallel, self.plan.config
        seed = parallel.pieces(np.uint32(config.seed))
        take = _taking(parallel, self.view)
        for step in steps:
            for index, epochs in zip(
                *(np.split(part, config.train.micro_batches) for part in self._order(step)),
                strict=True,
            ):
                pieces = parallel.pieces(index, 0), parallel.pieces(epochs, 0)
                yield take(self.data, pieces, seed)

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        parallel = self.plan.parallel
        for index, valid in evaluation_batches(self.lengths[split], size):
            batch = _clean(parallel)(self.splits[split], parallel.pieces(index, 0))
            yield batch, parallel.pieces(valid, 0)

    def first_images(self, number: int) -> jax.Array:
        return self.data.take(np.arange(min(number, self.lengths["train"]))).images

    def _order(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        config, examples = self.plan.config, self.lengths["train"]
        size = config.train.batch_size
        return (
            training_order(config.seed, step, size, examples),
            training_epochs(step, size, examples),
        )


@functools.cache
def _taking(parallel: Parallel, view: Callable) -> Callable:
    return parallel.function(view, (None, 0, None), out=0)


@functools.cache
def _clean(parallel: Parallel) -> Callable:
    """Apart from what evaluates, so that splits of different sizes share the large program."""
    return parallel.function(Resident.take, (None, 0), out=0)
