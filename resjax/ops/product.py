"""Batch normalisation of a product that is not computed on its own, by the moments of its factor.

Where a 1x1 convolution makes many channels out of few, as the last of a bottleneck does, its output
is the largest array of the block, and a normalisation would read it once for the moments, once to
normalise, and twice for the gradient. But the moments of W x follow from those of x:

    mean(W x) = W mean(x);  var(w x) = w Cov(x) w for every row w of W

So the scale of the normalisation is a factor on the kernel, its bias one on the product, and a
compiler for GPUs adds the bias and the shortcut, and activates, as part of the convolution. The
gradient needs nothing but x and the same moments.
"""

import jax
import jax.numpy as jnp

from resjax.ops.conv import conv
from resjax.ops.norm import Scope
from resjax.ops.primitive import exact_dtype


def product_norm(
    x: jax.Array,
    kernel: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    scope: Scope | None = None,
    shift: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The normalised product of x and a kernel, its means and its biased variances.

    y = scale * (z - mean) / sqrt(var + epsilon) + bias with z = x @ kernel, and the moments
    `[1, O]` of z over all axes but the last, as those of `batch_norm`.

    >>> x = jnp.array([[[[1.0]], [[3.0]]]])
    >>> y, mean, var = product_norm(x, jnp.array([[2.0, -1.0]]), jnp.ones(2), jnp.zeros(2), 0.0)
    >>> y[0, :, 0].tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    >>> mean.tolist(), var.tolist()
    ([[4.0, -2.0]], [[4.0, 1.0]])

    Args:
      x: `[N, H, W, C]`; y `[N, H, W, O]` has its dtype.
      kernel: `[C, O]`, at least float32, as the moments are.
      scale: `[O]`, likewise.
      bias: `[O]`, likewise.
      epsilon: added to the variance.
      scope: the examples that the moments are taken over, in one group.
      shift: `[O]`, values near the means, such as the running means, about which devices exchange
        their moments; the results depend on it by rounding alone.
    """
    exact, scope = exact_dtype(x), scope or Scope()
    rows, rounded = x.reshape(-1, x.shape[-1]), kernel.astype(x.dtype).astype(exact)
    mean_x = rows.astype(exact).mean(0)
    covariance = _square(rows) / len(rows) - mean_x[:, None] * mean_x
    mean = jnp.dot(mean_x, rounded, precision="highest")
    var = (rounded * jnp.dot(covariance, rounded, precision="highest")).sum(0)
    var = jnp.maximum(var, 0)
    if scope.axis is not None:
        mean_x, mean, var = _of_all_devices(mean_x, mean, var, scope, shift)
    scaled = (kernel * scale * jax.lax.rsqrt(var + epsilon)).astype(x.dtype)
    # The mean of the product with this kernel, as it is rounded; or every output would be off.
    bias = bias - jnp.dot(mean_x, scaled.astype(exact), precision="highest")
    y = conv(x, scaled[None, None])
    # Repeated before it is rounded, so that its gradient is summed in the dtype of the moments.
    return y + jnp.broadcast_to(bias, y.shape).astype(x.dtype), mean[None], var[None]


def _of_all_devices(mean_x, mean, var, scope, shift):
    """Combines the moments of the devices of a team, by the law of total variance."""
    shift = jnp.zeros_like(mean) if shift is None else shift
    shifted = mean - shift
    mean_x, of_all, square = scope.mean((mean_x, shifted, var + jnp.square(shifted)))
    return mean_x, shift + of_all, jnp.maximum(square - jnp.square(of_all), 0)


def _cross(a, b):
    """The product of the transpose of a `[N, C]` and b `[N, D]`, at least float32."""
    return jax.lax.dot_general(
        a, b, (((0,), (0,)), ((), ())), preferred_element_type=exact_dtype(a)
    )


@jax.custom_jvp
def _square(a):
    """The product of the transpose of a `[N, C]` and a itself.

    Its derivative is written out so that its gradient is one product, a @ (g + g^T), and not two.
    """
    return _cross(a, a)


@_square.defjvp
def _(primals, tangents):
    [a], [change] = primals, tangents
    half = _cross(a, change)
    return _square(a), half + half.T
