"""Predictions from weights: logits of images, and the most probable classes of image files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import softmax

from resjax.config import ConfigError, refuse_unknown
from resjax.config.keys import KEYS
from resjax.data.sources import SOURCES
from resjax.models.resnet import ResNet, refuse_small_images
from resjax.runs.weights import Weights
from resjax.training.parallel import Parallel

AT_ONCE = 32
"""Number of images whose predictions are computed together."""

WHITE = 255.0
"""The value of white in image files."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """An image and its most probable classes, (name, probability), most probable first."""

    image: Path
    classes: tuple[tuple[str, float], ...]


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
) -> list[Prediction]:
    """Predicts the most probable classes of images in files.

    They are prepared as in the evaluation of a run: `data` says how. Where the run's images were
    resident, the central square of an image is resized to the size of those. Colours are converted
    to the channels of the network, and values to the units of the source: white is 16 in digits.

    Raises:
      ConfigError: if a file is not an image, or too small or large for the network.
    """
    refuse_unknown(data, "data")
    [kind] = KEYS["data.name"].names_in(data.name)
    white = SOURCES[kind].white if kind in SOURCES else WHITE
    side = data.size or weights.about.image_shape[0]
    check_images(weights, (side, side, weights.about.image_shape[-1]))
    compute_logits = logits_function(weights, Parallel(tuple(jax.devices()[:1])))
    size, names, found = min(len(images), AT_ONCE), weights.about.class_names, []
    for start in range(0, len(images), size):
        paths = images[start : start + size]
        prepared = np.zeros((size, side, side, weights.about.image_shape[-1]), np.uint8)
        for path, out in zip(paths, prepared, strict=False):
            _prepare(path, data, out)
        logits = compute_logits(prepared if white == WHITE else prepared * (white / WHITE))
        probabilities = softmax(np.float64(logits), -1)
        for path, of_image in zip(paths, probabilities, strict=False):
            best = np.argsort(-of_image, kind="stable")[:top]
            named = tuple((names[label], float(of_image[label])) for label in best)
            found.append(Prediction(path, named))
    return found


def _prepare(path: Path, data: ConfigDict, out: np.ndarray) -> None:
    """Writes the centre of an image to `out` `[side, side, C]` uint8."""
    from resjax.data.transforms import CentreCrop, ImageKey

    side, channels = out.shape[1:]
    try:
        resize = data.resize if data.size else side
        view = CentreCrop(side, resize, data.interpolation, data.exif)
        view(path.read_bytes(), channels, ImageKey(0, 0, 0), out)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; name an image") from None
