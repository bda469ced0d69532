"""Max-pooling that propagates NaN and has a gradient that is fast on CPUs and the same on GPUs.

The maximum is linear in the pixels where it is taken: an operation finds them, and two that are
each other's transposes take the pixels there and put values back.
"""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.dtypes import float0
from jax.interpreters import ad

from resjax.ops.platform import platform
from resjax.ops.primitive import batch_by_channels, make_operation

FINDING = ("cpu", "gpu")
"""Platforms where the pixels are found, rather than reduced.

The gradient of XLA's reduction over windows is a search and a scatter. On a CPU this takes 5 to 8
times as long. On a GPU the windows that overlap add to a pixel in any order, so that the same
program has other bits the next time, and a step of ResNet-50 moves 3 % more memory. TPUs have an
instruction for it.
"""


def max_pool(x: jax.Array, implementation: str = "auto") -> jax.Array:
    """Maximum of windows of 3x3 at stride 2, padded by 1: `[N, H, W, C]` to `[N, H/2, W/2, C]`.

    H/2 and W/2 are rounded up. `implementation` is "auto", or "xla" for XLA's reduction on every
    backend.

    The gradient goes to the first maximum of a window, by rows. The maximum of a window with a NaN
    is NaN.

    >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, ..., 0].tolist()
    [[5.0, 7.0], [13.0, 15.0]]
    """
    if implementation != "auto" or platform() not in FINDING:
        return _by_reduction(x)
    if platform() == "gpu":
        # Otherwise what computes a pixel of x is done in all four windows that it is in.
        return jax.lax.optimization_barrier(_found(jax.lax.optimization_barrier(x)))[0]
    return _found(x)[0]


def _by_reduction(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


@jax.custom_jvp
def _found(x):
    """Maxima `[N, H', W', C]`, and the number of each among the nine pixels of its window."""
    return tuple(_maxima(x))


@_found.defjvp
def _change(primals, tangents):
    y, positions = _found(*primals)
    return (y, positions), (_picked(*tangents, positions), np.zeros(y.shape, float0))


# -------------------------------------------------------------------------------- the operations


def _windows(x: jax.Array, fill: float) -> list[jax.Array]:
    """The nine pixels of every window, by rows, each `[N, H', W', C]`."""
    height, width = ((size - 1) // 2 + 1 for size in x.shape[1:3])
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    return [
        x[:, row : row + 2 * height - 1 : 2, column : column + 2 * width - 1 : 2]
        for row in range(3)
        for column in range(3)
    ]


def _maxima_of(x):
    """Maxima, and the number of each among the nine pixels of its window, int8."""
    largest, *others = _windows(x, -jnp.inf)
    # The first pixel of a window, which lies after the padding.
    rows, columns = (jnp.arange(size) == 0 for size in largest.shape[1:3])
    first = 3 * rows[:, None, None] + columns[:, None]
    positions = jnp.broadcast_to(first.astype(jnp.int8), largest.shape)
    for number, other in enumerate(others, start=1):
        better = (other > largest) | (jnp.isnan(other) & ~jnp.isnan(largest))
        largest = jnp.where(better, other, largest)
        positions = jnp.where(better, jnp.int8(number), positions)
    return largest, positions


def _picked_of(x, positions):
    """The pixels of x at the positions of its windows."""
    zero = jnp.zeros((), x.dtype)
    windows = enumerate(_windows(x, 0.0))
    return sum(jnp.where(positions == number, pixels, zero) for number, pixels in windows)


PLACES = {0: ((1, 0),), 1: ((2, 0), (0, 1))}
"""The windows along an axis that have an even or odd pixel, 2 i or 2 i + 1: its place in each, and
how far that is from window i."""


def _placed_of(y, positions, size):
    """The transpose of `_picked_of`: adds y to an image of `size` where windows have maxima.

    Pixels are even or odd along either axis. The four kinds are computed each from the few windows
    that have such a pixel, and put side by side.
    """
    zero = jnp.zeros((), y.dtype)

    def kind(rows: tuple, columns: tuple) -> jax.Array:
        terms = []
        for (row, down), (column, right) in itertools.product(rows, columns):
            term = jnp.where(positions == 3 * row + column, y, zero)
            ahead = jnp.pad(term, ((0, 0), (0, down), (0, right), (0, 0)))
            terms.append(ahead[:, down:, right:])
        return sum(terms[1:], terms[0])

    pixels = [jnp.stack([kind(PLACES[a], PLACES[b]) for b in PLACES], 3) for a in PLACES]
    image = jnp.stack(pixels, 2)
    number, height, _, width, _, channels = image.shape
    # An axis at a time, as arrays must be reshaped that say by their types how devices split them.
    image = image.reshape(number, 2 * height, width, 2, channels)
    image = image.reshape(number, 2 * height, 2 * width, channels)
    return image[:, : size[0], : size[1]]


_maxima = make_operation("resjax_pool_maxima", _maxima_of, several=True)
# By functions of JAX the gradient would ask every pixel for its place in nine windows, not in four.
_picked = make_operation("resjax_pool_picked", _picked_of, everywhere=True)
_placed = make_operation("resjax_pool_placed", _placed_of, everywhere=True)


def _linear(operation, transpose) -> None:
    """Registers the derivatives of an operation of (values, positions), linear in the values."""

    def backward(cotangent, values, positions, **params):
        return transpose(cotangent, values.aval, positions), None

    def change(tangent, _, *others, **params):
        return operation(tangent, *others, **params)

    ad.defjvp(operation.primitive, change, None)
    ad.primitive_transposes[operation.primitive] = backward


# A scan that is differentiated keeps the operation itself.
ad.primitive_jvps[_maxima.primitive] = _change
_linear(_picked, lambda y, x, positions: _placed(y, positions, size=x.shape[1:3]))
_linear(_placed, lambda x, y, positions: _picked(x, positions))

for _operation in (_maxima, _picked, _placed):
    batch_by_channels(_operation.primitive)
