"""A layer and the normalisation of its output, as one where that moves less memory."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.models.layers import Convolution
from resjax.models.norm import BatchNorm
from resjax.ops.platform import platform


def normalised(
    layer: nn.Module, norm: Callable[..., jax.Array], x: jax.Array, train: bool
) -> jax.Array:
    """Normalises the output of a layer, norm(layer(x), train).

    In training on a GPU, the output of a 1x1 convolution with more channels than x is not computed
    before it is normalised (`resjax.ops.product`). The result differs by rounding alone, which is
    that of a dtype below float32; for others this is not done.
    """
    if not (train and _is_product(layer, x) and _takes_product(norm)):
        return norm(layer(x), train)
    kernel, _ = layer.weights(x.shape[-1])
    stride = layer.layer.stride
    return norm(x[:, ::stride, ::stride].astype(layer.dtype), train, kernel[0, 0])


def _is_product(layer: nn.Module, x: jax.Array) -> bool:
    return (
        isinstance(layer, Convolution)
        and layer.implementation == "auto"
        and (layer.layer.size, layer.layer.groups, layer.use_bias) == (1, 1, False)
        and layer.layer.channels > x.shape[-1]
        and layer.dtype == jnp.bfloat16
        and platform() == "gpu"
    )


def _takes_product(norm: Callable[..., jax.Array]) -> bool:
    return (
        isinstance(norm, BatchNorm)
        and norm.examples is None
        and not norm.frozen
        and not norm.measuring
    )
