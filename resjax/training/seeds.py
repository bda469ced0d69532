"""Runs that differ only in their seed, side by side in one program.

Arrays that are a run's own, such as its training state, have a leading axis of runs there. What is
computed for one run depends on no other. Everything else is written for one run, and says with
`own` which arguments of a program these are.
"""

import dataclasses
import operator
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resjax.data.batch import Batch
from resjax.ops.platform import tracing_for_runs
from resjax.training.feeds import ResidentFeed
from resjax.training.parallel import STYLES, Axes, Parallel
from resjax.training.plan import Plan


@dataclasses.dataclass(frozen=True)
class SideBySide(Parallel):
    """Devices that compute each program for several runs at once.

    Attributes:
      runs: number of runs.
    """

    runs: int = 1

    def across(
        self,
        in_axes: Axes,
        own: tuple[bool, ...] = (),
        *,
        out_axis: int | None = None,
        **others: Any,
    ) -> dict[str, Any]:
        """Options of a program, as `Parallel.across`; with own arguments it has an own result."""
        options = super().across(in_axes, own, out_axis=out_axis, **others)
        if not any(own):
            return options
        # An axis of runs comes before those of one run.
        moved = tuple(
            axis if axis is None else axis + its for axis, its in zip(in_axes, own, strict=True)
        )
        return options | {
            "transform": _by_run,
            "style": self.style,
            "own": own,
            "in_axes": moved,
            "out_axis": None if out_axis is None else out_axis + 1,
        }

    def of_each(self, function: Callable) -> Callable:
        """Maps a function of one run's arguments over the runs."""
        return jax.vmap(function)

    def shape_of_own(self, shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """The shape of an argument that is separate for each run, with the axis of runs."""
        return jax.ShapeDtypeStruct((self.runs, *shape.shape), shape.dtype)


def _by_run(share: Callable, style: str, own: tuple[bool, ...], **options: Any) -> Callable:
    """Runs a share for every run, on all devices, by one of `STYLES`."""
    mapped = jax.vmap(share, tuple(0 if its else None for its in own))

    def of_runs(*arguments: Any) -> Any:
        with tracing_for_runs():
            return mapped(*arguments)

    return STYLES[style](of_runs, **options)


def side_by_side(plan: Plan, seeds: tuple[int, ...]) -> Plan:
    """Makes the plan of runs with several seeds in one program from the plan of one of them."""
    devices = SideBySide(plan.parallel.devices, plan.parallel.style, len(seeds))
    return dataclasses.replace(plan, parallel=devices, seed=np.array(seeds, np.uint32))


def stack_runs(values: list[Any]) -> Any:
    """Stacks the trees of the runs along a leading axis, on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(values))


def split_runs(tree: Any, runs: int) -> list[Any]:
    """Splits a tree of arrays with an axis of runs into those of each run, on the host."""
    there = jax.device_get(tree)
    return [jax.tree.map(operator.itemgetter(place), there) for place in range(runs)]


class FeedSideBySide(ResidentFeed):
    """A feed of several runs that share the images; each has its own order.

    What is trained on has a leading axis of runs; what is evaluated is common to all.

    Args:
      plan: plan of `side_by_side`.
    """

    def __init__(self, plan: Plan):
        super().__init__(plan)
        self.seeds: list[int] = np.atleast_1d(plan.seed).tolist()

    def inputs(self, steps: range, length: int) -> Any:
        return stack_runs([self.inputs_of(seed, steps, length) for seed in self.seeds])

    def training_batches(self, steps: range) -> Iterator[Batch]:
        own = [self.training_batches_of(seed, steps) for seed in self.seeds]
        for batches in zip(*own, strict=True):
            yield jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
