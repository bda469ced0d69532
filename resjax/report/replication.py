"""Replication: our errors compared with those that papers report of the same network and data."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from scipy import stats as scipy_stats

from resjax.report.arms import ArmTable, Cell
from resjax.report.reference.published import Published, published
from resjax.report.runs import Run
from resjax.report.stats import CONFIDENCE, Sample

AGREES, LOWER, HIGHER = "agrees", "lower than published", "higher than published"

NOT_THE_RECIPE = ("data.name", "seed", "eval.every", "eval.select", "eval.train_examples")
"""Keys in which a run on the same data may differ from a recipe, as they do not affect its final
test error."""


@dataclasses.dataclass(frozen=True)
class Replication:
    """A published error, and ours for the same network and data.

    Attributes:
      cell: our runs of the same net and data.
      published: the published figure.
      ours: the same statistic of our runs, as a fraction.
      differs: differences of the recipes in words; empty if none is known.
      z: the difference in units of its standard error; None where no spread over runs is known,
        or the recipes differ.
      verdict: AGREES where the difference is within its 95 % interval, LOWER, HIGHER; None
        without z.
    """

    cell: Cell
    published: Published
    ours: float
    differs: str
    z: float | None
    verdict: str | None

    @property
    def difference(self) -> float:
        """Our error minus the published one, as a fraction."""
        return self.ours - self.published.error


def replications(table: ArmTable) -> list[Replication]:
    """The comparisons of a table's errors with published ones of the same network and data."""
    found, figures = [], published()
    for cell in table.cells:
        run = cell.runs[0]
        for figure in same_net(figures, _data_name(run), run.keys):
            sample = cell.sample(figure.measure)
            if sample is not None and math.isfinite(sample.mean):
                found.append(_replication(cell, sample, figure))
    return found


def _data_name(run: Run) -> str:
    """The name of a run's data in recipes, which is one for CIFAR in whatever files it comes."""
    name, data = run.config["data.name"], run.manifest.get("data", {})
    return f"cifar{data.get('classes')}" if name.startswith("cifar:") else name


def same_net(figures: Iterable[Published], data: str, keys: Mapping[str, Any]) -> list[Published]:
    """The figures of the net that deciding keys describe, on this data."""
    return [
        figure
        for figure in figures
        if figure.config["data.name"] == data and _net(figure.keys) == _net(keys)
    ]


def _net(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if key.startswith("model.")}


def _replication(cell: Cell, sample: Sample, figure: Published) -> Replication:
    ours = getattr(sample, figure.statistic)
    differs = _differences(cell, figure)
    if differs:
        return Replication(cell, figure, ours, differs, None, None)
    z, margin = standard_score(sample, ours, figure)
    if z is None:
        return Replication(cell, figure, ours, "", None, None)
    verdict = AGREES if abs(z) <= margin else HIGHER if z > 0 else LOWER
    return Replication(cell, figure, ours, "", z, verdict)


def _differences(cell: Cell, figure: Published) -> str:
    ours, theirs = cell.runs[0].keys, figure.keys
    names = [
        key
        for key in sorted(ours.keys() | theirs.keys())
        if key not in NOT_THE_RECIPE and ours.get(key) != theirs.get(key)
    ]
    said = [f"{key} {cell.runs[0].config.get(key)}, not {figure.config.get(key)}" for key in names]
    if cell.selection != figure.selection:
        said.append(f"{cell.selection} evaluation, not {figure.selection}")
    return "; ".join([*said, *([figure.beyond] if figure.beyond else [])])


def standard_score(
    sample: Sample, ours: float, figure: Published
) -> tuple[float | None, float | None]:
    """Difference in standard errors, and the score that 95 % of equal recipes stay below.

    Runs of one recipe have one spread s, estimated from all runs whose spread is known:
    z = (ours - theirs) / (s sqrt(f_n^2 / n + f_m^2 / m)) for n and m runs, with f = 1 for means, so
    that z is Student's two-sample t, and that of `error_of_median` for medians. Both are None if
    there is no spread to go by: one run here and none reported there.
    """
    known = [(sample.n, sample.deviation), (figure.runs, figure.deviation)]
    known = [(n, deviation) for n, deviation in known if deviation is not None and n > 1]
    freedom = sum(n - 1 for n, _ in known)
    if not freedom:
        return None, None
    spread = math.sqrt(sum((n - 1) * deviation**2 for n, deviation in known) / freedom)
    factor = error_of_median if figure.statistic == "median" else lambda n: 1.0
    error = spread * math.sqrt(sum(factor(n) ** 2 / n for n in (sample.n, figure.runs)))
    if not error:
        return None, None
    margin = float(scipy_stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return (ours - figure.error) / error, margin


def error_of_median(n: int) -> float:
    """Standard error of the median of n normal numbers over that of their mean.

    sqrt(pi n / (2 n + pi - 2)): 1 for one number, sqrt(pi / 2) for many, right to 1 % for every odd
    n, and at most 11 % too large for an even one.

    >>> round(error_of_median(1), 2), round(error_of_median(5), 2), round(error_of_median(999), 2)
    (1.0, 1.19, 1.25)
    """
    return math.sqrt(math.pi * n / (2 * n + math.pi - 2))
