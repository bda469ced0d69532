"""Compiled programs, kept in the process: a sweep compiles those of a network once for its runs."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

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


def by_value(part: Any) -> tuple:
    """A hashable form of a part; two parts of the same form compute the same.

    The form of a module or other dataclass, and of a partial function, is what it is made of; that
    of anything else is itself, with its type. So functions are told apart by identity, and 1, 1.0
    and True are three parts.
    """
    if isinstance(part, functools.partial):
        return functools.partial, part.func, by_value(part.args), by_value(part.keywords)
    if isinstance(part, Mapping):
        return type(part), *((name, by_value(part[name])) for name in sorted(part))
    if isinstance(part, tuple | list):
        return type(part), *map(by_value, part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = dataclasses.fields(part)
        return type(part), *((field.name, by_value(getattr(part, field.name))) for field in fields)
    return type(part), part.hex() if isinstance(part, float) else part
