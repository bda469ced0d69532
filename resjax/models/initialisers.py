"""Initial values of kernels, by name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.config.tables import Table


def _no_gains(blocks: int, layers: int) -> tuple[float, ...]:
    return (1.0,) * layers


def _fixup_gains(blocks: int, layers: int) -> tuple[float, ...]:
    """Gains of the m layers of a branch in L blocks: L^(-1 / (2m - 2)), and zero for the last."""
    return (*(blocks ** (-1 / (2 * layers - 2)) for _ in range(layers - 1)), 0.0)


@dataclasses.dataclass(frozen=True)
class Initialiser:
    """A distribution of initial kernels.

    Attributes:
      draw: (key, shape, dtype) to a kernel whose last two axes are channels in and channels out.
      gains: (blocks in the network, layers in a branch) to a factor for each layer of a branch.
    """

    draw: Callable
    gains: Callable[[int, int], tuple[float, ...]] = _no_gains

    def scaled(self, gain: float = 1.0) -> Callable:
        """A function that draws kernels times `gain`, compiled separately for every shape."""
        return functools.partial(_scaled, self.draw, gain)


def _scaled(draw: Callable, gain: float, key: jax.Array, shape: tuple, dtype: Any) -> jax.Array:
    return _drawn(draw, gain, tuple(shape), jnp.dtype(dtype), key)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _drawn(draw: Callable, gain: float, shape: tuple, dtype: Any, key: jax.Array) -> jax.Array:
    return gain * draw(key, shape, dtype)


_he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

INITIALISERS = Table(
    "model.kernel_init",
    {
        # Variance 2 / (size^2 * channels out): He et al. 2015b, equation 14.
        "he_normal": Initialiser(_he_normal),
        "he_normal_fan_in": Initialiser(nn.initializers.variance_scaling(2.0, "fan_in", "normal")),
        "lecun_normal": Initialiser(nn.initializers.lecun_normal()),
        "orthogonal": Initialiser(nn.initializers.orthogonal(2**0.5)),
        # Zhang, Dauphin and Ma 2019, section 3: rules 1 and 2 for branches. For the head use
        # head_init=zeros, for the multiplier of rule 3 learn_residual_scale; its scalar biases are
        # here those of the channels.
        "fixup": Initialiser(_he_normal, _fixup_gains),
        "zeros": Initialiser(nn.initializers.zeros),
    },
    entry="an Initialiser",
    fits=lambda entry: isinstance(entry, Initialiser),
)
