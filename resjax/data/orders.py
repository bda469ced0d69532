"""Orders of examples that are read one by one: the example in each row of the batch of a step."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import numpy as np

from resjax.data.resident import training_order


def rows_of_host(
    devices: Sequence[jax.Device], host: int, batch_size: int, micro_batches: int = 1
) -> np.ndarray:
    """The rows of a batch that a host's devices take, as divided by `Parallel.shard`.

    A batch is `[micro_batches, devices, n]`; a host takes the rows of its own devices in every
    micro-batch.

    Raises:
      ValueError: if the batch cannot be cut like this.
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
    """The order of `evaluation_batches`: every example once, the last batch padded with the first.

    An example that cannot be decoded is counted nowhere: it is black and marked as not valid.
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
        index = step * self.batch_size + rows.astype(np.int64)
        return np.zeros_like(index), index % self.examples, index < self.examples
