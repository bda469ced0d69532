"""Fake data: random images with random labels, to time training on."""

import math

import numpy as np

from resjax.config import ConfigError
from resjax.config.text import space
from resjax.data.philox import random_words
from resjax.data.source import Source, Split

FAKE_EXAMPLES = 1024
"""Default number of training images of fake data."""

MOST_FAKE_BYTES, MOST_FAKE_CLASSES = 2 << 30, 100_000

FAKE_SEED = 1 << 32
"""Seed of fake data; no run can have it, so the data is independent of the training order."""


def fake(shape: tuple[int, int, int], classes: int, examples: int = FAKE_EXAMPLES) -> Source:
    """Random bytes as images `[H, W, C]`, with random labels, to time training on.

    There are `examples` to train on and an eighth as many to test on.

    Raises:
      ConfigError: for more than `MOST_FAKE_BYTES` of images, or `MOST_FAKE_CLASSES`.
    """
    test = -(-examples // 8)
    size = (examples + test) * math.prod(shape)
    name = f"data.name=fake:{'x'.join(map(str, shape))}:{classes}:{examples}"
    if size > MOST_FAKE_BYTES:
        raise ConfigError(
            f"{name} has {space(size)} of images; the most are "
            f"{space(MOST_FAKE_BYTES)}, use fewer or smaller ones"
        )
    if classes > MOST_FAKE_CLASSES:
        raise ConfigError(f"{name} has {classes} classes; the most are {MOST_FAKE_CLASSES}")
    names = tuple(map(str, range(classes)))
    return Source(_noise(0, examples, shape, classes), _noise(1, test, shape, classes), names)


def _noise(split: int, examples: int, shape: tuple[int, int, int], classes: int) -> Split:
    size = examples * math.prod(shape)
    words = random_words((FAKE_SEED, 2 * split), -(-size // 8))
    words = words.astype("<u8", copy=False)  # the lowest byte first, on every machine
    labels = random_words((FAKE_SEED, 2 * split + 1), examples) % np.uint64(classes)
    images = words.view(np.uint8)[:size].reshape(examples, *shape)
    return Split(images, labels.astype(np.int32))
