"""Feeds, which bring the images of a run to its devices."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import numpy as np

from resjax.data.batch import Batch
from resjax.data.mixing import words_of_resident
from resjax.data.orders import evaluation_batches, training_epochs, training_order
from resjax.data.resident import Resident, refused_by_device, to_device
from resjax.data.source import Split
from resjax.data.statistics import STATISTICS
from resjax.training.parallel import Parallel
from resjax.training.plan import Plan
from resjax.training.programs import program

NO_MEMORY = "RESOURCE_EXHAUSTED"
"""Status in XLA's error message when the memory of a device is full."""

EXAMPLES_AXIS = 2
"""Axis of a call's inputs `[k, micro_batches, N, ...]` that is split over the devices."""


class Feed(Protocol):
    """The source of a run's batches on its devices.

    A call of the training steps makes its batches from inputs: numbers of examples where the images
    are resident, the images themselves where they are streamed.

    Attributes:
      data: arrays that the view needs beside the inputs, whole on every device.
      evaluated: {split: number of its examples that a clean evaluation uses}.
      left_out: {split: {image: complaint}} of the images that could not be read so far.
    """

    data: Any
    evaluated: dict[str, int]
    left_out: dict[str, dict[str, str]]

    @property
    def view(self) -> Callable[[Any, Any, jax.Array], Batch]:
        """Function of data, inputs `[N, ...]` and a seed that makes their batch.

        It is called inside a compiled program; feeds whose views are equal share a program.
        """
        ...

    def inputs(self, steps: range, length: int) -> Any:
        """Inputs `[length, micro_batches, N, ...]` of some steps, split over the devices.

        The length may be larger than the number of steps; inputs beyond the last are not used.
        """
        ...

    def training_batches(self, steps: range) -> Iterator[Batch]:
        """Yields the micro-batches of some steps as in training, split over the devices.

        Images that are mixed have their own labels alone.
        """
        ...

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        """Yields each evaluated example of a split once, as (batch, `[size]` marks of valid ones).

        Both are split over the devices.
        """
        ...

    def skipped(self, split: str, size: int) -> int:
        """Number of examples in the last such evaluation that could not be decoded."""
        ...

    def first_examples(self, split: str, number: int) -> Batch:
        """First examples of a split, at most all, as evaluation sees them, on all devices."""
        ...

    def get_state(self) -> dict[str, int]:
        """Counts, for a checkpoint, that do not follow from the step; JSON can hold them."""
        ...

    def set_state(self, state: dict[str, int]) -> None:
        """Restores what `get_state` returned."""
        ...

    def close(self) -> None:
        """Stops the workers that read ahead."""
        ...


def make_feed(plan: Plan) -> Feed:
    """Makes the feed for the plan's source: resident or streaming."""
    if isinstance(plan.source.train, Split):
        return ResidentFeed(plan)
    # Grain, with which it reads, takes a second to import.
    from resjax.training.streaming_feed import StreamingFeed

    return StreamingFeed(plan)


def left_out(plan: Plan) -> dict[str, dict[str, str]]:
    """Copies {split: {image: complaint}} of what the source left out when it was made."""
    return {name: dict(plan.source.left_out.get(name, {})) for name in plan.source.splits}


def evaluated(plan: Plan) -> dict[str, int]:
    """Number of examples of each split that a clean evaluation uses, from the first on."""
    lengths = {name: len(split) for name, split in plan.source.splits.items()}
    most = plan.config.eval.train_examples or lengths["train"]
    return lengths | {"train": min(most, lengths["train"])}


class ResidentFeed:
    """A feed of images that every device holds whole; the compiled step picks its examples.

    Raises:
      ConfigError: if a device has no room for them.
    """

    def __init__(self, plan: Plan):
        self.plan, self.view = plan, plan.augmentation
        there = {name: s for name, s in plan.source.splits.items() if isinstance(s, Split)}
        statistics = STATISTICS[plan.config.data.standardise](there["train"].images)
        try:
            splits = {name: to_device(split, *statistics) for name, split in there.items()}
            self.splits = jax.block_until_ready(plan.parallel.whole(splits))
        except jax.errors.JaxRuntimeError as error:
            if NO_MEMORY not in str(error):
                raise
            raise refused_by_device(plan.source.image_bytes, plan.parallel.devices) from None
        self.data: Resident = self.splits["train"]
        self.evaluated, self.left_out = evaluated(plan), left_out(plan)

    def inputs(self, steps: range, length: int) -> Any:
        return self.inputs_of(self.plan.config.seed, steps, length)

    def inputs_of(self, seed: int, steps: range, length: int) -> Any:
        """Inputs as those of `Feed.inputs`, of the run of a seed."""
        rows = [self._rows(seed, step) for step in steps or range(1)]
        rows += rows[-1:] * (length - len(rows))  # they are not used
        micro = self.plan.config.train.micro_batches

        def stack(*arrays: np.ndarray) -> Any:
            call = np.stack(arrays).reshape(length, micro, -1, *arrays[0].shape[1:])
            return self.plan.parallel.shard(call, EXAMPLES_AXIS)

        return jax.tree.map(stack, *rows)

    def training_batches(self, steps: range) -> Iterator[Batch]:
        return self.training_batches_of(self.plan.config.seed, steps)

    def training_batches_of(self, seed: int, steps: range) -> Iterator[Batch]:
        """Yields batches as those of `Feed.training_batches`, of the run of a seed."""
        parallel, train = self.plan.parallel, self.plan.config.train
        key = parallel.shard(np.uint32(seed))
        for step in steps:
            rows = self._rows(seed, step)
            for part in np.split(np.arange(train.batch_size), train.micro_batches):
                inputs = jax.tree.map(lambda whole, p=part: parallel.shard(whole[p], 0), rows)
                batch = viewed(parallel, self.view, self.data, inputs, key)
                yield batch._replace(mixed=None)

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        parallel = self.plan.parallel
        data, batches = self.splits[split], evaluation_batches(self.evaluated[split], size)
        # Apart from the evaluation, whose program all splits then share.
        arguments = data, parallel.shard(batches[0][0], 0)
        take = program(Resident.take, (), arguments, **parallel.across((None, 0), out_axis=0))
        for index, valid in batches:
            yield take(data, parallel.shard(index, 0)), parallel.shard(valid, 0)

    def first_examples(self, split: str, number: int) -> Batch:
        return self.splits[split].take(np.arange(min(number, len(self.plan.source.splits[split]))))

    def skipped(self, split: str, size: int) -> int:
        return 0

    def get_state(self) -> dict[str, int]:
        return {}

    def set_state(self, state: dict[str, int]) -> None:
        pass

    def close(self) -> None:
        pass

    def _rows(self, seed: int, step: int) -> tuple:
        """Numbers of the examples in a batch and of their epochs, `[N]` each, and how they mix."""
        size, examples = self.plan.config.train.batch_size, len(self.plan.source.train)
        order = training_order(seed, step, size, examples)
        epochs = training_epochs(step, size, examples)
        if self.plan.mixing is None:
            return order, epochs
        words = words_of_resident(seed, epochs, order, examples)
        mix = self.plan.mixing.mix(words, order, examples, self.plan.image_shape[:2])
        return order, epochs, mix


def viewed(parallel: Parallel, view: Callable, *arguments: Any) -> Batch:
    """The batch that a view makes of data, inputs and a seed, split over the devices like these."""
    return program(view, (), arguments, **parallel.across((None, 0, None), out_axis=0))(*arguments)
