"""Arms: the networks of a report at their depths, and the runs of an arm at one depth."""

import dataclasses
import functools
import math
import statistics
from typing import Any

from resjax.report import stats
from resjax.report.runs import Missing, Run

SELECTIONS = {"final": "final evaluation", "best": "evaluation with the lowest validation error"}


def value_of(run: Run, measure: str) -> float | None:
    """A run's error, as a fraction, or its loss, in the evaluation that counts.

    A value that was not finite is inf. It is None if it is not recorded, as the loss of a selected
    evaluation, or a split that there is not.
    """
    field = measure if run.summary.selection == "final" else f"best_{measure}"
    value: float | None = getattr(run.summary, field, None)
    return value if value is None or math.isfinite(value) else math.inf


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs of one arm at one depth, which differ by seed."""

    arm: str
    depth: int
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Name of the cell, such as `plain 56`."""
        return f"{self.arm} {self.depth}"

    @property
    def selection(self) -> str:
        """Key of `SELECTIONS`: the evaluation that errors are taken from, equal in a table."""
        return self.runs[0].summary.selection

    def by_seed(self, measure: str) -> dict[int, float]:
        """Returns {seed: value} of a measure such as "train_error"; empty if not measured."""
        found = {run.seed: value_of(run, measure) for run in self.runs}
        return {} if None in found.values() else found

    def sample(self, measure: str) -> stats.Sample | None:
        """The statistics of a measure over seeds; the interval of an error stays within 0 and 1.

        Its variance is at least that of rounding an error to whole examples, so that a few equal
        errors do not make it certain.
        """
        if measure not in self._samples:
            values = list(self.by_seed(measure).values())
            least = self.rounding_variance(measure)
            sample = stats.summarise(values, least) if values else None
            if sample and sample.interval and measure.endswith("_error"):
                low, high = sample.interval
                sample = dataclasses.replace(sample, interval=(max(0.0, low), min(1.0, high)))
            self._samples[measure] = sample
        return self._samples[measure]

    def rounding_variance(self, measure: str) -> float:
        """The variance of rounding an error to whole examples; 0 where their number is unknown."""
        split, _, what = measure.partition("_")
        counted = {run.examples(split) for run in self.runs}
        return 0.0 if None in counted or what != "error" else 1 / 12 / min(counted) ** 2

    @functools.cached_property
    def _samples(self) -> dict[str, stats.Sample | None]:
        """A cache of statistics, which tables and figures request many times."""
        return {}

    def seconds(self, *of: str) -> float:
        """Mean seconds of the cell's runs; see `Run.seconds`."""
        return statistics.fmean(run.seconds(*of) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network at its depths.

    Attributes:
      parts: the parts of its name, which has spaces between them: its shortcut, and the settings
        in which arms differ, such as `learning_rate=0.1`.
      shortcut: key of `SHORTCUTS`.
      place: index of its colour and marker in the tables of `resjax.report.styles`.
      cells: its runs at each depth, from shallow to deep.
    """

    parts: tuple[str, ...]
    shortcut: str
    place: int
    cells: tuple[Cell, ...]

    @property
    def name(self) -> str:
        """The whole name."""
        return " ".join(self.parts)


@dataclasses.dataclass(frozen=True)
class ArmTable:
    """The runs on one data set, by arms.

    Attributes:
      title: the data, what all arms share in their names, and what sets other tables apart.
      arms: networks to compare.
      missing: runs of this table without a result, each with the name of its arm.
      by_depth: settings of the recipe that depend on the depth alone, {key: {depth: value}}.
    """

    title: str
    arms: tuple[Arm, ...]
    missing: tuple[tuple[str, Missing], ...]
    by_depth: dict[str, dict[int, Any]]

    @property
    def cells(self) -> list[Cell]:
        """Cells of all arms."""
        return [cell for arm in self.arms for cell in arm.cells]

    @property
    def runs(self) -> list[Run]:
        """Runs of all cells."""
        return [run for cell in self.cells for run in cell.runs]

    @property
    def depths(self) -> list[int]:
        """The depths of all cells, from shallow to deep."""
        return sorted({cell.depth for cell in self.cells})

    @property
    def selection(self) -> str:
        """Key of `SELECTIONS`: the evaluation of a run that errors are taken from."""
        return self.cells[0].selection


def label(shortcut: str) -> str:
    """The name of a shortcut in a report; a network without one is called plain."""
    return {"none": "plain"}.get(shortcut, shortcut)
