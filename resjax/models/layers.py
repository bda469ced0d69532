"""The weighted layers that blocks, stems and shortcuts are built of."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resjax.models.initialisers import INITIALISERS


@dataclasses.dataclass(frozen=True)
class Layer:
    """One weighted layer as data.

    Attributes:
      channels: of the output.
      size: of the kernel, `size` x `size`.
      stride: in both directions.
      groups: of channels that do not see each other.
      gain: factor on the initial kernel.
    """

    channels: int
    size: int = 1
    stride: int = 1
    groups: int = 1
    gain: float = 1.0


def _settings(
    layer: Layer,
    init: str = "he_normal",
    bias: float | None = None,
    dtype: jnp.dtype = jnp.float32,
    name: str | None = None,
) -> dict[str, Any]:
    """What both kinds of layer take: `init` a key of `INITIALISERS`, `bias` its initial value.

    Without a value for the bias there is none.
    """
    return {
        "kernel_init": INITIALISERS[init].scaled(layer.gain),
        "use_bias": bias is not None,
        "bias_init": nn.initializers.constant(bias or 0.0),
        "dtype": dtype,
        "param_dtype": jnp.promote_types(dtype, jnp.float32),
        "name": name,
    }


def convolution(layer: Layer, **settings: Any) -> nn.Conv:
    """A 2-D convolution, padded by (size - 1) / 2 on every side; never SAME.

    At stride 2, SAME would shift the residual branch by a pixel against its shortcut. `settings`
    are `init`, `bias` (the initial value, or None for no bias), `dtype` and `name`.
    """
    return nn.Conv(
        layer.channels,
        (layer.size, layer.size),
        (layer.stride, layer.stride),
        padding=(layer.size - 1) // 2,
        feature_group_count=layer.groups,
        **_settings(layer, **settings),
    )


def dense(layer: Layer, **settings: Any) -> nn.Dense:
    """A fully connected layer in the place of a `convolution`, with the same settings."""
    return nn.Dense(layer.channels, **_settings(layer, **settings))
