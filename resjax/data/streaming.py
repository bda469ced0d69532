"""Streaming data: batches of encoded images, made here or by worker processes through Grain.

Grain is slow to import: import this module where a split is streamed.
"""

import dataclasses
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from absl import flags

from resjax.config.validation import refuse_value
from resjax.data.batch import Mixed
from resjax.data.mixing import Mixing
from resjax.data.orders import EvaluationOrder, ExampleOrder, TrainingOrder
from resjax.data.reading import Chunk, ChunkReader, ReadError, UnreadChunk, line_of
from resjax.data.ring import MOST_CHUNKS, Ring, chunks_that_fit
from resjax.data.source import Encoded
from resjax.data.transforms import View
from resjax.interruption import kept_from_children, leave_to_parent


class HostBatch(NamedTuple):
    """The rows of a batch that one host takes.

    Attributes:
      images: `[n, size, size, channels]` uint8.
      labels: `[n]` int32.
      valid: `[n]` bool; rows that are not valid are counted nowhere.
      mixed: what the images are mixed with, if they are.
    """

    images: np.ndarray
    labels: np.ndarray
    valid: np.ndarray
    mixed: Mixed | None = None


CHUNK_ROWS = 32
"""Maximum rows of a chunk, which one worker reads, so that all workers share the next batch."""


class HostBatches:
    """An iterator of `HostBatch`, whose whole state is the number of the next step.

    Batches are a pure function of the order, so it starts at any step at once, and the number of
    workers makes no difference. If the order has a number of steps, the batches are one pass over
    the split: it can be iterated again, and its workers read the start of the next pass ahead. The
    next batch is read before it is asked for.

    Args:
      encoded: the split.
      view: makes the images.
      order: the order of the examples.
      batch_size: the rows of a batch, of all hosts together.
      rows: the rows of a batch that this host takes; None is all.
      workers: number of processes that read; with 0 a thread of this process does.
      on_bad: what is done about an image that cannot be decoded: "refuse" raises ReadError, "skip"
        leaves it out.
      left_out: receives the bad images that were skipped, {name: what is wrong}.
      mixing: how images are mixed with others of the split; None is not.

    Raises:
      ValueError: if an argument is out of its range.
      ReadError: when an example is asked for that cannot be read, or if a worker ends.
    """

    def __init__(
        self,
        encoded: Encoded,
        view: View,
        order: ExampleOrder,
        batch_size: int,
        rows: np.ndarray | None = None,
        workers: int = 0,
        on_bad: str = "refuse",
        left_out: dict[str, str] | None = None,
        mixing: Mixing | None = None,
    ):
        rows = np.arange(batch_size) if rows is None else np.asarray(rows)
        refuse_value("data.on_bad", on_bad)
        if not len(rows) or rows.min() < 0 or rows.max() >= batch_size:
            raise ValueError(f"rows of a batch of {batch_size} are some of 0 to {batch_size - 1}")
        if workers < 0 or not len(encoded):
            raise ValueError(f"{len(encoded)} examples and {workers} workers; use at least 1 and 0")
        self.steps, self.workers = order.steps, workers
        self.step = self.skipped = self._passes = 0
        self.left_out = {} if left_out is None else left_out
        chunks = np.array_split(rows, -(-len(rows) // CHUNK_ROWS) if workers else 1)
        self._reader = ChunkReader(encoded, view, order, chunks, on_bad, mixing)
        self._chunks: grain.DatasetIterator | None = None
        self._ring: Ring | None = None

    def get_state(self) -> dict[str, int]:
        """The next step, and the number of bad examples skipped before it in this pass."""
        return {"step": self.step, "skipped": self.skipped}

    def set_state(self, state: dict[str, int]) -> None:
        """Continues from a state, without reading the earlier steps."""
        if state["step"] != self.step:
            self.close()
        self.step, self.skipped = state["step"], state["skipped"]

    def close(self) -> None:
        """Ends the workers. They start again if another batch is asked for."""
        if self._ring is not None:
            self._ring.free()
        if self._chunks is not None:
            self._chunks.close()
        if self._ring is not None:
            self._ring.close()
        self._chunks = self._ring = None

    def __iter__(self) -> Iterator[HostBatch]:
        if self.steps is not None:
            if self.step == self.steps:  # the workers are reading the next pass already
                self._passes, self.step = self._passes + 1, 0
            self.set_state({"step": 0, "skipped": 0})
        return self

    def __next__(self) -> HostBatch:
        if self.step == self.steps:
            raise StopIteration
        if not self.workers:
            chunk = self._next_chunk()
            self._count(chunk.bad)
            return HostBatch(chunk.images, chunk.labels, chunk.valid, chunk.mixed)
        ends = np.cumsum([len(rows) for rows in self._reader.rows])
        batch, bad = self._empty(ends[-1]), []
        for start, end in zip((0, *ends), ends, strict=False):
            chunk = self._next_chunk()
            self._ring.copy(chunk.number, batch.images[start:end])
            batch.labels[start:end], batch.valid[start:end] = chunk.labels, chunk.valid
            if chunk.mixed is not None:
                batch.mixed.labels[start:end], batch.mixed.shares[start:end] = chunk.mixed
            bad += chunk.bad
        self._count(bad)
        return batch

    def _count(self, bad: list[tuple[str, str]]) -> None:
        self.step, self.skipped = self.step + 1, self.skipped + len(bad)
        self.left_out.update(bad)

    def _empty(self, rows: int) -> HostBatch:
        size, channels = self._reader.view.size, self._reader.encoded.channels
        images, labels = np.empty((rows, size, size, channels), np.uint8), np.empty(rows, np.int32)
        mixed = Mixed(labels.copy(), np.empty(rows, np.float32)) if self._reader.mixing else None
        return HostBatch(images, labels, np.empty(rows, bool), mixed)

    def _next_chunk(self) -> Chunk:
        if self._chunks is None:
            self._chunks = iter(self._dataset())
        try:
            chunk = next(self._chunks)
        except RuntimeError as error:
            self.close()
            raise ReadError(
                f"a worker ended while step {self.step} was read: {line_of(error).rstrip('.')}; "
                "if memory ran out, use fewer workers or smaller batches"
            ) from error
        if isinstance(chunk, UnreadChunk):
            self.close()
            raise ReadError(chunk.message)
        return chunk

    def _dataset(self) -> grain.IterDataset:
        of_batch = len(self._reader.rows)
        first = (self._passes * (self.steps or 0) + self.step) * of_batch
        numbers = grain.MapDataset.range(first, MOST_CHUNKS)
        if not self.workers:
            return numbers.map(self._reader).to_iter_dataset(grain.ReadOptions(1, 1))
        _refuse_unguarded(self.workers)
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain has options there, and resjax is no absl app
        reader = self._reader
        shape = (len(reader.rows[0]), *(reader.view.size,) * 2, reader.encoded.channels)
        # Grain holds as many chunks of a worker again in this process, beside one that is written,
        # one on its way and one that is copied.
        room = chunks_that_fit(shape, 5 * self.workers)
        next_batch = -(-of_batch // (2 * self.workers))
        ahead = min(next_batch, (room // self.workers - 3) // 2)
        with kept_from_children():  # multiprocessing has one that keeps track of such memory
            self._ring = Ring((2 * ahead + 3) * self.workers, shape)
        chunks = numbers.map(dataclasses.replace(reader, ring=self._ring))
        return chunks.to_iter_dataset(grain.ReadOptions(0, 0)).mp_prefetch(
            grain.MultiprocessingOptions(self.workers, ahead), _end_with_parent
        )


GUARDS = ("__name__", "parent_process", "current_process")
"""Words, one of which a script needs to notice that it is run again in a worker."""


def _refuse_unguarded(workers: int) -> None:
    """Raises ReadError if each worker would run the whole script of this process again.

    multiprocessing leaves out the `__main__` of a package, as of `python -m resjax`.
    """
    main = sys.modules["__main__"]
    if getattr(getattr(main, "__spec__", None), "name", "").endswith(".__main__"):
        return
    script = getattr(main, "__file__", None)
    try:
        text = Path(script).read_text(encoding="utf-8", errors="replace") if script else GUARDS[0]
    except OSError:
        return
    if not any(word in text for word in GUARDS):
        raise ReadError(
            f"data.workers={workers} starts processes, each of which runs {script} again from its "
            "beginning; put what it does under if __name__ == '__main__':, or set data.workers=0"
        )


def _end_with_parent(worker: int, workers: int) -> None:
    """Makes a worker end when its parent process ends or is killed, and not before."""
    leave_to_parent()
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def training_feed(
    encoded: Encoded,
    view: View,
    seed: int,
    batch_size: int,
    step: int = 0,
    **options: Any,
) -> HostBatches:
    """Endless batches to train on, from a given step; the options are those of `HostBatches`."""
    order = TrainingOrder(seed, batch_size, len(encoded))
    feed = HostBatches(encoded, view, order, batch_size, **options)
    feed.set_state({"step": step, "skipped": 0})
    return feed


def evaluation_feed(encoded: Encoded, view: View, batch_size: int, **options: Any) -> HostBatches:
    """Passes over a split, every example once; the options are those of `HostBatches`."""
    order = EvaluationOrder(batch_size, len(encoded))
    return HostBatches(encoded, view, order, batch_size, **options)
