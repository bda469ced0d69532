"""A layer and the normalisation of its output, as one where that moves less memory."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.models.layers import Convolution
from resjax.models.norm import BatchNorm
from resjax.ops.platform import platform

DTYPES = (jnp.bfloat16,)
"""Dtypes that round more than the moments of a product differ from those of its rounded values."""


def normalised(
    layer: nn.Module, norm: Callable[..., jax.Array], x: jax.Array, train: bool
) -> jax.Array:
    """Normalises the output of a layer, norm(layer(x), train).

    In training on a GPU or TPU in bfloat16, the output of a 1x1 convolution with more channels than
    x is not computed before it is normalised (`resjax.ops.product`): a step of ResNet-50 moves a
    sixth less memory. The result differs by rounding alone, no more than that dtype rounds anyway.
    """
    # Types that say how devices split the examples do not allow to multiply over these.
    split = bool(jax.typeof(x).sharding.mesh.explicit_axes)
    if split or not (train and _is_product(layer, x) and _takes_product(norm)):
        return norm(layer(x), train)
    kernel, _ = layer.weights(x.shape[-1])
    return norm(x, train, kernel[0, 0])


def _is_product(layer: nn.Module, x: jax.Array) -> bool:
    """Tells whether a layer is a 1x1 convolution at stride 1 of few channels to many."""
    if type(layer) is not Convolution or layer.use_bias or layer.implementation != "auto":
        return False
    sizes = (layer.layer.size, layer.layer.stride, layer.layer.groups)
    grows = sizes == (1, 1, 1) and layer.layer.channels > x.shape[-1]
    return grows and layer.dtype in DTYPES and platform() != "cpu"


def _takes_product(norm: Callable[..., jax.Array]) -> bool:
    """Tells whether a normalisation is by the moments of the whole batch."""
    return type(norm) is BatchNorm and norm.examples is None and not norm.frozen
