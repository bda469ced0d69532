"""Normalisations over the batch, with running statistics, and over single examples."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import ConfigError, message_of
from resjax.config.tables import Table
from resjax.ops.devices import DEVICES, device_count
from resjax.ops.norm import Scope, batch_norm, combine_moments, normalise
from resjax.ops.product import product_norm


class BatchNorm(nn.Module):
    """Normalises every feature by the statistics of the batch (Ioffe and Szegedy 2015).

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, for dense `[N, F]` and convolutional
    `[N, H, W, C]` input alike. In training, `mean` and the biased `var` are those of the batch,
    over all axes but the last, and the running statistics move:
    running = momentum * running + (1 - momentum) * batch. In evaluation they are the running ones.
    Statistics are computed and kept in at least float32, whatever the dtype of the input.

    The batch is that of all devices along the axis `axis_name` of a `pmap` or `shard_map`. The
    programs of `resjax.training.parallel` have the default one, under jit, pmap and several hosts
    alike. With `examples` it is cut into groups of that many consecutive examples, each normalised
    by itself, and the running statistics move by the mean of the groups on this device.

    A `frozen` one normalises by the running statistics in training, too, and leaves them as they
    are: a scale and a bias for every feature, whose gradient has no terms of other examples.

    Attributes:
      momentum: the fraction of the old running value that is kept at a step.
      epsilon: added to the variance.
      examples: number of examples that are normalised together; None is the whole batch.
      unbiased_running_var: whether the running variance moves by n / (n - 1) times the biased one,
        n being the number of values that it is computed from, as in PyTorch.
      use_scale, use_bias: whether there is a scale, and a bias; otherwise they are 1 and 0.
      zero_scale: whether the scale starts at zero instead of one (Goyal et al. 2017, section 5.1).
      frozen: whether training is like evaluation.
      measuring: whether to normalise by the batch even in evaluation, and replace the running
        statistics by the moments of this device's whole batch, with the variance between groups.
      axis_name: the axis of devices that share a batch; None is each device by itself.
      dtype: dtype of the output; statistics, scale and bias have `promote_types(dtype, float32)`.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    examples: int | None = None
    unbiased_running_var: bool = False
    use_scale: bool = True
    use_bias: bool = True
    zero_scale: bool = False
    frozen: bool = False
    measuring: bool = False
    axis_name: str | None = DEVICES
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, kernel: jax.Array | None = None) -> jax.Array:
        """Normalises `[..., features]`; moves the running statistics in `batch_stats` if `train`.

        With a `kernel` `[C, features]` it normalises the product of x `[..., C]` and the kernel by
        the statistics of the whole batch, as `resjax.ops.product.product_norm` does.

        Raises:
          ValueError: if the batch cannot be split into groups of `examples`, the unbiased variance
            of a single value is asked for, or the devices share it along an axis of another name.
        """
        exact = jnp.promote_types(self.dtype, jnp.float32)
        shape = (x if kernel is None else kernel).shape[-1:]
        start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
        scale = (
            self.param("scale", start, shape, exact) if self.use_scale else jnp.ones(shape, exact)
        )
        zeros = nn.initializers.zeros
        bias = self.param("bias", zeros, shape, exact) if self.use_bias else jnp.zeros(shape, exact)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, exact)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, exact)

        x = x.astype(self.dtype)
        if (self.frozen or not train) and not self.measuring:
            mean, var = running_mean.value[None], running_var.value[None]
            return normalise(x, mean, var, scale, bias, self.epsilon)
        devices = device_count(self.axis_name)
        scope = find_scope(self.examples, len(x), devices, self.axis_name)
        # Features of dense layers are few, and may be raw data, far from zero against their spread.
        shift = running_mean.value if x.ndim > 2 else None
        if kernel is None:
            y, mean, var = batch_norm(x, scale, bias, self.epsilon, scope, shift)
        else:
            y, mean, var = product_norm(x, kernel, scale, bias, self.epsilon, scope, shift)
        if self.is_initializing():
            return y
        if self.measuring:
            running_mean.value, running_var.value = combine_moments(mean, var)
            return y
        if self.unbiased_running_var:
            values = x.size // x.shape[-1] // scope.groups * scope.team_size(devices)
            var = var * _bessel(values)
        keep = self.momentum
        running_mean.value = keep * running_mean.value + (1 - keep) * mean.mean(0)
        running_var.value = keep * running_var.value + (1 - keep) * var.mean(0)
        return y


def find_scope(examples: int | None, own: int, devices: int, axis: str | None = DEVICES) -> Scope:
    """The scope of normalisation, for `own` examples on each device along an axis.

    A group of `examples` is part of one device's examples, or all those of several devices.

    >>> find_scope(None, own=64, devices=8)
    Scope(groups=1, axis='devices', teams=None)
    >>> find_scope(32, own=64, devices=8)
    Scope(groups=2, axis=None, teams=None)

    Raises:
      ValueError: if the groups would be neither.
    """
    if examples is None or examples == own * devices:
        return Scope(axis=axis if devices > 1 else None)
    if own % examples == 0:
        return Scope(groups=own // examples)
    team = examples // own
    if examples % own or devices % team:
        raise ValueError(
            f"groups of {examples} examples neither divide the {own} of a device nor are those of "
            f"whole devices, {devices} in all"
        )
    teams = tuple(tuple(range(first, first + team)) for first in range(0, devices, team))
    return Scope(axis=axis, teams=teams)


def _bessel(values: int) -> float:
    """Bessel's correction n / (n - 1), which makes a biased variance of n values unbiased."""
    if values < 2:
        raise ValueError(
            "a single value has no unbiased variance; use norm.unbiased_running_var=False, or more "
            "examples"
        )
    return values / (values - 1)


class ExampleNorm(nn.Module):
    """A normalisation of single examples: its settings, and a scale and bias by channel.

    Nothing of it is kept in `batch_stats`; training and evaluation are alike.

    Attributes:
      epsilon: added to the variance or mean square.
      use_scale, use_bias: whether there is a scale, and a bias; without they are 1 and 0.
      zero_scale: whether the scale starts at zero instead of one.
      measuring: without effect; see `BatchNorm`.
      dtype: of the output; moments, scale and bias have `promote_types(dtype, float32)`.
    """

    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    zero_scale: bool = False
    measuring: bool = False
    dtype: jnp.dtype = jnp.float32

    def exact(self, x: jax.Array) -> jax.Array:
        """Returns x in the dtype in which it is normalised."""
        return x.astype(jnp.promote_types(self.dtype, jnp.float32))

    def scaled(self, y: jax.Array) -> jax.Array:
        """Returns scale * y + bias with the parameters `[C]` of this module."""
        shape = (y.shape[-1],)
        if self.use_scale:
            start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
            y = y * self.param("scale", start, shape, y.dtype)
        if self.use_bias:
            y = y + self.param("bias", nn.initializers.zeros, shape, y.dtype)
        return y.astype(self.dtype)


class GroupNorm(ExampleNorm):
    """Normalises every example by the statistics of groups of its channels (Wu and He 2018).

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, where the moments of an example are over
    all pixels and the channels of a group. With one group it is their layer normalisation.

    Attributes:
      groups: number of equal groups of consecutive channels.
    """

    groups: int = 32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises `[N, ..., C]`; keeps the shape.

        Raises:
          ValueError: if the groups do not divide the channels.
        """
        if x.shape[-1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {x.shape[-1]} channels")
        grouped = self.exact(x).reshape(len(x), -1, self.groups, x.shape[-1] // self.groups)
        centred = grouped - grouped.mean((1, 3), keepdims=True)
        var = jnp.square(centred).mean((1, 3), keepdims=True)
        return self.scaled((centred * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape))


class FilterResponseNorm(ExampleNorm):
    """Divides every channel of an example by its mean square (Singh and Krishnan 2020, equation 1).

    y = scale * x / sqrt(mean(x^2) + epsilon) + bias, where the mean of an example's channel is over
    its pixels. The thresholded activation of the paper is not part of it.
    """

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalises `[N, H, W, C]`; keeps the shape."""
        exact = self.exact(x)
        square = jnp.square(exact).mean((1, 2), keepdims=True)
        return self.scaled(exact * jax.lax.rsqrt(square + self.epsilon))


def no_norm(
    name: str | None = None, zero_scale: bool = False, measuring: bool = False
) -> Callable[..., jax.Array]:
    """Makes a function that stands for a normalisation and returns its input unchanged."""
    return lambda x, train: x


def _make(kind: type[nn.Module], norm: ConfigDict, dtype: jnp.dtype, **options: Any) -> Callable:
    settings = {key: norm[key] for key in ("epsilon", "use_scale", "use_bias")}
    return functools.partial(kind, dtype=dtype, **settings, **options)


NORMS: Table[Callable[..., Any]] = Table(
    "norm.kind",
    {
        "batch": lambda norm, dtype, axis_name: _make(
            BatchNorm,
            norm,
            dtype,
            momentum=norm.momentum,
            examples=norm.examples or None,
            unbiased_running_var=norm.unbiased_running_var,
            frozen=norm.frozen,
            axis_name=axis_name,
        ),
        "group": lambda norm, dtype, axis_name: _make(GroupNorm, norm, dtype, groups=norm.groups),
        "layer": lambda norm, dtype, axis_name: _make(GroupNorm, norm, dtype, groups=1),
        "filter_response": lambda norm, dtype, axis_name: _make(FilterResponseNorm, norm, dtype),
        "none": lambda norm, dtype, axis_name: no_norm,
    },
    entry="a function of config.norm, the dtype and the name of the axis of devices",
)
"""Kinds of normalisation by `norm.kind`: (config.norm, dtype, name of the axis of devices) to a
function that makes one, `make(name=, zero_scale=, measuring=)`; see `BatchNorm`."""


def norm_maker(norm: ConfigDict, dtype: jnp.dtype, axis_name: str | None) -> Callable[..., Any]:
    """The function that makes the normalisations of a network, from the section `norm` of a config.

    Raises:
      ConfigError: if the entry of its kind in `NORMS` is of another form.
    """
    try:
        make = NORMS[norm.kind](norm, dtype, axis_name)
        inspect.signature(make).bind(name="norm", zero_scale=False, measuring=False)
    except TypeError as error:
        raise ConfigError(
            f"norm.kind={norm.kind}: {message_of(error)}; its entry is a function of config.norm, "
            "the dtype and the name of the axis of devices, and returns make(name=, zero_scale=, "
            "measuring=), which makes a module that is called with (x, train)"
        ) from error
    return make
