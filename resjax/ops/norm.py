"""Batch normalisation with as few passes over memory as possible.

Forward, the moments are one pass and the normalisation another, which XLA fuses with the activation
and the sum that follow; on TPUs it makes the moments part of the convolution that computes x.
Backward, both sums that the gradient needs are one pass, and they are the gradients of scale and
bias already; nothing but x and its moments is kept for it.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad

from resjax.ops.platform import platform
from resjax.ops.primitive import batch_by_channels, exact_dtype, make_operation

Array = TypeVar("Array", jax.Array, np.ndarray)


@dataclasses.dataclass(frozen=True)
class Scope:
    """The examples that are normalised together; by default all of the batch.

    Attributes:
      groups: number of equal parts of the leading axis, in order, each normalised by itself.
      axis: name of an axis of devices that normalise together, each with the same number of
        examples; None normalises on each device by itself.
      teams: the indices of devices that normalise together, team by team; None is one team of all.
    """

    groups: int = 1
    axis: str | None = None
    teams: tuple[tuple[int, ...], ...] | None = None

    def team_size(self, devices: int) -> int:
        """Number of devices in a team, where there are `devices` in all."""
        return 1 if self.axis is None else len(self.teams[0]) if self.teams else devices

    def mean(self, values: Any) -> Any:
        """The mean over the devices of a team of an array, or of each array of a tree."""
        if self.axis is None:
            return values
        teams = self.teams and [list(team) for team in self.teams]
        return jax.lax.pmean(values, self.axis, axis_index_groups=teams)


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    scope: Scope | None = None,
    shift: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The normalised x, its means and its biased variances (Ioffe and Szegedy 2015, algorithm 1).

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, with moments `[groups, C]` over all axes
    but the last; a variance is a mean of squares and never negative.

    >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> y, mean, var = batch_norm(x, jnp.ones(2), jnp.zeros(2), epsilon=0.0)
    >>> y.tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    >>> mean.tolist(), var.tolist()
    ([[2.0, 20.0]], [[1.0, 100.0]])

    Args:
      x: `[N, ..., C]`; y has its dtype.
      scale: `[C]`, at least float32, as the moments are.
      bias: `[C]`, likewise.
      epsilon: added to the variance.
      scope: the examples that the moments are taken over.
      shift: `[C]`, values near the means, such as the running means, on which the results depend by
        rounding alone. GPUs and TPUs then take both moments of x - shift in one pass, and devices
        exchange them at once; the relative error of a variance grows with
        1 + (mean - shift)^2 / var. Without it, and on a CPU, the mean is taken first.
    """
    return _batch_norm(epsilon, scope or Scope(), x, scale, bias, shift)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _batch_norm(epsilon, scope, x, scale, bias, shift):
    if shift is None or platform() == "cpu":
        mean, var = _two_pass_moments(x, scope)
    else:
        mean, var = _one_pass_moments(x, shift, scope)
    return normalise(x, mean, var, scale, bias, epsilon), mean, var


def _two_pass_moments(x, scope):
    """Means and biased variances `[groups, C]`: first the means, then the squares about them."""
    own, var = _moments(x, groups=scope.groups)
    mean = scope.mean(own)
    if scope.axis is not None:
        var = scope.mean(var + jnp.square(own - mean))
    return mean, var


def _one_pass_moments(x, shift, scope):
    """Means and biased variances `[groups, C]` from those of x - shift and of its square."""
    shifted, axes = _in_groups(x.astype(exact_dtype(x)) - shift, scope.groups)
    mean, square = scope.mean((shifted.mean(axes), jnp.square(shifted).mean(axes)))
    return shift + mean, jnp.maximum(square - jnp.square(mean), 0)


@_batch_norm.defjvp
def _(epsilon, scope, primals, tangents):
    """The derivative, with std = sqrt(var + epsilon) and n = (x - mean) / std.

    dmean = mean(dx);  dstd = mean(dx * n);  dn = (dx - dmean - dstd * n) / std
    dy = scale * dn + dscale * n + dbias
    """
    x, scale, *_ = primals
    dx, dscale, dbias, _ = tangents
    y, mean, var = _batch_norm(epsilon, scope, *primals)
    inverse = jax.lax.rsqrt(var + epsilon)
    values = x.size // (x.shape[-1] * scope.groups)
    sums = _contract(dx, x, mean, inverse, groups=scope.groups)
    dmean, dstd = (scope.mean(each / values) for each in sums)
    factor = scale * inverse
    terms = (dbias - factor * dmean, dscale - factor * dstd)
    [of_x] = _expand(*terms, x, mean, inverse, groups=scope.groups)
    dy = per_example(factor, x) * dx + of_x
    return (y, mean, var), (dy.astype(y.dtype), dmean, 2 * dstd / inverse)


def normalise(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    """Normalises x `[N, ..., C]` by given moments `[groups, C]`; scale and bias are `[C]`.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias.

    Computes in the precision of the moments, scale and bias; the result has the dtype of x.
    """
    factor = per_example(scale * jax.lax.rsqrt(var + epsilon), x)
    return ((x - per_example(mean, x)) * factor + bias).astype(x.dtype)


def per_example(values: jax.Array, x: jax.Array) -> jax.Array:
    """Reshapes values `[groups, C]` to fit x: `[C]` for one group, or `[N, 1, ..., C]`."""
    if len(values) == 1:
        return values[0]
    values = jnp.repeat(values, len(x) // len(values), axis=0)
    return values.reshape(len(x), *[1] * (x.ndim - 2), -1)


def combine_moments(mean: Array, var: Array) -> tuple[Array, Array]:
    """Combines the moments `[parts, ...]` of equal parts to those `[...]` of all together.

    mean = mean(mean_i); var = mean(var_i) + mean((mean_i - mean)^2), the law of total variance.

    >>> combine_moments(jnp.array([1.0, 3.0]), jnp.array([4.0, 4.0]))
    (Array(2., dtype=float32), Array(5., dtype=float32))
    """
    return mean.mean(0), var.mean(0) + mean.var(0)


def map_moments(function: Callable[[Any, Any], tuple[Any, Any]], tree: Any) -> Any:
    """Applies a function of (mean, var) to each pair in a tree such as `batch_stats`."""
    if "mean" not in tree:
        return {name: map_moments(function, below) for name, below in tree.items()}
    mean, var = function(tree["mean"], tree["var"])
    return {"mean": mean, "var": var}


# --------------------------------------------------------------------- the sums and their transpose


def _in_groups(x, groups):
    """Reshapes x to `[groups, N / groups, ..., C]`; also gives its axes between the two."""
    return x.reshape(groups, len(x) // groups, *x.shape[1:]), tuple(range(1, x.ndim))


def _moments_of(x, groups):
    """Means and biased variances `[groups, C]` of x `[N, ..., C]`."""
    x, axes = _in_groups(x.astype(exact_dtype(x)), groups)
    mean = x.mean(axes)
    return mean, jnp.square(x - jnp.expand_dims(mean, axes)).mean(axes)


def _contract_of(y, x, mean, inverse, groups):
    """The sums `[groups, C]` of y and of y * (x - mean) * inverse."""
    (y, axes), (x, _) = _in_groups(y.astype(mean.dtype), groups), _in_groups(x, groups)
    return y.sum(axes), (y * (x - jnp.expand_dims(mean, axes))).sum(axes) * inverse


def _expand_of(constant, factor, x, mean, inverse, groups):
    """The transpose of `_contract_of` in y: constant + factor * (x - mean) * inverse."""
    slope = per_example(factor * inverse, x)
    return (per_example(constant, x) + slope * (x - per_example(mean, x)),)


_moments = make_operation("resjax_norm_moments", _moments_of, several=True)
# What the gradient needs of x is x: by functions of JAX, it would keep x - mean in float32.
_contract = make_operation("resjax_norm_contract", _contract_of, several=True, everywhere=True)
_expand = make_operation(
    "resjax_norm_expand", _expand_of, _expand_of, several=True, everywhere=True
)


def _linear(operation, transpose, leading: int) -> None:
    """Registers the derivatives of an operation that is linear in its first `leading` operands.

    The other operands are also those of its transpose.
    """

    def jvp(primals, tangents, groups):
        result = operation(*primals, groups=groups)
        terms = []
        if any(type(each) is not ad.Zero for each in tangents[:leading]):
            first = map(ad.instantiate_zeros, tangents[:leading])
            terms.append(operation(*first, *primals[leading:], groups=groups))
        for index in range(leading, len(primals)):
            if type(tangents[index]) is not ad.Zero:

                def of(operand, index=index):
                    changed = (*primals[:index], operand, *primals[index + 1 :])
                    return operation.function(*changed, groups=groups)

                terms.append(jax.jvp(of, (primals[index],), (tangents[index],))[1])
        return result, [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]

    def backward(cotangents, *operands, groups):
        linear, others = operands[:leading], operands[leading:]
        gradients = transpose(*map(ad.instantiate_zeros, cotangents), *others, groups=groups)
        cast = [each.astype(own.aval.dtype) for each, own in zip(gradients, linear, strict=True)]
        return [*cast, *[None] * len(others)]

    ad.primitive_jvps[operation.primitive] = jvp
    ad.primitive_transposes[operation.primitive] = backward


def _change_of_moments(primals, tangents, groups):
    """The derivative of the moments: dmean = mean(dx); dvar = 2 mean(dx * (x - mean)).

    That of `batch_norm` is not asked for theirs, but a scan that is differentiated keeps the
    moments themselves, and nothing of how they are differentiated together with what uses them.
    """
    [x], [dx] = primals, tangents
    mean, var = _moments(x, groups=groups)
    values = x.size // (x.shape[-1] * groups)
    sums = _contract(dx, x, mean, jnp.ones_like(mean), groups=groups)
    return (mean, var), (sums[0] / values, 2 * sums[1] / values)


ad.primitive_jvps[_moments.primitive] = _change_of_moments
_linear(_contract, _expand, leading=1)
_linear(_expand, _contract, leading=2)


for _operation in (_moments, _contract, _expand):
    batch_by_channels(_operation.primitive)

AS_ELEMENTWISE = {"resjax_norm_expand": _expand_of}
"""Primitives whose work is elementwise, and the functions that compute them."""
