"""Compiled programs, cached in the process: the runs of a sweep share those of a network."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from resjax.ops.value import by_value
from resjax.waits import waiting

MOST_PROGRAMS = 32
"""Maximum number of cached programs, last used first: four for each of eight networks, for
example."""


def program(
    function: Callable,
    parts: tuple,
    arguments: tuple,
    transform: Callable = jax.jit,
    **options: Any,
) -> Callable:
    """Compiles `function(*parts, *arguments)` for given parts and for arguments of these shapes.

    Whatever may differ between runs that share a program is an argument: the seed, the learning
    rate, the data. A program compiled before is returned if it has the same function, and parts and
    options that are equal by value; JAX itself compares the arguments and its own settings, such as
    x64.

    Args:
      function: a function of a module, since a closure equals no other.
      parts: constants of the program: networks, functions, numbers.
      arguments: arrays, or their shapes as `jax.ShapeDtypeStruct`.
      transform: `jax.jit`, or another whose result has a `lower` method.
      options: options of the transform; `donate_argnums` counts the arguments alone.
    """
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
    values = by_value(parts), by_value(options)
    recipe = _Recipe(function, transform, parts, options, values, shapes)
    name = getattr(function, "__name__", type(function).__name__)
    with waiting(f"compiling {name.replace('_', ' ')}"):
        return _transformed(recipe).lower(*arguments).compile()


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """Cache key of a program; equal for equal networks, even if these were built separately.

    `shapes` are part of it so that every recipe has one program, and the bound holds for programs.
    """

    function: Callable
    transform: Callable
    parts: tuple = dataclasses.field(compare=False)
    options: Mapping[str, Any] = dataclasses.field(compare=False)
    values: tuple
    shapes: tuple


@functools.lru_cache(MOST_PROGRAMS)
def _transformed(recipe: _Recipe) -> Any:
    """Applies the transform, cached: JAX keeps compiled code only as long as this object lives."""
    return recipe.transform(functools.partial(recipe.function, *recipe.parts), **recipe.options)
