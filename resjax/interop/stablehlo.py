"""A network as a function for other programs: StableHLO with its weights inside, and a loader.

The file is read by `jax.export.deserialize`, here or where resjax is not installed.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from resjax.config import ConfigError
from resjax.interop.predicting import logits_of
from resjax.runs.weights import Weights, write_whole

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def write_stablehlo(weights: Weights, path: Path) -> None:
    """Writes the function of images `[N, H, W, C]` float32 to logits `[N, classes]`, for any N.

    The images are in the range of the data set, such as 0 to 255; they are standardised inside.
    """
    config = weights.about.config.copy_and_resolve_references()
    config.model.conv = "xla"  # which other programs can run
    about = dataclasses.replace(weights.about, config=config)
    model = dataclasses.replace(weights, about=about).model

    def function(images: jax.Array) -> jax.Array:
        return logits_of(model, weights.variables, weights.mean, weights.deviation, images)

    shape = export.symbolic_shape("batch, " + ", ".join(map(str, weights.about.image_shape)))
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(images)
    write_whole(path, lambda partial: partial.write_bytes(exported.serialize()))


def load_stablehlo(path: Path | str) -> Callable[[np.ndarray], jax.Array]:
    """Loads the function written by `write_stablehlo`; it compiles once per number of images.

    Raises:
      ConfigError: if it is not such a file.
    """
    try:
        exported = export.deserialize(bytearray(Path(path).read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # foreign bytes can raise anything
        raise ConfigError(
            f"{path} is not a whole StableHLO file ({type(error).__name__}); export it again"
        ) from None
    return jax.jit(exported.call)
