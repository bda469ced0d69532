"""Batch normalisation over the last axis, with running statistics in `batch_stats`."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.ops.norm import batch_norm, normalise


class BatchNorm(nn.Module):
    """Normalises every feature by the statistics of the batch (Ioffe and Szegedy 2015).

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, for dense `[N, F]` and convolutional
    `[N, H, W, C]` input alike. In training, `mean` and the biased `var` are those of the batch,
    over all axes but the last, and the running statistics move:
    running = momentum * running + (1 - momentum) * batch. In evaluation they are the running ones.
    Statistics are computed and kept in at least float32, whatever the dtype of the input.

    Attributes:
      momentum: the fraction of the old running value that is kept at a step.
      epsilon: added to the variance.
      zero_scale: whether the scale starts at zero instead of one (Goyal et al. 2017, section 5.1).
      dtype: of the output; statistics, scale and bias have `promote_types(dtype, float32)`.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    zero_scale: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[..., features]` to the same shape; moves `batch_stats` if `train`."""
        exact = jnp.promote_types(self.dtype, jnp.float32)
        shape = (x.shape[-1],)
        start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = self.param("scale", start, shape, exact)
        bias = self.param("bias", nn.initializers.zeros, shape, exact)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, exact)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, exact)

        x = x.astype(self.dtype)
        if not train:
            mean, var = running_mean.value, running_var.value
            return normalise(x, mean, var, scale, bias, self.epsilon)
        y, mean, var = batch_norm(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            keep = self.momentum
            running_mean.value = keep * running_mean.value + (1 - keep) * mean
            running_var.value = keep * running_var.value + (1 - keep) * var
        return y


def no_norm(name: str | None = None, zero_scale: bool = False) -> Callable[..., jax.Array]:
    """In place of a normalisation: leaves its input as it is."""
    return lambda x, train: x


NORMS: dict[str, Callable[[ConfigDict, jnp.dtype], Callable]] = {
    "batch": lambda norm, dtype: functools.partial(
        BatchNorm, momentum=norm.momentum, epsilon=norm.epsilon, dtype=dtype
    ),
    "none": lambda norm, dtype: no_norm,
}
"""By `norm.kind`: (config.norm, dtype) to a maker of normalisations, `make(name=, zero_scale=)`."""
