"""Metadata of exported weights that record the preprocessing of images.

Other frameworks pass over it; `resjax import` reads it, so that a run comes back as it went.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from resjax.config import ConfigError, config_of, flatten
from resjax.config.validation import validate
from resjax.runs.weights import Weights

IMAGES = "resjax.images"
"""Key of this metadata."""

SETTINGS = (
    "data.name",
    "data.test",
    "data.feed",
    "data.standardise",
    "data.size",
    "data.resize",
    "data.interpolation",
    "data.exif",
    "eval.batch_size",
)
"""Keys of the config that determine the data for evaluation and its preprocessing."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The description of a network that comes with its weights, in their file or beside it.

    Attributes:
      settings: {dotted key: value} of a config.
      class_names: a name for each output; empty if there are none.
      statistics: mean and deviation of the images, as in `Weights`; None if they are not said.
      image_shape: `[H, W, C]` that the network was trained on; None if it is not said.
      preprocessing: whether it was said how images are prepared.
      notes: lines to be printed.
      architecture: name of the network; empty if it has none.
      function: whether it was said what the network computes, beside such a name.
    """

    settings: Mapping[str, Any]
    class_names: tuple[str, ...]
    statistics: tuple[np.ndarray, np.ndarray] | None
    image_shape: tuple[int, int, int] | None
    preprocessing: bool
    notes: tuple[str, ...]
    architecture: str = ""
    function: bool = False


def write_metadata(weights: Weights) -> dict[str, str]:
    """Metadata with the settings, statistics, shape and classes of the images."""
    config = flatten(weights.about.config)
    said = {
        "settings": {key: config[key] for key in SETTINGS},
        "mean": np.asarray(weights.mean, np.float32).tolist(),
        "deviation": np.asarray(weights.deviation, np.float32).tolist(),
        "image_shape": weights.about.image_shape,
        "class_names": weights.about.class_names,
    }
    return {IMAGES: json.dumps(said)}


def read_metadata(metadata: Mapping[str, str], what: str) -> Metadata | None:
    """Reads what `write_metadata` wrote; None if it is not in the metadata.

    Args:
      metadata: metadata of a file.
      what: name of the file, for errors.

    Raises:
      ConfigError: if what it wrote is damaged.
    """
    if IMAGES not in metadata:
        return None
    try:
        said = json.loads(metadata[IMAGES])
        whole = config_of(said["settings"])
        validate(whole)
        config = flatten(whole)
        height, width, channels = shape = tuple(map(int, said["image_shape"]))
        mean, deviation = (np.asarray(said[key], np.float32) for key in ("mean", "deviation"))
        if mean.shape not in ((channels,), shape) or deviation.shape != (channels,):
            raise ValueError(
                f"mean {mean.shape} and deviation {deviation.shape} of images {height}x{width}"
                f"x{channels}"
            )
        if not np.isfinite(mean).all() or not (deviation > 0).all():
            raise ValueError("a mean that is not finite, or a deviation that is not above 0")
        return Metadata(
            settings={key: config[key] for key in SETTINGS},
            class_names=tuple(map(str, said["class_names"])),
            statistics=(mean, deviation),
            image_shape=shape,
            preprocessing=True,
            notes=(),
            function=True,
        )
    except (
        AttributeError,
        KeyError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        kind = "" if isinstance(error, ConfigError) else f"{type(error).__name__}: "
        raise ConfigError(
            f"{what} says of its images what is not understood ({kind}{error}); export it again"
        ) from None
