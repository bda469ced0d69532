"""The feed of images that are streamed: decoded when they are needed, by other processes."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resjax.data import streaming
from resjax.data.batch import Batch, Mixed
from resjax.data.orders import rows_of_host
from resjax.data.source import Split, first
from resjax.data.statistics import STATISTICS
from resjax.data.views import evaluation_view, training_view
from resjax.training.feeds import EXAMPLES_AXIS, evaluated, left_out, viewed
from resjax.training.plan import Plan


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
        self.plan = plan
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

    def inputs(self, steps: range, length: int) -> Any:
        micro, parallel = self.plan.config.train.micro_batches, self.plan.parallel
        read = [self._read(step) for step in steps] or [self._unread()]
        read += read[-1:] * (length - len(read))  # they are not used

        def call(*arrays: np.ndarray) -> Any:
            # A single batch is not copied, which can take as long as a short step.
            whole = arrays[0] if length == 1 else np.stack(arrays)
            whole = whole.reshape(length, micro, -1, *arrays[0].shape[1:])
            return parallel.shard_own(whole, EXAMPLES_AXIS)

        return jax.tree.map(call, *read)

    def _read(self, step: int) -> Batch:
        """The rows of this host in the batch of a step."""
        self.batches = self.batches or self._training()
        self.batches.set_state({"step": step, "skipped": self.batches.skipped})
        read: Any = next(self.batches)
        return Batch(read.images, read.labels, read.mixed)

    def _unread(self) -> Batch:
        """A batch of zeros with the shapes of one that is read."""
        parallel = self.plan.parallel
        rows = self.plan.config.train.batch_size * len(parallel.here) // parallel.count
        images: Any = np.zeros((rows, *self.plan.image_shape), np.uint8)
        labels: Any = np.zeros(rows, np.int32)
        shares: Any = np.zeros(rows, np.float32)
        return Batch(images, labels, None if self.plan.mixing is None else Mixed(labels, shares))

    def training_batches(self, steps: range) -> Iterator[Batch]:
        micro = self.plan.config.train.micro_batches
        with contextlib.closing(self._training()) as batches:
            batches.set_state({"step": steps.start, "skipped": 0})
            for _ in steps:
                batch = next(batches)
                for images, labels in zip(
                    np.split(batch.images, micro), np.split(batch.labels, micro), strict=True
                ):
                    yield self._on_devices(images, labels)

    def evaluation_batches(self, split: str, size: int) -> Iterator[tuple[Batch, Any]]:
        for batch in self._pass(split, size):
            yield (
                self._on_devices(batch.images, batch.labels),
                self.plan.parallel.shard_own(batch.valid, 0),
            )

    def skipped(self, split: str, size: int) -> int:
        return self._pass(split, size).skipped

    def first_examples(self, split: str, number: int) -> Batch:
        # Read by every host for itself, so that each has all of them.
        source = self.splits[split]
        examples = first(source, min(number, len(source)))
        options = self._options(split) | {"workers": 0}
        batches = streaming.evaluation_feed(
            examples, self.evaluation_view, len(examples), **options
        )
        batch = next(batches)
        batches.close()
        read = batch.images[batch.valid].astype(np.float32)
        images = (read - self.constants.mean) / self.constants.deviation
        return self.plan.parallel.whole(Batch(images, batch.labels[batch.valid]))

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
            self.passes[split, size] = streaming.evaluation_feed(
                first(self.splits[split], self.evaluated[split]),
                self.evaluation_view,
                size,
                rows=rows_of_host(self.plan.parallel.devices, jax.process_index(), size),
                **self._options(split),
            )
        return self.passes[split, size]

    def _training(self) -> Any:
        config, parallel = self.plan.config, self.plan.parallel
        return streaming.training_feed(
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

    def _on_devices(self, images: np.ndarray, labels: np.ndarray) -> Batch:
        parallel = self.plan.parallel
        batch = Batch(parallel.shard_own(images, 0), parallel.shard_own(labels, 0))
        return viewed(parallel, self.view, self.data, batch, parallel.shard(np.uint32(0)))
