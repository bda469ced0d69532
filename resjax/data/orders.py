"""Orders of examples: the example in each row of the batch of a step."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np

from resjax.data.philox import random_words

Draw = Callable[[int, int, int], np.ndarray]
"""A pure function of a seed, an epoch and the number of examples."""

MOST_SEEDS, DRAWS = 32, 2
"""Number of seeds that may train side by side, and of what is drawn for an epoch of each: the order
of the examples, and random numbers for their mixing.
"""


def training_order(seed: int, step: int, batch_size: int, examples: int) -> np.ndarray:
    """Indices `[batch_size]` int32 of the batch at `step`, a pure function of the arguments.

    Epochs are permutations of all examples laid end to end, so a batch may hold the end of one
    epoch and the start of the next, and none is dropped or repeated before all were seen.

    >>> [training_order(seed=1, step=step, batch_size=3, examples=6).tolist() for step in range(2)]
    [[3, 5, 2], [0, 1, 4]]
    """
    epoch, start = divmod(step * batch_size, examples)
    parts, missing = [], batch_size
    while missing:
        part = by_epoch(_permutation, seed, examples)(epoch)[start : start + missing]
        parts.append(part)
        missing -= len(part)
        epoch, start = epoch + 1, 0
    return np.concatenate(parts)


def training_epochs(step: int, batch_size: int, examples: int) -> np.ndarray:
    """The epochs `[batch_size]` int32, from 0, in which `training_order` shows its examples."""
    first = step * batch_size
    return (np.arange(first, first + batch_size) // examples).astype(np.int32)


@functools.lru_cache(MOST_SEEDS * DRAWS)
def by_epoch(draw: Draw, seed: int, examples: int) -> Callable[[int], np.ndarray]:
    """A function from an epoch to what is drawn for it, which keeps the last two epochs.

    The function itself is cached, one for each seed of those that may train side by side.
    """
    return functools.lru_cache(2)(lambda epoch: draw(seed, epoch, examples))


def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    words = random_words((seed, epoch), examples)
    return np.argsort(words, kind="stable").astype(np.int32)


MOST_BAD = 100
"""Number of consecutive undecodable examples after which reading fails."""


class ExampleOrder(Protocol):
    """An assignment of examples to the rows of the batch at each step.

    Attributes:
      seed: seed of the views.
      examples: number of examples in the split.
      steps: number of steps in one pass; None is without end.
      substitutes: how many of the next examples are tried in place of one that cannot be
        decoded; with 0, the place is marked as not valid.
    """

    seed: int
    examples: int
    steps: int | None
    substitutes: int

    def places(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs, examples and validity, `[n]` each, of the rows `[n]` at a step."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingOrder:
    """The order of `training_order`: epochs are permutations laid end to end.

    An example that cannot be decoded is replaced by the one with the next number, the last by the
    first. The place keeps its random numbers, so the substitute is seen in another view than in its
    own place.
    """

    seed: int
    batch_size: int
    examples: int
    steps = None
    substitutes = MOST_BAD - 1

    def places(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs, examples and validity, `[n]` each, of the rows `[n]`; all are valid."""
        epochs = (step * self.batch_size + rows.astype(np.int64)) // self.examples
        examples = training_order(self.seed, step, self.batch_size, self.examples)[rows]
        return epochs, examples, np.ones(len(rows), bool)


@dataclasses.dataclass(frozen=True)
class EvaluationOrder:
    """One pass over a split, every example once.

    The last batch is filled up with the first examples, marked as not valid. An example that cannot
    be decoded is counted nowhere: it is black and marked as not valid.
    """

    batch_size: int
    examples: int
    seed = 0
    substitutes = 0

    @property
    def steps(self) -> int:
        """The number of batches, the last of which may be padded."""
        return -(-self.examples // self.batch_size)

    def places(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs, examples and validity, `[n]` each, of the rows `[n]`; all epochs are 0."""
        index = (step * self.batch_size + rows).astype(np.int32)
        return np.zeros_like(index), index % self.examples, index < self.examples


def evaluation_batches(examples: int, batch_size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of `EvaluationOrder`: pairs of indices and validity, `[batch_size]` each.

    >>> for index, valid in evaluation_batches(examples=5, batch_size=3):
    ...     print(index.tolist(), valid.tolist())
    [0, 1, 2] [True, True, True]
    [3, 4, 0] [True, True, False]
    """
    order, rows = EvaluationOrder(batch_size, examples), np.arange(batch_size)
    return [order.places(step, rows)[1:] for step in range(order.steps)]


def rows_of_host(
    devices: Sequence[jax.Device], host: int, batch_size: int, micro_batches: int = 1
) -> np.ndarray:
    """The rows of a batch that a host's devices take, as divided by `Parallel.shard`.

    A batch is `[micro_batches, devices, n]`; a host takes the rows of its own devices in every
    micro-batch.

    Raises:
      ValueError: if the batch cannot be split like this.
    """
    parts = micro_batches * len(devices)
    if batch_size % parts:
        raise ValueError(
            f"a batch of {batch_size} is not a multiple of {parts}, micro-batches times devices; "
            f"nearest: {max(1, round(batch_size / parts)) * parts}"
        )
    own = [n for n, device in enumerate(devices) if device.process_index == host]
    rows = np.arange(batch_size).reshape(micro_batches, len(devices), -1)
    return rows[:, own].reshape(-1)
