"""Compiled programs, kept in the process: a sweep compiles those of a network once for its runs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from resjax.ops.value import by_value

MOST_PROGRAMS = 24
"""Programs that are kept, such as the three of each of eight networks: those used last."""


def program(
    function: Callable,
    parts: tuple,
    arguments: tuple,
    transform: Callable = jax.jit,
    **options: Any,
) -> Callable:
    """`function(*parts, *arguments)`, compiled for given parts and for arguments of these shapes.

    Whatever may differ between runs that share a program is an argument: the seed, the learning
    rate, the data. One that was compiled before is returned if it has the same function, and parts
    and options that are equal by value; that the arguments and the settings of JAX, such as x64,
    are the same as well, JAX itself sees to.

    Args:
      function: one of a module, since a closure equals no other.
      parts: constants of the program: networks, functions, numbers.
      arguments: arrays, or their shapes as `jax.ShapeDtypeStruct`.
      transform: `jax.jit`, or another that makes what has a `lower` method.
      options: of the transform; `donate_argnums` counts the arguments alone.
    """
    shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(arguments))
    values = by_value(parts), by_value(options)
    recipe = _Recipe(function, transform, parts, options, values, shapes)
    return _transformed(recipe).lower(*arguments).compile()


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What decides a program; runs that build their networks apart have equal ones.

    `shapes` are here so that every recipe has one program: their number is what is bounded.
    """

    function: Callable
    transform: Callable
    parts: tuple = dataclasses.field(compare=False)
    options: Mapping[str, Any] = dataclasses.field(compare=False)
    values: tuple
    shapes: tuple


@functools.lru_cache(MOST_PROGRAMS)
def _transformed(recipe: _Recipe) -> Callable:
    """JAX finds what it has compiled by this object, and forgets it when the object is dropped."""
    return recipe.transform(functools.partial(recipe.function, *recipe.parts), **recipe.options)
