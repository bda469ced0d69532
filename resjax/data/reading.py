"""Reading of streamed images: examples that are decoded, and mixed, into the rows of a batch."""

import dataclasses

import numpy as np

from resjax.config import ConfigError, message_of, type_and_message
from resjax.data.batch import Mixed
from resjax.data.mixing import Mixing, mix_bytes, words_of
from resjax.data.orders import ExampleOrder
from resjax.data.ring import Ring
from resjax.data.source import Encoded
from resjax.data.transforms import ImageKey, View


class ReadError(ConfigError):
    """A split cannot be read to its end: one line with the example and the remedy."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some rows of a batch, which are read together; images are None if in shared memory.

    `bad` has the names of images that were skipped, with what is wrong with each.
    """

    number: int
    labels: np.ndarray
    valid: np.ndarray
    mixed: Mixed | None
    bad: list[tuple[str, str]]
    images: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class UnreadChunk:
    """The reason why a chunk could not be read, as a value for threads and processes to pass on."""

    message: str


@dataclasses.dataclass(frozen=True)
class ChunkReader:
    """Reads chunks by number: those of a batch one after the other, then the next batch.

    Attributes:
      encoded: the split.
      view: makes the images.
      order: the order of the examples.
      rows: the rows of a batch that each of its chunks has.
      on_bad: "refuse" or "skip" images that cannot be decoded.
      mixing: how images are mixed with others, each of which is decoded, too; None is not.
      ring: memory that the images are written to, instead of that of the chunk.
    """

    encoded: Encoded
    view: View
    order: ExampleOrder
    rows: list[np.ndarray]
    on_bad: str
    mixing: Mixing | None = None
    ring: Ring | None = None

    def __call__(self, number: int) -> Chunk | UnreadChunk:
        step, chunk = divmod(number, len(self.rows))
        step = step % self.order.steps if self.order.steps else step
        rows, size, channels = self.rows[chunk], self.view.size, self.encoded.channels
        epochs, examples, valid = self.order.places(step, rows)
        if self.ring is None:
            images = np.empty((len(rows), size, size, channels), np.uint8)
        else:
            images = self.ring.begin(number)[: len(rows)]
        try:
            labels, skipped = self._read(epochs, examples, valid, images)
            mixed = None
            if self.mixing:
                mixed, bad = self._mix(epochs, examples, images)
                skipped += bad
        except ReadError as error:
            return UnreadChunk(str(error))
        return Chunk(number, labels, valid, mixed, skipped, images if self.ring is None else None)

    def _read(
        self, epochs: np.ndarray, examples: np.ndarray, valid: np.ndarray, images: np.ndarray
    ) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Writes the images of some examples; returns their labels, and the bad ones among them.

        A row that has nothing to show becomes black, and not `valid`.
        """
        labels, skipped = np.zeros(len(examples), np.int32), []
        for row, (epoch, example) in enumerate(np.stack((epochs, examples), 1).tolist()):
            try:
                label, bad = self._example(ImageKey(self.order.seed, epoch, example), images[row])
            except ReadError:
                raise
            except Exception as error:  # whatever it is, it must not be lost in a worker
                name = self.encoded.name(example)
                raise ReadError(f"{name} fails: {line_of(error)}") from error
            skipped += bad if valid[row] else []
            if label is None:
                images[row], valid[row] = 0, False
            labels[row] = label or 0
        return labels, skipped

    def _mix(
        self, epochs: np.ndarray, examples: np.ndarray, images: np.ndarray
    ) -> tuple[Mixed, list[tuple[str, str]]]:
        """Mixes the images of some examples with their partners."""
        seed, shape = self.order.seed, images.shape[1:3]
        words = [words_of(seed, *place) for place in np.stack((epochs, examples), 1).tolist()]
        mix = self.mixing.mix(np.concatenate(words), examples, self.order.examples, shape)
        partners = np.empty_like(images)
        labels, bad = self._read(epochs, mix.partners, np.ones(len(examples), bool), partners)
        for row in range(len(images)):
            mix_bytes(mix, row, images[row], partners[row])
        return Mixed(labels, mix.shares), bad

    def _example(self, key: ImageKey, out: np.ndarray) -> tuple[int | None, list[tuple[str, str]]]:
        """Writes an image to `out`; returns its label, or None, and the bad images before it."""
        tried = min(self.order.substitutes + 1, self.order.examples)
        bad = []
        for skipped in range(tried):
            number = (key.example + skipped) % self.order.examples
            name = self.encoded.name(number)
            try:
                data, label = self.encoded.read(number)
            except Exception as error:  # a source may raise anything
                raise ReadError(f"{name} cannot be read: {line_of(error)}") from error
            try:
                self.view(data, self.encoded.channels, key, out)
            except ValueError as error:
                bad.append((name, line_of(error)))
                if self.on_bad == "refuse":
                    raise ReadError(
                        f"{name} cannot be decoded: {line_of(error)}; data.on_bad=skip leaves it "
                        "out"
                    ) from error
            else:
                return label, bad
        if self.order.substitutes:
            (name, why), *others = bad
            raise ReadError(f"{name} and the {len(others)} after it cannot be decoded: {why}")
        return None, bad


def line_of(error: BaseException) -> str:
    """An error in one line, with its type unless it is one of a value."""
    return message_of(error) if isinstance(error, ValueError) else type_and_message(error)
