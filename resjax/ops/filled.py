"""Convolutions for GPUs, filled up with zeros to what their units multiply at once.

The units that multiply matrices take channels by eights, and are busy with 64 to 128 of them. An
image has three, and a run of a narrow network 16 to 64.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from resjax.ops.forms import DIMENSIONS, Geometry
from resjax.ops.primitive import exact_dtype

# --------------------------------------------------------------------------------- blocks of pixels

FEW_CHANNELS = 4
"""Maximum number of channels of images that are convolved by blocks of pixels."""


def is_for_blocks(channels: int, geometry: Geometry) -> bool:
    """Tells whether images of so many channels are convolved by blocks of pixels."""
    even = not any(side % 2 for side in geometry.image)
    odd = all(size % 2 for size in geometry.size)
    few = max(geometry.size) > 1 and channels <= FEW_CHANNELS
    return geometry.stride == 2 and geometry.groups == 1 and even and odd and few


def by_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution at stride 2 of images of even sides, as one at stride 1 of blocks of pixels.

    A block is 2x2 pixels as channels of one, and the kernel is filled up to whole blocks. On an
    H200 the first layer of ResNet-50 and its gradient take 1.1 ms so, and 2.6 as they are.
    """
    around, filled = [], []
    for size in kernel.shape[:2]:
        before = -(-((size - 1) // 2) // 2)  # blocks
        first = 2 * before - (size - 1) // 2
        blocks = -(-(first + size) // 2)
        around.append((2 * before, 2 * (blocks - 1 - before)))
        filled.append((first, 2 * blocks - first - size))
    x = _blocks(jnp.pad(x, [(0, 0), *around, (0, 0)]))
    kernel = _blocks(jnp.pad(kernel, [*filled, (0, 0), (0, 0)]).transpose(3, 0, 1, 2))
    return jax.lax.conv_general_dilated(
        x, kernel.transpose(1, 2, 3, 0), (1, 1), "VALID", dimension_numbers=DIMENSIONS
    )


def _blocks(x: jax.Array) -> jax.Array:
    """`[N, 2 H, 2 W, C]` to `[N, H, W, 4 C]`, with channels of zeros up to a multiple of eight."""
    number, height, width, channels = x.shape
    # An axis at a time, as arrays must be reshaped that say by their types how devices split them.
    x = x.reshape(number, height // 2, 2, width, channels)
    x = x.reshape(number, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(number, height // 2, width // 2, 4 * channels)
    return jnp.pad(x, [(0, 0)] * 3 + [(0, -4 * channels % 8)])


# ------------------------------------------------------------------------------------ packs of runs

PACKED_CHANNELS = 128
"""Channels up to which runs are put into one pack."""


def in_packs(
    name: str, product: Callable[..., jax.Array], a: jax.Array, b: jax.Array, runs: int
) -> jax.Array:
    """A product of a convolution for several runs, whose channels lie side by side.

    The runs of a pack are one product without groups, with a kernel that is theirs in blocks on its
    diagonal and zero elsewhere. A group of channels for each run takes 2.5 times as long for eight
    runs of ResNet-20 on an H200.

    What is not finite in one run would be NaN in the others of its pack, times zero. It is left
    out, and all results of that run are NaN for that image.

    Args:
      name: field of `resjax.ops.forms.Form`.
      product: that product, a function of both operands.
      a: the first operand, `[..., runs C]`, or `[A, B, C, runs O]` if it is a kernel.
      b: the second operand, likewise.
      runs: number of runs.
    """
    narrow = a.shape[-1] // runs, b.shape[-1] // runs
    inputs, outputs = (b.shape[2], narrow[1]) if name == "input_gradient" else narrow
    size = max(1, PACKED_CHANNELS // max(inputs, outputs))
    packs = []
    for start in range(0, runs, size):
        number = min(size, runs - start)
        own, other = (_of_runs(each, runs, start, number) for each in (a, b))
        if number == 1:
            packs.append(product(own, other))
            continue
        own, lost = _finite(own, number)
        if name == "kernel_gradient":
            # Here each run has products of its own; but so either operand is there only once.
            other, lost_too = _finite(other, number)
            result, lost = _diagonal(product(own, other), number), (lost + lost_too).sum(0)
        else:
            result = product(own, _on_diagonal(other, number))
            lost = lost[:, None, None]
        packs.append(result + lost.astype(result.dtype).repeat(result.shape[-1] // number, -1))
    return jnp.concatenate(packs, -1)


def _of_runs(x: jax.Array, runs: int, start: int, number: int) -> jax.Array:
    """The channels of some runs."""
    each = x.shape[-1] // runs
    return x[..., start * each : (start + number) * each]


def _on_diagonal(kernel: jax.Array, number: int) -> jax.Array:
    """Kernels `[A, B, C, number O]` as one of all channels, `[A, B, number C, number O]`."""
    *size, inputs, outputs = kernel.shape
    kernel = kernel.reshape(*size, 1, inputs, number, outputs // number)
    own = jnp.eye(number, dtype=bool)[:, None, :, None]
    return jnp.where(own, kernel, 0).reshape(*size, number * inputs, outputs)


def _diagonal(kernel: jax.Array, number: int) -> jax.Array:
    """Undoes `_on_diagonal`."""
    *size, inputs, outputs = kernel.shape
    kernel = kernel.reshape(*size, number, inputs // number, number, outputs // number)
    blocks = [kernel[..., each, :, each, :] for each in range(number)]
    return jnp.concatenate(blocks, -1)


def _finite(x: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Puts zeros in `[N, H, W, C]` for what is not finite; `[N, number]` is NaN where it was, or 0.

    The latter is a sum that a compiler puts into the pass over memory that computes x.
    """
    by_run = x.reshape(*x.shape[:-1], number, -1)
    lost = (0 * by_run.astype(exact_dtype(x))).sum((1, 2, 4))
    return jnp.where(jnp.isfinite(x), x, 0), lost
