"""Feeds, which bring the images of a run to its devices."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from resjax.data.mixing import words_of_resident
from resjax.data.orders import rows_of_host
from resjax.data.resident import (
    STATISTICS,
    Batch,
    Mixed,
    Resident,
    evaluation_batches,
    no_room_message,
    to_device,
    training_epochs,
    training_order,
)
from resjax.data.source import First, Split
from resjax.training.parallel import Parallel
from resjax.training.plan import Plan, evaluation_view, training_view
from resjax.training.programs import program

NO_MEMORY = "RESOURCE_EXHAUSTED"
"""Status in XLA's error message when the memory of a device is full."""

CUT = 2
"""Axis along which the pieces of a call, `[k, micro_batches, N, ...]`, are split over the
devices."""


class Feed(Protocol):
    """The source of a run's batches on its devices.

    A call of the training steps takes its batches as pieces: numbers of examples where the images
    are resident, the images themselves where they are streamed.

    Attributes:
      data: arrays that the view needs beside the pieces, whole on every device.
      evaluated: {split: number of its examples that a clean evaluation uses}.
      left_out: {split: {image: complaint}} of the images that could not be read so far.
    """

    data: Any
    evaluated: dict[str, int]
    left_out: dict[str, dict[str, str]]

    @property
    def view(self) -> Callable[[Any, Any, jax.Array], Batch]:
        """Function of data, pieces `[N, ...]` and a seed that makes their batch.

        It is called inside a compiled program; feeds whose views are equal share a program.
        """
        ...

    def pieces(self, steps: range, calls: int) -> Any:
        """Pieces `[calls, micro_batches, N, ...]` of some steps' batches, split over the devices.

        There may be more `calls` than steps; the pieces beyond the last step are not used.
        """
        ...

    def training_batches(self, steps: range) -> Iterator[Batch]:
        """Yields the micro-batches of some steps as in training, split over the devices.

        Images that are mixed have their own labels alone.
        """
        ...

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        """Yields each evaluated example of a split once, as (batch, `[size]` marks of valid ones).

        Both are cut over the devices.
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
    return (ResidentFeed if isinstance(plan.source.train, Split) else StreamingFeed)(plan)


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
            kind = plan.parallel.devices[0].device_kind
            raise no_room_message(plan.source.image_bytes, f"the memory of {kind}") from None
        self.data: Resident = self.splits["train"]
        self.evaluated, self.left_out = evaluated(plan), left_out(plan)

    def pieces(self, steps: range, calls: int) -> Any:
        return self.pieces_of(self.plan.config.seed, steps, calls)

    def pieces_of(self, seed: int, steps: range, calls: int) -> Any:
        """Pieces as those of `Feed.pieces`, of the run of a seed."""
        rows = [self._rows(seed, step) for step in steps or range(1)]
        rows += rows[-1:] * (calls - len(rows))  # they are not used
        micro = self.plan.config.train.micro_batches

        def cut(*parts: np.ndarray) -> Any:
            call = np.stack(parts).reshape(calls, micro, -1, *parts[0].shape[1:])
            return self.plan.parallel.pieces(call, CUT)

        return jax.tree.map(cut, *rows)

    def training_batches(self, steps: range) -> Iterator[Batch]:
        return self.training_batches_of(self.plan.config.seed, steps)

    def training_batches_of(self, seed: int, steps: range) -> Iterator[Batch]:
        """Yields batches as those of `Feed.training_batches`, of the run of a seed."""
        parallel, train = self.plan.parallel, self.plan.config.train
        own = parallel.pieces(np.uint32(seed))
        for step in steps:
            rows = self._rows(seed, step)
            for part in np.split(np.arange(train.batch_size), train.micro_batches):
                pieces = jax.tree.map(lambda whole, p=part: parallel.pieces(whole[p], 0), rows)
                batch = _viewed(parallel, self.view, self.data, pieces, own)
                yield batch._replace(mixed=None)

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        parallel = self.plan.parallel
        data, batches = self.splits[split], evaluation_batches(self.evaluated[split], size)
        # Apart from the evaluation, whose program all splits then share.
        arguments = data, parallel.pieces(batches[0][0], 0)
        take = program(Resident.take, (), arguments, **parallel.across((None, 0), out=0))
        for index, valid in batches:
            yield take(data, parallel.pieces(index, 0)), parallel.pieces(valid, 0)

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


class Constants(NamedTuple):
    """Mean and standard deviation that streamed images are standardised by, `[C]` each."""

    mean: jax.Array | np.ndarray
    deviation: jax.Array | np.ndarray


def standardised(constants: Constants, batch: Batch, seed: jax.Array) -> Batch:
    """Standardises to (image - mean) / deviation in float32; the images are augmented already."""
    images = batch.images.astype(jnp.float32)
    return batch._replace(images=(images - constants.mean) / constants.deviation)


class StreamingFeed:
    """A feed of images decoded on demand; each host reads its part of every batch."""

    view = staticmethod(standardised)

    def __init__(self, plan: Plan):
        from resjax.data import streaming

        self.plan, self.streaming = plan, streaming
        self.splits = {n: s for n, s in plan.source.splits.items() if not isinstance(s, Split)}
        mean, deviation = STATISTICS[plan.config.data.standardise](
            np.zeros((1, *plan.image_shape), np.uint8)
        )
        self.constants = Constants(np.asarray(mean, np.float32), np.asarray(deviation, np.float32))
        self.data = plan.parallel.whole(self.constants)
        self.evaluated, self.left_out = evaluated(plan), left_out(plan)
        self.training_view = training_view(plan.config.data)
        self.evaluation_view = evaluation_view(plan.config.data)
        self.batches: Any = None
        self.passes: dict[tuple[str, int], Any] = {}

    def pieces(self, steps: range, calls: int) -> Any:
        micro = self.plan.config.train.micro_batches
        own = self.plan.config.train.batch_size * self._share() // micro
        images = np.zeros((calls, micro, own, *self.plan.image_shape), np.uint8)
        labels = np.zeros((calls, micro, own), np.int32)
        mixed = Mixed._make((labels.copy(), np.zeros_like(labels, np.float32)))
        call = Batch._make((images, labels, None if self.plan.mixing is None else mixed))
        if self.batches is None and steps:
            self.batches = self._training()
        for row, step in enumerate(steps):
            self.batches.set_state({"step": step, "skipped": self.batches.skipped})
            read = next(self.batches)
            read = Batch._make((read.images, read.labels, read.mixed))
            for whole, its in zip(*map(jax.tree.leaves, (call, read)), strict=True):
                whole[row] = its.reshape(whole.shape[1:])
        return jax.tree.map(lambda whole: self.plan.parallel.own_pieces(whole, CUT), call)

    def training_batches(self, steps: range) -> Iterator[Batch]:
        micro = self.plan.config.train.micro_batches
        batches = self._training()
        batches.set_state({"step": steps.start, "skipped": 0})
        for _ in steps:
            batch = next(batches)
            for images, labels in zip(
                np.split(batch.images, micro), np.split(batch.labels, micro), strict=True
            ):
                yield self._on_devices(images, labels)
        batches.close()

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        for batch in self._pass(split, size):
            yield (
                self._on_devices(batch.images, batch.labels),
                self.plan.parallel.own_pieces(batch.valid, 0),
            )

    def skipped(self, split: str, size: int) -> int:
        return self._pass(split, size).skipped

    def first_examples(self, split: str, number: int) -> Batch:
        # Read by every host for itself, so that each has all of them.
        source = self.splits[split]
        first = First(source, min(number, len(source)))
        options = self._options(split) | {"workers": 0}
        batches = self.streaming.evaluation_feed(first, self.evaluation_view, len(first), **options)
        batch = next(batches)
        batches.close()
        read = batch.images[batch.valid].astype(np.float32)
        images = (read - self.constants.mean) / self.constants.deviation
        return self.plan.parallel.whole(Batch._make((images, batch.labels[batch.valid])))

    def get_state(self) -> dict[str, int]:
        return {"skipped": self.batches.skipped if self.batches else 0}

    def set_state(self, state: dict[str, int]) -> None:
        self.batches = self.batches or self._training()
        self.batches.set_state({"step": self.batches.step, **state})

    def close(self) -> None:
        for batches in (self.batches, *self.passes.values()):
            if batches is not None:
                batches.close()

    def _pass(self, split: str, size: int) -> Any:
        """Feed of one evaluation, kept since its workers read ahead the start of the next pass."""
        if (split, size) not in self.passes:
            self.passes[split, size] = self.streaming.evaluation_feed(
                First(self.splits[split], self.evaluated[split]),
                self.evaluation_view,
                size,
                rows=rows_of_host(self.plan.parallel.devices, jax.process_index(), size),
                **self._options(split),
            )
        return self.passes[split, size]

    def _training(self) -> Any:
        config, parallel = self.plan.config, self.plan.parallel
        return self.streaming.training_feed(
            self.splits["train"],
            self.training_view,
            config.seed,
            config.train.batch_size,
            rows=rows_of_host(
                parallel.devices,
                jax.process_index(),
                config.train.batch_size,
                config.train.micro_batches,
            ),
            mixing=self.plan.mixing,
            **self._options("train"),
        )

    def _options(self, split: str) -> dict[str, Any]:
        data, left_out = self.plan.config.data, self.left_out[split]
        return {"workers": data.workers, "on_bad": data.on_bad, "left_out": left_out}

    def _share(self) -> Fraction:
        """Fraction of a batch that this host's devices take."""
        devices = self.plan.parallel.devices
        own = sum(device.process_index == jax.process_index() for device in devices)
        return Fraction(own, len(devices))

    def _on_devices(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        parallel = self.plan.parallel
        pieces = Batch(parallel.own_pieces(images, 0), parallel.own_pieces(labels, 0))
        return _viewed(parallel, self.view, self.data, pieces, parallel.pieces(np.uint32(0)))


def _viewed(parallel: Parallel, view: Callable, *arguments: Any) -> Batch:
    """The batch that a view makes of data, pieces and a seed, split over the devices like these."""
    return program(view, (), arguments, **parallel.across((None, 0, None), out=0))(*arguments)
