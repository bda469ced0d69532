"""Predictions from weights: logits of images, and the most probable classes of image files."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import softmax

from resjax.config import ConfigError, refuse_unknown
from resjax.config.keys import KEYS
from resjax.config.validation import refuse_value
from resjax.data.headers import read_image_header
from resjax.data.sources import SOURCES
from resjax.data.transforms import CentreCrop, ImageKey
from resjax.models.resnet import ResNet, refuse_small_images
from resjax.runs.weights import Weights
from resjax.training.parallel import Parallel

AT_ONCE = 32
"""Number of images whose predictions are computed together."""

WHITE = 255.0
"""The value of white in image files."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A prediction for an image.

    Attributes:
      image: the file.
      classes: its most probable classes, (name, probability), most probable first.
      error: why it could not be read; empty if it could.
    """

    image: Path
    classes: tuple[tuple[str, float], ...]
    error: str = ""


def logits_function(weights: Weights, parallel: Parallel) -> Callable[[np.ndarray], np.ndarray]:
    """A network as a function from images `[N, H, W, C]` to logits `[N, classes]`, on all devices.

    The images are in the units of files, and N must be a multiple of the number of devices.
    """
    model = weights.model

    def share(arguments: tuple, images: jax.Array) -> jax.Array:
        return logits_of(model, *arguments, images)

    arguments = parallel.whole((weights.variables, weights.mean, weights.deviation))
    compiled = parallel.function(share, (None, 0), out_axis=0)

    def compute_logits(images: np.ndarray) -> np.ndarray:
        logits = compiled(arguments, parallel.shard(images, 0))
        return np.asarray(jax.device_get(logits)).reshape(len(images), -1)

    return compute_logits


def logits_of(
    model: ResNet, variables: Any, mean: Any, deviation: Any, images: jax.Array
) -> jax.Array:
    """Standardises images `[N, H, W, C]` in the units of files; computes logits `[N, classes]`."""
    standardised = (images.astype(jnp.float32) - mean) / deviation
    return model.apply(variables, standardised, train=False)


def check_images(weights: Weights, image_shape: tuple[int, ...]) -> None:
    """Raises ConfigError for images `[H, W, C]` that the network cannot be applied to."""
    if not weights.about.class_names:
        raise ConfigError(
            "the weights have no head, and so no classes; start a run from them by "
            "--config.train.init_from, or take their features by resjax.models.features"
        )
    ours, spec = weights.about.image_shape, weights.model.spec
    if image_shape[-1] != ours[-1]:
        raise ConfigError(
            f"the network takes images of {ours[-1]} channels, and these have {image_shape[-1]}"
        )
    if image_shape != ours and (spec.stem == "dense" or weights.mean.ndim == 3):
        shapes = ["x".join(map(str, shape)) for shape in (ours, image_shape)]
        raise ConfigError(
            f"the network takes images of {shapes[0]} alone, and these are {shapes[1]}"
        )
    try:
        refuse_small_images(spec, image_shape[:2])
    except ValueError as error:
        raise ConfigError(str(error)) from None


def predict(
    weights: Weights, data: ConfigDict, images: list[Path], top: int = 5
) -> Iterator[Prediction]:
    """Predicts the most probable classes of images in files.

    They are prepared as in the evaluation of a run: `data` says how. Where the run's images were
    resident, the central square of an image is resized to the size of those. Colours are converted
    to the channels of the network, and values to the units of the source: white is 16 in digits.

    Returns:
      The predictions in the order of the images, computed as they are asked for.

    Raises:
      ConfigError: at once, if the network is not one for such images, or if a file is not a whole
        image and `data.on_bad` is not skip; later, if one cannot be decoded.
    """
    refuse_unknown(data, "data")
    refuse_value("data.on_bad", data.on_bad)
    side = data.size or weights.about.image_shape[0]
    check_images(weights, (side, side, weights.about.image_shape[-1]))
    try:
        view = CentreCrop(side, data.resize if data.size else side, data.interpolation, data.exif)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if data.on_bad == "refuse":
        for path in images:
            if error := _error(path, read_image_header):
                raise _bad_image(error)
    return _predictions(weights, data, images, view, top)


def _predictions(
    weights: Weights, data: ConfigDict, images: list[Path], view: CentreCrop, top: int
) -> Iterator[Prediction]:
    [kind] = KEYS["data.name"].names_in(data.name)
    white = SOURCES[kind].white if kind in SOURCES else WHITE
    compute_logits = logits_function(weights, Parallel(tuple(jax.devices()[:1])))
    size, names = min(len(images), AT_ONCE), weights.about.class_names
    for start in range(0, len(images), size):
        paths = images[start : start + size]
        prepared = np.zeros((size, view.size, view.size, weights.about.image_shape[-1]), np.uint8)
        errors = [_prepare(*each, view) for each in zip(paths, prepared, strict=False)]
        if data.on_bad == "refuse" and any(errors):
            raise _bad_image(next(filter(None, errors)))
        logits = compute_logits(prepared if white == WHITE else prepared * (white / WHITE))
        probabilities = softmax(np.float64(logits), -1)
        for path, of_image, error in zip(paths, probabilities, errors, strict=False):
            best = np.argsort(-of_image, kind="stable")[:top]
            named = tuple((names[label], float(of_image[label])) for label in best)
            yield Prediction(path, () if error else named, error)


def _bad_image(error: str) -> ConfigError:
    return ConfigError(f"{error}; --config.data.on_bad=skip leaves it out")


def _prepare(path: Path, out: np.ndarray, view: CentreCrop) -> str:
    """Writes the centre of an image to `out` `[side, side, C]` uint8, or returns the error."""
    return _error(path, lambda content: view(content, out.shape[-1], ImageKey(0, 0, 0), out))


def _error(path: Path, use: Callable[[bytes], Any]) -> str:
    """Calls a function with the bytes of an image; returns why they are none, or ""."""
    try:
        use(path.read_bytes())
    except ValueError as error:
        return f"{path}: {error}"
    except OSError as error:
        return f"cannot read {path}: {error.strerror}; name an image"
    return ""
