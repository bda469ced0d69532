"""Findings of probes inside networks: inside one, or inside all whose runs recorded some."""

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from resjax.config import ConfigError, config_of
from resjax.models.build import make_spec
from resjax.probes.table import PROBES, Probe
from resjax.report.arms import ArmTable, Cell, label
from resjax.report.styles import arm_places

if TYPE_CHECKING:
    from resjax.runs.probing import Probed

HEADER = ("network", "array", "first", "middle", "last")
"""Columns of the table of a probe: the values of an array at these blocks."""

NOT_LOADED = Probe(measure=lambda *_: {})
"""A probe of an experiment file that is not loaded."""


@dataclasses.dataclass(frozen=True)
class ProbedNetwork:
    """The findings of probes in a network.

    Attributes:
      name: its name in a report.
      place: index of its colour and marker in the tables of `resjax.report.styles`.
      stages: number of blocks in each stage; empty if that is not known.
      found: {probe: {array: values}}; the first axis of values is that of the blocks.
    """

    name: str
    place: int
    stages: tuple[int, ...]
    found: dict[str, dict[str, np.ndarray]]

    def by_block(self, probe: str) -> dict[str, np.ndarray]:
        """The arrays of a probe with a row for every block, in percent where that is their unit."""
        about, arrays = PROBES.get(probe, NOT_LOADED), self.found.get(probe, {})
        if not about.by_block:
            return {}
        return {
            name: about.unit(name) * np.asarray(array, float)
            for name, array in arrays.items()
            if np.ndim(array) and (not self.stages or len(array) == sum(self.stages))
        }

    def whole(self, probe: str, array: str) -> float | None:
        """The value of an array for the network as it is, if the probe changes blocks."""
        about, found = PROBES.get(probe, NOT_LOADED), self.found.get(probe, {})
        return about.unit(array) * float(found["whole"]) if "whole" in found else None


def network_of(probed: "Probed") -> ProbedNetwork:
    """The network of a run that was probed."""
    (place,) = arm_places([probed.shortcut])
    return ProbedNetwork(label(probed.shortcut), place, tuple(probed.stages), probed.found)


def recorded(table: ArmTable) -> list[ProbedNetwork]:
    """Collects the findings of each arm at its greatest depth, in the last evaluation of its runs.

    Values are means over the seeds that recorded them; arms without any are left out.
    """
    found = [(arm, arm.cells[-1], _means(arm.cells[-1])) for arm in table.arms]
    return [
        ProbedNetwork(cell.name, arm.place, _stages(cell), means)
        for arm, cell, means in found
        if means
    ]


def _means(cell: Cell) -> dict[str, dict[str, np.ndarray]]:
    """Means over the runs of a cell; only those of one shape, should a probe have been changed."""
    values: dict[str, dict[str, list[np.ndarray]]] = {}
    for run in cell.runs:
        for probe, arrays in run.probes.items():
            for name, value in arrays.items():
                array = np.array(value, float)  # null, which JSON has for it, becomes NaN
                values.setdefault(probe, {}).setdefault(name, []).append(array)
    return {
        probe: {
            name: np.mean([array for array in each if array.shape == each[0].shape], axis=0)
            for name, each in arrays.items()
        }
        for probe, arrays in values.items()
    }


def _stages(cell: Cell) -> tuple[int, ...]:
    """Blocks in each stage of a network; () if an experiment file defines it that is not loaded."""
    try:
        return tuple(make_spec(config_of(cell.runs[0].config).model).stages)
    except ConfigError:
        return ()


def rows_by_block(network: ProbedNetwork, probe: str) -> list[tuple[str, ...]]:
    """The name of each array of a probe, and its values at the first, middle and last block."""
    about = PROBES.get(probe, NOT_LOADED)
    return [
        (
            name,
            *(
                _few(array[block], "%" if about.unit(name) == 100 else "")
                for block in (0, len(array) // 2, -1)
            ),
        )
        for name, array in network.by_block(probe).items()
    ]


def _few(values: np.ndarray, unit: str) -> str:
    """Formats a number, or those of the layers of a block; NaN, where undefined, becomes a dash."""
    return " ".join("-" if math.isnan(v) else f"{v:.3g}{unit}" for v in np.ravel(values))
