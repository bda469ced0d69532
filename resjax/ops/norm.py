"""Normalisation by the batch, with the fewest passes over memory that it can have.

Forward, the moments are one pass and the normalisation another, which XLA fuses with the activation
and the sum that follow. Backward, both sums that the gradient needs are one pass, and they are the
gradients of scale and bias already; nothing but x and its moments is kept for it.
"""

import functools

import jax
import jax.numpy as jnp
from jax.interpreters import ad, batching

from resjax.ops import native
from resjax.ops.primitive import (
    exact_dtype,
    fold_channels,
    make_primitive,
    mapped_size,
    unfold_channels,
)


def batch_norm(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The normalised x, its mean and its biased variance (Ioffe and Szegedy 2015, algorithm 1).

    y = scale * (x - mean) / sqrt(var + epsilon) + bias, with moments `[C]` over all axes but the
    last; the variance is a mean of squares and never negative.

    Args:
      x: `[..., C]`; y has its dtype.
      scale: `[C]`, at least float32, as the moments are.
      bias: likewise.
      epsilon: added to the variance.
    """
    return _batch_norm(epsilon, x, scale, bias)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _batch_norm(epsilon, x, scale, bias):
    mean, var = _moments.bind(x)
    return normalise(x, mean, var, scale, bias, epsilon), mean, var


@_batch_norm.defjvp
def _(epsilon, primals, tangents):
    x, scale, _ = primals
    dx, dscale, dbias = tangents
    y, mean, var = _batch_norm(epsilon, *primals)
    inverse = jax.lax.rsqrt(var + epsilon)
    # The mean of dx, and that of dx times the normalised x.
    along, across = _contract.bind(dx, x, mean, inverse) / (x.size // x.shape[-1])
    factor = scale * inverse
    change = jnp.stack([dbias - factor * along, dscale - factor * across])
    dy = factor * dx + _expand.bind(change, x, mean, inverse)
    return (y, mean, var), (dy.astype(y.dtype), along, 2 * across / inverse)


def normalise(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
) -> jax.Array:
    """Normalises x `[..., C]` by given moments; they, scale and bias are `[C]`.

    y = scale * (x - mean) / sqrt(var + epsilon) + bias.

    It is computed with the precision of the others and has the dtype of x.
    """
    return ((x - mean) * (scale * jax.lax.rsqrt(var + epsilon)) + bias).astype(x.dtype)


# --------------------------------------------------------------------- the sums and their transpose


def _moments_of(x):
    """`[..., C]` to its mean and biased variance `[2, C]`."""
    axes, x = tuple(range(x.ndim - 1)), x.astype(exact_dtype(x))
    mean = x.mean(axes)
    return jnp.stack([mean, jnp.square(x - mean).mean(axes)])


def _contract_of(y, x, mean, inverse):
    """The sums `[2, C]` of y and of y * (x - mean) * inverse."""
    axes, y = tuple(range(y.ndim - 1)), y.astype(mean.dtype)
    return jnp.stack([y.sum(axes), (y * (x - mean)).sum(axes) * inverse])


def _expand_of(sums, x, mean, inverse):
    """Its transpose in y: sums[0] + sums[1] * (x - mean) * inverse."""
    return sums[0] + (sums[1] * inverse) * (x - mean)


def _on_cpu(target: str, otherwise):
    def call(*operands):
        if not native.available():
            return otherwise(*operands)
        exact = exact_dtype(*operands)
        shape = jax.ShapeDtypeStruct((2, operands[0].shape[-1]), exact)
        return jax.ffi.ffi_call(target, shape)(*(operand.astype(exact) for operand in operands))

    return call


_moments = make_primitive(
    "resjax_norm_moments", _moments_of, _on_cpu("resjax_norm_moments", _moments_of)
)
_contract = make_primitive(
    "resjax_norm_contract", _contract_of, _on_cpu("resjax_norm_contract", _contract_of)
)
_expand = make_primitive("resjax_norm_expand", _expand_of, _expand_of)


def _linear_in_first(primitive, function, transpose) -> None:
    """Derivatives of a function of four operands that is linear in the first."""

    def other(index):
        def derivative(tangent, *operands):
            def of(operand):
                return function(*operands[:index], operand, *operands[index + 1 :])

            return jax.jvp(of, (operands[index],), (tangent,))[1]

        return derivative

    def first(tangent, _, *operands):
        return primitive.bind(tangent, *operands)

    ad.defjvp(primitive, first, *(other(index) for index in (1, 2, 3)))

    def backward(cotangent, y, *operands):
        return transpose.bind(cotangent, *operands).astype(y.aval.dtype), None, None, None

    ad.primitive_transposes[primitive] = backward


_linear_in_first(_contract, _contract_of, _expand)
_linear_in_first(_expand, _expand_of, _contract)


def _batch(primitive, operands, axes):
    """vmap: what is mapped becomes further channels, which are normalised each for itself."""
    result = primitive.bind(*fold_channels(operands, axes))
    return unfold_channels(result, mapped_size(operands, axes))


for _primitive in (_moments, _contract, _expand):
    batching.primitive_batchers[_primitive] = functools.partial(_batch, _primitive)
