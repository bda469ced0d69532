"""Runs that differ in their seed alone, side by side in one program: a lane for each.

Arrays of several runs have a first axis, of the lanes; those of a run that is alone do not. What is
computed in a lane depends on nothing that is in another.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Lanes:
    """The seeds of the runs of a program, in the order of their lanes."""

    seeds: tuple[int, ...]

    @property
    def several(self) -> bool:
        """Whether there is an axis of lanes."""
        return len(self.seeds) > 1

    def stack(self, values: list[Any]) -> Any:
        """A tree of arrays of all lanes, from one of each, on the host; that of a run alone."""
        if not self.several:
            return values[0]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(values))

    def split(self, tree: Any) -> list[Any]:
        """The trees of the lanes, on the host; the tree of a run alone."""
        if not self.several:
            return [tree]
        leaves, structure = jax.tree.flatten(jax.device_get(tree))
        return [structure.unflatten(own) for own in zip(*leaves, strict=True)]

    def each(self, *own: bool) -> tuple[bool, ...]:
        """Which arguments of a program have the axis of lanes; none if there is none."""
        return tuple(self.several and its for its in own)

    def map(self, function: Callable) -> Callable:
        """A function of what one lane has, for all of them."""
        return jax.vmap(function) if self.several else function


ALONE = Lanes((0,))
"""For what does not depend on the seed."""


def side_by_side(share: Callable, each: tuple[bool, ...], parts: tuple, *arguments: Any) -> Any:
    """`share(*parts, *arguments)` in every lane; arguments that are not of `each` are common."""
    axes = tuple(0 if own else None for own in each)
    return jax.vmap(functools.partial(share, *parts), axes)(*arguments)
