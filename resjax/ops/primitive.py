"""Operations with their own kernels on the CPU, and functions of JAX elsewhere."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from resjax.ops import native
from resjax.ops.devices import vary_over
from resjax.ops.platform import platform, traced_for_runs


@dataclasses.dataclass(frozen=True)
class Operation:
    """A function of arrays that is a single primitive in programs for CPUs.

    Programs for other platforms have the function itself, so that whatever reads or rewrites a
    program, such as a policy of what is kept for the gradient, finds the operations that it knows.
    So have those for CPUs whose arrays say by their types how devices split them. Programs of
    several runs for GPUs have the primitive, which is mapped over them in a way of its own.

    Attributes:
      primitive: the primitive, whose results are a tuple if there are several.
      function: the same computation by functions of JAX that can be differentiated and mapped.
      everywhere: whether programs for all platforms have the primitive. Its operands are what is
        kept for the gradient, and not what the function makes of them on its way.
    """

    primitive: Primitive
    function: Callable
    everywhere: bool = False

    def __call__(self, *operands: Any, **params: Any) -> Any:
        ours = platform() == "cpu" or (platform() == "gpu" and traced_for_runs())
        if self.everywhere or (ours and not any(map(_is_typed_by_devices, operands))):
            return self.primitive.bind(*_varying_alike(operands), **params)
        return self.function(*operands, **params)


def _is_typed_by_devices(operand: jax.Array) -> bool:
    """Tells whether the type of an array says how it is split over devices, or varies over them.

    The rules that decide what type a result then has are those of JAX's own functions.
    """
    kind = jax.typeof(operand)
    return bool(kind.sharding.mesh.explicit_axes or kind.manual_axis_type.varying)


def _varying_alike(operands: Sequence[jax.Array]) -> list[jax.Array]:
    """Has all operands vary over every axis of devices over which one of them does."""
    axes = frozenset().union(*(jax.typeof(each).manual_axis_type.varying for each in operands))
    return [vary_over(operand, axes) for operand in operands]


def make_operation(
    name: str,
    function: Callable,
    cpu: Callable | None = None,
    several: bool = False,
    everywhere: bool = False,
) -> Operation:
    """Makes an operation, as yet without derivatives or a rule for vmap.

    Args:
      name: the name of the primitive.
      function: computes the results.
      cpu: computes the same on a CPU; None is the kernel of `native` with the primitive's name.
      several: whether it has several results, a tuple.
      everywhere: whether it is a primitive in programs for all platforms.
    """
    primitive = Primitive(name)
    primitive.multiple_results = several

    @functools.partial(jax.jit, static_argnums=0)
    def compiled(params: tuple[tuple[str, Any], ...], *operands: jax.Array) -> Any:
        return primitive.bind(*operands, **dict(params))

    def abstract(*operands, **params):
        results = jax.make_jaxpr(functools.partial(function, **params))(*operands).out_avals
        return results if several else results[0]

    primitive.def_impl(lambda *operands, **params: compiled((*params.items(),), *operands))
    primitive.def_abstract_eval(abstract)
    # A program that was traced for CPUs may yet be compiled for another platform.
    mlir.register_lowering(primitive, mlir.lower_fun(function, several))
    mlir.register_lowering(
        primitive, mlir.lower_fun(cpu or _by_kernel(name, function), several), platform="cpu"
    )
    return Operation(primitive, function, everywhere)


def _by_kernel(target: str, function: Callable) -> Callable:
    """The function, computed by a kernel of `native`, or by JAX where no compiler could build it.

    Kernels compute in at least float32; the results have the dtypes of the function.
    """

    def call(*operands: jax.Array, **params: Any) -> Any:
        if not native.available():
            return function(*operands, **params)
        shapes = functools.partial(jax.eval_shape, functools.partial(function, **params))
        exact = exact_dtype(*filter(_is_real, operands))
        cast = [each.astype(exact) if _is_real(each) else each for each in operands]
        results = native.call(target, shapes(*cast))(*cast)
        return jax.tree.map(lambda own, like: own.astype(like.dtype), results, shapes(*operands))

    return call


def _is_real(operand: jax.Array) -> bool:
    return jnp.issubdtype(operand.dtype, jnp.floating)


def fold_channels(operands: Sequence[jax.Array], axes: Sequence[int | None]) -> list[jax.Array]:
    """Merges the axis that vmap maps into the channels: B times `[..., C]` to `[..., B C]`.

    Operands that are not mapped are repeated B times.
    """
    size = mapped_size(operands, axes)

    def fold(operand: jax.Array, axis: int | None) -> jax.Array:
        if axis is None:
            operand, axis = jnp.broadcast_to(operand, (size, *operand.shape)), 0
        operand = jnp.moveaxis(operand, axis, -2)
        return operand.reshape(*operand.shape[:-2], -1)

    return list(map(fold, operands, axes))


def unfold_channels(result: jax.Array, size: int) -> tuple[jax.Array, int]:
    """Undoes `fold_channels` for a result: `[..., B C]` to `[..., B, C]`, and the mapped axis."""
    return result.reshape(*result.shape[:-1], size, -1), result.ndim - 1


def batch_by_channels(primitive: Primitive) -> None:
    """Lets vmap map a primitive that treats channels separately, as one with more channels.

    So it has the layout of the convolutions beside it, which vmap maps by groups of channels.
    """

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
    """The dtype of the operands, but at least float32."""
    return jnp.result_type(jnp.float32, *operands)
