"""Operations with kernels of their own on the CPU, and of nothing but JAX's own elsewhere."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from resjax.ops.platform import platform


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of arrays that programs for CPUs have as one primitive.

    In programs for other platforms it is what it computes, so that whatever reads or rewrites a
    program, such as a policy of what is kept for the gradient, finds the operations that it knows.

    Attributes:
      primitive: whose results are a tuple if there are several.
      function: what it computes, in functions of JAX that can be differentiated and mapped.
    """

    primitive: Primitive
    function: Callable

    def __call__(self, *operands: Any, **params: Any) -> Any:
        on_cpu = platform() == "cpu"
        return (self.primitive.bind if on_cpu else self.function)(*operands, **params)


def make_operation(
    name: str, function: Callable, cpu: Callable, several: bool = False
) -> Operation:
    """An operation without derivatives, and which cannot be mapped yet.

    Args:
      name: of the primitive.
      function: what it computes.
      cpu: the same on a CPU.
      several: whether it has several results, a tuple.
    """
    primitive = Primitive(name)
    primitive.multiple_results = several

    @functools.cache
    def compiled(**params: Any) -> Callable:
        return jax.jit(functools.partial(primitive.bind, **params))

    def abstract(*operands, **params):
        results = jax.eval_shape(functools.partial(function, **params), *operands)
        return jax.tree.map(lambda result: ShapedArray(result.shape, result.dtype), results)

    primitive.def_impl(lambda *operands, **params: compiled(**params)(*operands))
    primitive.def_abstract_eval(abstract)
    # A program that was traced for CPUs may yet be compiled for another platform.
    mlir.register_lowering(primitive, mlir.lower_fun(function, several))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, several), platform="cpu")
    return Operation(primitive, function)


def fold_channels(operands: Sequence[jax.Array], axes: Sequence[int | None]) -> list[jax.Array]:
    """Of operands under vmap, what is mapped as further channels: `[..., C]` to `[..., B C]`.

    Those that are not mapped are repeated.
    """
    size = mapped_size(operands, axes)

    def fold(operand: jax.Array, axis: int | None) -> jax.Array:
        if axis is None:
            operand, axis = jnp.broadcast_to(operand, (size, *operand.shape)), 0
        operand = jnp.moveaxis(operand, axis, -2)
        return operand.reshape(*operand.shape[:-2], -1)

    return list(map(fold, operands, axes))


def unfold_channels(result: jax.Array, size: int) -> tuple[jax.Array, int]:
    """The inverse for a result: `[..., B C]` to `[..., B, C]`, and the mapped axis."""
    return result.reshape(*result.shape[:-1], size, -1), result.ndim - 1


def batch_by_channels(primitive: Primitive) -> None:
    """Says what vmap makes of a primitive that treats every channel for itself: more channels."""

    def batch(operands, axes, **params):
        size = mapped_size(operands, axes)
        results = primitive.bind(*fold_channels(operands, axes), **params)
        if not primitive.multiple_results:
            return unfold_channels(results, size)
        values, mapped = zip(*(unfold_channels(result, size) for result in results), strict=True)
        return list(values), list(mapped)

    batching.primitive_batchers[primitive] = batch


def mapped_size(operands: Sequence[jax.Array], axes: Sequence[int | None]) -> int:
    """B, the number of elements that vmap maps over."""
    pairs = zip(operands, axes, strict=True)
    return next(operand.shape[axis] for operand, axis in pairs if axis is not None)


def exact_dtype(*operands: jax.Array) -> jnp.dtype:
    """The dtype of the operands, and at least float32."""
    return jnp.result_type(jnp.float32, *operands)
