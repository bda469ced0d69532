"""Methods to compute a convolution and its two gradients, the three products of its operands."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resjax.ops import native

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def output_size(image: tuple[int, ...], size: tuple[int, ...], stride: int) -> tuple[int, ...]:
    """The sides of the output for images and a kernel of these sides."""
    pairs = zip(image, size, strict=True)
    return tuple((n + 2 * ((k - 1) // 2) - k) // stride + 1 for n, k in pairs)


def stock(x: jax.Array, kernel: jax.Array, stride: int, groups: int) -> jax.Array:
    """XLA's own convolution, with the arguments of `resjax.ops.conv.conv`."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [((size - 1) // 2,) * 2 for size in kernel.shape[:2]],
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


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
        return output_size(self.image, self.size, self.stride)


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


def shape_of(name: str, a: jax.Array, b: jax.Array, geometry: Geometry) -> tuple[int, ...]:
    """The shape of a product of operands a and b; `name` is a field of `Form`."""
    if name == "forward":
        return (a.shape[0], *geometry.output, b.shape[3])
    if name == "input_gradient":
        return (a.shape[0], *geometry.image, b.shape[2] * geometry.groups)
    return (*geometry.size, a.shape[3] // geometry.groups, b.shape[3])


def _stock_form() -> Form:
    """XLA's convolution and its transposes as JAX defines them."""

    def forward(x, kernel, geometry):
        return stock(x, kernel, geometry.stride, geometry.groups)

    def input_gradient(y, kernel, geometry):
        x = jax.ShapeDtypeStruct(shape_of("input_gradient", y, kernel, geometry), y.dtype)
        return jax.linear_transpose(lambda x: forward(x, kernel, geometry), x)(y)[0]

    def kernel_gradient(x, y, geometry):
        kernel = jax.ShapeDtypeStruct(shape_of("kernel_gradient", x, y, geometry), y.dtype)
        return jax.linear_transpose(lambda kernel: forward(x, kernel, geometry), kernel)(y)[0]

    return Form(forward, input_gradient, kernel_gradient)


def _native_form() -> Form:
    """The kernels of `native`."""

    def product(name: str) -> Product:
        def call(a, b, geometry):
            result = jax.ShapeDtypeStruct(shape_of(name, a, b, geometry), a.dtype)
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
        return stock(x, kernel, geometry.stride, 1)

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
        return kernel.reshape(shape_of("kernel_gradient", x, y, geometry))

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
