"""2-D convolution that is fast on every backend, forward and backward, inside and outside loops.

conv(x, w)[n, i, j, o] = sum over a, b, c of x[n, s i + a - p, s j + b - p, c] w[a, b, c, o], with
p = (size - 1) // 2 on both sides of an axis: never SAME. It is bilinear, and it and its two
gradients are each other's derivatives: three operations, closed under differentiation.

On GPUs and TPUs they are XLA's convolutions, as JAX writes them, on a GPU filled up where channels
are few (`filled`). On a CPU XLA's are slow: at half of what its units can do, 50 times slower on
maps of 2x2, and 10 to 30 times slower inside a loop, where they are not brought to the one layout
that has a fast implementation. There, the kernels of `native` are called, or, where no compiler
could build them, XLA is given what it does best.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
from jax.interpreters import ad, batching

from resjax.config.tables import Table
from resjax.ops import native
from resjax.ops.filled import by_blocks, in_packs, is_for_blocks
from resjax.ops.forms import (
    CANONICAL,
    NATIVE,
    PATCHES,
    STOCK,
    Form,
    Geometry,
    Product,
    output_size,
    shape_of,
    stock,
)
from resjax.ops.platform import platform, traced_for_runs
from resjax.ops.primitive import (
    Operation,
    exact_dtype,
    fold_channels,
    make_operation,
    mapped_size,
    unfold_channels,
)


def conv(
    x: jax.Array, kernel: jax.Array, stride: int = 1, groups: int = 1, implementation: str = "auto"
) -> jax.Array:
    """Convolves `[N, H, W, C]` with `[A, B, C / groups, O]` to `[N, H', W', O]`.

    H' = (H + 2 ((A - 1) // 2) - A) // stride + 1, and W' likewise; the result has the dtype of x.

    >>> import jax.numpy as jnp
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
    if min(output_size(x.shape[1:3], kernel.shape[:2], stride)) < 1:
        raise ValueError(f"{shapes}: the images are smaller than the kernel")


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
        form = _cpu_form(name, geometry, shape_of(name, a, b, geometry)[3])
        exact = exact_dtype(a, b)
        return getattr(form, name)(a.astype(exact), b.astype(exact), geometry).astype(a.dtype)

    return product


# ----------------------------------------------------------------------------------- the operations


def _operation(name: str) -> Operation:
    operation = make_operation(f"resjax_conv_{name}", getattr(STOCK, name), _on_cpu(name))
    batching.primitive_batchers[operation.primitive] = functools.partial(_batch, name, operation)
    return operation


def _batch(name: str, operation: Operation, operands, axes, geometry: Geometry):
    """Maps a product under vmap: as one product, with a group of channels for each element.

    On a GPU, as products of a few elements together.
    """
    size = mapped_size(operands, axes)
    a, b = fold_channels(operands, axes)
    if platform() == "gpu" and geometry.groups == 1:
        result = in_packs(name, functools.partial(operation, geometry=geometry), a, b, size)
    else:
        groups = dataclasses.replace(geometry, groups=size * geometry.groups)
        result = operation(a, b, geometry=groups)
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
    if platform() == "gpu" and not traced_for_runs() and is_for_blocks(x.shape[3], geometry):
        return by_blocks(x, kernel)
    return _forward(x, kernel, geometry=geometry)


IMPLEMENTATIONS = Table("model.conv", {"auto": _auto, "xla": stock})
