"""How an operation with kernels of its own on the CPU becomes one of JAX."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


def make_primitive(name: str, default: Callable, cpu: Callable, several: bool = False) -> Primitive:
    """A primitive.

    Args:
      name: in programs.
      default: what it computes, in functions of JAX.
      cpu: the same on a CPU.
      several: whether it has several results, a tuple.
    """
    primitive = Primitive(name)
    primitive.multiple_results = several

    @functools.cache
    def compiled(**params: Any) -> Callable:
        return jax.jit(functools.partial(primitive.bind, **params))

    def abstract(*operands, **params):
        results = jax.eval_shape(functools.partial(default, **params), *operands)
        return jax.tree.map(lambda result: ShapedArray(result.shape, result.dtype), results)

    primitive.def_impl(lambda *operands, **params: compiled(**params)(*operands))
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(default, several))
    mlir.register_lowering(primitive, mlir.lower_fun(cpu, several), platform="cpu")
    return primitive


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
