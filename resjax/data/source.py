"""The parts of a source of images: splits in memory, or examples read one by one."""

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from resjax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Split:
    """Images `[n, H, W, C]` in the units of the files, and labels `[n]` int32."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


class Encoded(Protocol):
    """Images as files of any size, each read on demand.

    It can be pickled, so that other processes read from it.

    Attributes:
      channels: number of channels that images are decoded to: 3, or 1 for grey images.
      fingerprint: a hash of the contents that is cheap to compute.
    """

    @property
    def channels(self) -> int: ...

    @property
    def fingerprint(self) -> str: ...

    def __len__(self) -> int: ...

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded image and the label of an example."""
        ...

    def name(self, number: int) -> str:
        """A name by which people can find an example, such as its path."""
        ...


@dataclasses.dataclass(frozen=True)
class Adapted:
    """The first examples of a split, decoded to a number of channels."""

    whole: Encoded
    examples: int
    channels: int

    @property
    def fingerprint(self) -> str:
        return self.whole.fingerprint

    def __len__(self) -> int:
        return self.examples

    def read(self, number: int) -> tuple[bytes, int]:
        return self.whole.read(number)

    def name(self, number: int) -> str:
        return self.whole.name(number)


def first(split: Encoded, examples: int) -> Encoded:
    """The first examples of a split."""
    return Adapted(split, examples, split.channels)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
      train, test: the splits to train and to test on.
      class_names: one name for each label.
      validation: a split that is neither trained on nor tested on, or None.
      left_out: images that could not be read when the source was made, {split: {name: what is
        wrong}}.
    """

    train: Split | Encoded
    test: Split | Encoded
    class_names: tuple[str, ...]
    validation: Split | Encoded | None = None
    left_out: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def splits(self) -> dict[str, Split | Encoded]:
        """The splits by name: train, validation if there is one, and test."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def image_bytes(self) -> int:
        """Bytes of the images in all splits that are in memory, of which two may be the same."""
        arrays = (split.images for split in self.splits.values() if isinstance(split, Split))
        return sum({id(images): images.nbytes for images in arrays}.values())

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the shapes and contents of all splits, in order."""
        digest = hashlib.sha256()
        for split in (self.train, self.test, self.validation):
            if isinstance(split, Split):
                for array in (split.images, split.labels):
                    digest.update(f"{array.dtype}{array.shape}".encode())
                    digest.update(np.ascontiguousarray(array).tobytes())
            elif split is not None:
                digest.update(split.fingerprint.encode())
        return digest.hexdigest()


LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in the luma, times 2^16: 0.299, 0.587, 0.114 as in Pillow."""


def with_channels(source: Source, channels: int) -> Source:
    """A source with its images converted to one channel, their luma, or to three, by repetition.

    With 0 channels it is the source itself.

    Raises:
      ConfigError: for other numbers, images that have neither 1 nor 3 channels, or colours
        that are not uint8.
    """
    if channels not in (0, 1, 3):
        raise ConfigError(f"data.channels={channels} is not 1, 3, or 0 for those of the images")
    if not channels:
        return source
    splits = {name: _with_channels(split, channels) for name, split in source.splits.items()}
    return dataclasses.replace(source, **splits)


def _with_channels(split: Split | Encoded, channels: int) -> Split | Encoded:
    there = split.images.shape[-1] if isinstance(split, Split) else split.channels
    if there == channels:
        return split
    if not isinstance(split, Split):
        return Adapted(split, len(split), channels)
    if there not in (1, 3):
        raise ConfigError(
            f"images of {there} channels are not seen with {channels}; only grey and RGB are"
        )
    if channels == 1 and split.images.dtype != np.uint8:
        raise ConfigError(
            f"data.channels=1 is of images uint8, and these are {split.images.dtype}; give uint8, "
            "or data.channels=0"
        )
    return dataclasses.replace(split, images=TO_CHANNELS[channels](split.images))


def _luma(images: np.ndarray) -> np.ndarray:
    parts = (images[..., place].astype(np.uint32) * factor for place, factor in enumerate(LUMA))
    return ((sum(parts) + (1 << 15)) >> 16).astype(np.uint8)[..., None]


TO_CHANNELS = {1: _luma, 3: lambda images: np.repeat(images, 3, -1)}
"""Conversions of images: `[n, H, W, 3]` uint8 to one channel, and `[n, H, W, 1]` to three."""
