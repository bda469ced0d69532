"""The weighted layers from which blocks, stems and shortcuts are built."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.models.initialisers import INITIALISERS
from resjax.ops.conv import conv


@dataclasses.dataclass(frozen=True)
class Layer:
    """One weighted layer as data.

    Attributes:
      channels: channels of the output.
      size: side of the kernel, `size` x `size`.
      stride: the stride along both axes.
      groups: number of groups of channels that do not see each other.
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
    """Arguments that convolutions and dense layers share.

    `init` is a key of `INITIALISERS`; `bias` is the initial value of the bias, or None for no bias.
    """
    return {
        "kernel_init": INITIALISERS[init].scaled(layer.gain),
        "use_bias": bias is not None,
        "bias_init": nn.initializers.constant(bias or 0.0),
        "dtype": dtype,
        "param_dtype": jnp.promote_types(dtype, jnp.float32),
        "name": name,
    }


class Convolution(nn.Module):
    """A 2-D convolution, padded by (size - 1) / 2 on every side; never SAME.

    At stride 2, SAME would shift the residual branch by a pixel against its shortcut. Parameters
    are a `kernel` `[size, size, C / groups, channels]` and, if there is one, a `bias` `[channels]`.

    Attributes:
      implementation: the argument of `resjax.ops.conv.conv`.
    """

    layer: Layer
    kernel_init: Callable[..., jax.Array]
    use_bias: bool
    bias_init: Callable[..., jax.Array]
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    implementation: str = "auto"

    @nn.compact
    def weights(self, channels: int) -> tuple[jax.Array, jax.Array | None]:
        """The kernel for images of so many channels, and the bias or None, as parameters."""
        size, groups = self.layer.size, self.layer.groups
        shape = (size, size, channels // groups, self.layer.channels)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        if not self.use_bias:
            return kernel, None
        return kernel, self.param("bias", self.bias_init, shape[-1:], self.param_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[N, H, W, C]` to `[N, H / stride, W / stride, channels]`."""
        kernel, bias = self.weights(x.shape[-1])
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        y = conv(x, kernel, self.layer.stride, self.layer.groups, self.implementation)
        return y if bias is None else y + bias.astype(self.dtype)


def convolution(layer: Layer, implementation: str = "auto", **settings: Any) -> Convolution:
    """A `Convolution`; `settings` are `init`, `bias`, `dtype` and `name`.

    `bias` is its initial value, or None for no bias.
    """
    return Convolution(layer, implementation=implementation, **_settings(layer, **settings))


def dense(layer: Layer, **settings: Any) -> nn.Dense:
    """A fully connected layer of `layer.channels` outputs, with the settings of `convolution`."""
    return nn.Dense(layer.channels, **_settings(layer, **settings))
