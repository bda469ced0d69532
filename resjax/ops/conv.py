"""2-D convolution that is fast on every backend, forward and backward, inside and outside loops.

conv(x, w)[n, i, j, o] = sum over a, b, c of x[n, s i + a - p, s j + b - p, c] w[a, b, c, o], with
p = (size - 1) // 2 on both sides of an axis: never SAME. It is bilinear, and it and its two
gradients are each other's derivatives: three operations, closed under differentiation.

On GPUs and TPUs they are XLA's convolutions, as JAX writes them. On a CPU XLA's are slow: at half
of what its units can do, 50 times slower on maps of 2x2, and 10 to 30 times slower inside a loop,
where they are not brought to the one layout that has a fast implementation. There, the kernels of
`native` are called, or, where no compiler could build them, XLA is given what it does best.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad, batching

from resjax.config.tables import Table
from resjax.ops import native
from resjax.ops.platform import platform
from resjax.ops.primitive import (
    Operation,
    exact_dtype,
    fold_channels,
    make_operation,
    mapped_size,
    unfold_channels,
)

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1, implementation: str = "auto"
) -> jax.Array:
    """Convolves `[N, H, W, C]` with `[A, B, C / groups, O]` to `[N, H', W', O]`.

    H' = (H + 2 ((A - 1) // 2) - A) // stride + 1, and W' likewise; the result has the dtype of x.

    >>> x, kernel = jnp.ones((2, 9, 9, 4)), jnp.ones((3, 3, 4, 8))
    >>> conv(x, kernel, stride=2).shape
    (2, 5, 5, 8)
    >>> y = conv(x, kernel)
    >>> float(y[0, 0, 0, 0]), float(y[0, 4, 4, 0])  # 2x2 and 3x3 taps of 4 channels
    (16.0, 36.0)

    Args:
      x: the images.
      kernel: the filters, of the same dtype as x.
      stride: the stride along both axes.
      groups: number of groups of channels that do not see each other.
      implementation: "auto", or "xla" for XLA's own convolution and gradients on every backend.

    Raises:
      ValueError: for shapes or dtypes that do not fit, an unknown implementation, or images that
        are smaller than the kernel.
    """
    compute = IMPLEMENTATIONS.choose(implementation, "implementation")
    _refuse(x, kernel, stride, groups)
    return compute(x, kernel, stride, groups)


def _refuse(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> None:
    shapes = f"x {x.shape} and kernel {kernel.shape}"
    if x.ndim != 4 or kernel.ndim != 4:
        raise ValueError(f"{shapes} are not [N, H, W, C] and [A, B, C / groups, O]")
    if x.dtype != kernel.dtype:
        raise ValueError(f"x has dtype {x.dtype} and kernel {kernel.dtype}; cast one of them")
    if stride < 1 or groups < 1:
        raise ValueError(f"stride={stride} and groups={groups} must be positive")
    if kernel.shape[2] * groups != x.shape[3] or kernel.shape[3] % groups:
        raise ValueError(f"{shapes} do not fit each other with groups={groups}")
    if min(_output_size(x.shape[1:3], kernel.shape[:2], stride)) < 1:
        raise ValueError(f"{shapes}: the images are smaller than the kernel")


def _output_size(image: tuple[int, ...], size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    pairs = zip(image, size, strict=True)
    return tuple((n + 2 * ((k - 1) // 2) - k) // stride + 1 for n, k in pairs)


def _stock(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [((size - 1) // 2,) * 2 for size in kernel.shape[:2]],
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


FEW_CHANNELS = 4
"""Maximum number of channels for which a GPU convolves blocks of 2x2 pixels at stride 2."""


def _is_for_blocks(shape: tuple[int, ...], geometry: "Geometry") -> bool:
    """Tells whether a GPU convolves images of this shape by blocks of 2x2 pixels."""
    even = not any(side % 2 for side in geometry.image)
    odd = all(size % 2 for size in geometry.size)
    few = max(geometry.size) > 1 and shape[3] <= FEW_CHANNELS
    return geometry.stride == 2 and geometry.groups == 1 and even and odd and few


def _by_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution at stride 2 of images of even sides, as one at stride 1 of blocks of pixels.

    A block is 2x2 pixels as channels of one, and the kernel is filled up with zeros to whole
    blocks. The units of a GPU that multiply matrices take channels by eights, and so are these.
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
    x = x.reshape(number, height // 2, 2, width // 2, 2, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(number, height // 2, width // 2, 4 * channels)
    return jnp.pad(x, [(0, 0)] * 3 + [(0, -4 * channels % 8)])


# ------------------------------------------------------------------------------ the three products


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The sizes of a convolution that the two operands of a product do not determine.

    Attributes:
      image: height and width of x.
      size: height and width of the kernel.
      stride, groups: the arguments of `conv`.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    stride: int
    groups: int

    @property
    def output(self) -> tuple[int, ...]:
        """Height and width of the output."""
        return _output_size(self.image, self.size, self.stride)


Product = Callable[[jax.Array, jax.Array, Geometry], jax.Array]


class Form(NamedTuple):
    """A method to compute the three products.

    Attributes:
      forward: maps x and the kernel to y.
      input_gradient: maps y and the kernel to x.
      kernel_gradient: maps x and y to the kernel.
    """

    forward: Product
    input_gradient: Product
    kernel_gradient: Product


def _shape(name: str, a: jax.Array, b: jax.Array, geometry: Geometry) -> tuple[int, ...]:
    """The shape of a product of operands a and b; `name` is a field of `Form`."""
    if name == "forward":
        return (a.shape[0], *geometry.output, b.shape[3])
    if name == "input_gradient":
        return (a.shape[0], *geometry.image, b.shape[2] * geometry.groups)
    return (*geometry.size, a.shape[3] // geometry.groups, b.shape[3])


def _stock_form() -> Form:
    """XLA's convolution and its transposes as JAX defines them."""

    def forward(x, kernel, geometry):
        return _stock(x, kernel, geometry.stride, geometry.groups)

    def input_gradient(y, kernel, geometry):
        x = jax.ShapeDtypeStruct(_shape("input_gradient", y, kernel, geometry), y.dtype)
        return jax.linear_transpose(lambda x: forward(x, kernel, geometry), x)(y)[0]

    def kernel_gradient(x, y, geometry):
        kernel = jax.ShapeDtypeStruct(_shape("kernel_gradient", x, y, geometry), y.dtype)
        return jax.linear_transpose(lambda kernel: forward(x, kernel, geometry), kernel)(y)[0]

    return Form(forward, input_gradient, kernel_gradient)


def _native_form() -> Form:
    """The kernels of `native`."""

    def product(name: str) -> Product:
        def call(a, b, geometry):
            result = jax.ShapeDtypeStruct(_shape(name, a, b, geometry), a.dtype)
            stride, groups = np.int64(geometry.stride), np.int64(geometry.groups)
            return native.call(f"resjax_conv_{name}", result)(a, b, stride=stride, groups=groups)

        return call

    return Form(*map(product, Form._fields))


def _canonical_form() -> Form:
    """The gradients as convolutions of images `[N, H, W, C]`, written out, for groups = 1.

    XLA has a fast CPU implementation for this layout alone, and brings others to it only outside of
    loops.
    """

    def forward(x, kernel, geometry):
        return _stock(x, kernel, geometry.stride, 1)

    def input_gradient(y, kernel, geometry):
        y = _spread(y, geometry)
        return jax.lax.conv_general_dilated(
            y, _mirrored(kernel), (1, 1), "VALID", dimension_numbers=DIMENSIONS
        )

    def kernel_gradient(x, y, geometry):
        margins = [
            (before, (n - 1) * geometry.stride + k - size - before)
            for n, k, size, before in zip(
                geometry.output, geometry.size, geometry.image, _margins(geometry), strict=True
            )
        ]
        kernel = jax.lax.conv_general_dilated(
            x.transpose(3, 1, 2, 0),
            y.transpose(1, 2, 0, 3),
            (1, 1),
            margins,
            rhs_dilation=(geometry.stride,) * 2,
            dimension_numbers=DIMENSIONS,
        )
        return kernel.transpose(1, 2, 0, 3)

    return Form(forward, input_gradient, kernel_gradient)


def _patches_form() -> Form:
    """Matrix products with the windows of all outputs side by side, for groups = 1."""

    def windows(x, size, stride, output):
        """Padded images to `[N, H', W', A B C]`."""
        spans = [(n - 1) * stride + 1 for n in output]
        parts = [
            x[:, a : a + spans[0] : stride, b : b + spans[1] : stride]
            for a in range(size[0])
            for b in range(size[1])
        ]
        return jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]

    def padded_windows(x, geometry):
        (a, b), (c, d) = _margins(geometry), geometry.size
        x = jnp.pad(x, ((0, 0), (a, c - 1 - a), (b, d - 1 - b), (0, 0)))
        return windows(x, geometry.size, geometry.stride, geometry.output)

    def forward(x, kernel, geometry):
        return padded_windows(x, geometry) @ kernel.reshape(-1, kernel.shape[3])

    def input_gradient(y, kernel, geometry):
        y = windows(_spread(y, geometry), geometry.size, 1, geometry.image)
        return y @ _mirrored(kernel).reshape(-1, kernel.shape[2])

    def kernel_gradient(x, y, geometry):
        kernel = jnp.tensordot(padded_windows(x, geometry), y, ((0, 1, 2), (0, 1, 2)))
        return kernel.reshape(_shape("kernel_gradient", x, y, geometry))

    return Form(forward, input_gradient, kernel_gradient)


def _margins(geometry: Geometry) -> tuple[int, ...]:
    return tuple((size - 1) // 2 for size in geometry.size)


def _mirrored(kernel: jax.Array) -> jax.Array:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _spread(y: jax.Array, geometry: Geometry) -> jax.Array:
    """Puts zeros between and around the pixels of an output's gradient, for the mirrored kernel."""
    edges = [
        (k - 1 - before, size + before - (n - 1) * geometry.stride - 1, geometry.stride - 1)
        for n, k, size, before in zip(
            geometry.output, geometry.size, geometry.image, _margins(geometry), strict=True
        )
    ]
    return jax.lax.pad(y, jnp.zeros((), y.dtype), [(0, 0, 0), *edges, (0, 0, 0)])


STOCK, NATIVE, CANONICAL, PATCHES = (
    _stock_form(), _native_form(), _canonical_form(), _patches_form(),
)  # fmt: skip


# ---------------------------------------------------------------------------- the choice on a CPU

TINY_MAP = 16
"""Pixels of an output up to which patches are faster than XLA's convolution on a CPU."""


def _cpu_form(name: str, geometry: Geometry, channels: int) -> Form:
    """The form that was fastest for a shape when measured (`tests/benchmarks/convolutions.py`).

    Shapes alone decide, never a timing, so that a program stays the same. `channels` are those of
    the result.
    """
    if native.available():
        # Where one to three channels come out, the vectors are nearly empty.
        narrow = name == "input_gradient" and channels // geometry.groups < 4
        return STOCK if narrow else NATIVE
    if geometry.groups > 1:
        return STOCK
    if geometry.size == (1, 1) or math.prod(geometry.output) <= TINY_MAP:
        return PATCHES
    return CANONICAL


def _on_cpu(name: str) -> Product:
    def product(a, b, geometry):
        form = _cpu_form(name, geometry, _shape(name, a, b, geometry)[3])
        exact = exact_dtype(a, b)
        return getattr(form, name)(a.astype(exact), b.astype(exact), geometry).astype(a.dtype)

    return product


# ----------------------------------------------------------------------------------- the operations


def _operation(name: str) -> Operation:
    operation = make_operation(f"resjax_conv_{name}", getattr(STOCK, name), _on_cpu(name))
    batching.primitive_batchers[operation.primitive] = functools.partial(_batch, operation)
    return operation


def _batch(operation: Operation, operands, axes, geometry: Geometry):
    """Maps a product under vmap: as one product, with a group of channels for each element."""
    size = mapped_size(operands, axes)
    geometry = dataclasses.replace(geometry, groups=size * geometry.groups)
    result = operation(*fold_channels(operands, axes), geometry=geometry)
    return unfold_channels(result, size)


def _bilinear(operation: Operation, first: Callable, second: Callable) -> None:
    """Registers the transposes of a product; each gets the cotangent and the other operand."""
    ad.defbilinear(
        operation.primitive,
        lambda cotangent, a, b, geometry: first(cotangent, b, geometry=geometry),
        lambda cotangent, a, b, geometry: second(cotangent, a, geometry=geometry),
    )


def _swapped(operation: Operation) -> Callable:
    return lambda cotangent, other, geometry: operation(other, cotangent, geometry=geometry)


_forward, _input, _kernel = map(_operation, Form._fields)
_bilinear(_forward, _input, _swapped(_kernel))
_bilinear(_input, _forward, _kernel)
_bilinear(_kernel, _swapped(_input), _swapped(_forward))


def _auto(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    geometry = Geometry(x.shape[1:3], kernel.shape[:2], stride, groups)
    if platform() == "gpu" and _is_for_blocks(x.shape, geometry):
        return _by_blocks(x, kernel)
    return _forward(x, kernel, geometry=geometry)


IMPLEMENTATIONS = Table("model.conv", {"auto": _auto, "xla": _stock})
