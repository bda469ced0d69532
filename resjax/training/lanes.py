"""Lanes: runs that differ in their seed alone, side by side in one program.

Arrays of several runs have a leading axis of lanes; those of a run that is alone do not. What is
computed in one lane depends on no other.
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
        """Tells whether there are several seeds, and so an axis of lanes."""
        return len(self.seeds) > 1

    def stack(self, values: list[Any]) -> Any:
        """Stacks the lanes' trees along a leading axis, on the host; a lone one stays as is."""
        if not self.several:
            return values[0]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(values))

    def split(self, tree: Any) -> list[Any]:
        """Splits a tree into those of the lanes, on the host; that of a lone run stays as is."""
        if not self.several:
            return [tree]
        leaves, structure = jax.tree.flatten(jax.device_get(tree))
        return [structure.unflatten(own) for own in zip(*leaves, strict=True)]

    def each(self, *own: bool) -> tuple[bool, ...]:
        """Marks a program's arguments that have the axis of lanes; none if there is one lane."""
        return tuple(self.several and its for its in own)

    def map(self, function: Callable) -> Callable:
        """Maps a function of one lane's arguments over all lanes."""
        return jax.vmap(function) if self.several else function


ALONE = Lanes((0,))
"""Lanes of a single run, for programs that do not depend on the seed."""


def side_by_side(share: Callable, each: tuple[bool, ...], parts: tuple, *arguments: Any) -> Any:
    """Computes `share(*parts, *arguments)` in every lane; arguments not in `each` are common."""
    axes = tuple(0 if own else None for own in each)
    return jax.vmap(functools.partial(share, *parts), axes)(*arguments)
