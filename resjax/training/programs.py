"""Compiled programs, cached in the process: the runs of a sweep share those of a network."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from resjax.ops.value import ByValue
from resjax.waits import waiting

MOST_PROGRAMS = 32
"""Maximum number of cached programs, of which the least recently used are dropped: four for each of
eight networks, for example."""


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
    transformed = _transformed(function, ByValue(parts), transform, ByValue(options), shapes)
    name = getattr(function, "__name__", type(function).__name__)
    with waiting(f"compiling {name.replace('_', ' ')}"):
        return transformed.lower(*arguments).compile()


@functools.lru_cache(MOST_PROGRAMS)
def _transformed(
    function: Callable, parts: ByValue, transform: Callable, options: ByValue, shapes: tuple
) -> Any:
    """Applies the transform, cached: JAX keeps compiled code only as long as this object lives.

    `shapes` is an argument so that each cached object compiles one program, and `MOST_PROGRAMS`
    bounds programs.
    """
    return transform(functools.partial(function, *parts.wrapped), **options.wrapped)
