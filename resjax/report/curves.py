"""Errors and losses of a cell's runs during training, as mean and range over seeds."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from resjax.report.arms import Cell
from resjax.report.runs import Run

MOST_POINTS = 300
"""Maximum number of points of a drawn curve; longer ones keep every n-th point and the last."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Errors in percent, or losses, by epoch; NaN where not finite or not recorded.

    Attributes:
      epochs: `[points]`.
      mean, low, high: mean, least and greatest over the seeds, `[points]`.
    """

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def unit(measure: str) -> float:
    """The factor by which a measure is drawn: errors are fractions, drawn in percent."""
    return 100.0 if measure.endswith("_error") else 1.0


def curve(cell: Cell, measure: str, most: int = MOST_POINTS) -> Curve | None:
    """The curve of a measure such as "train_error"; None if no run recorded it."""
    return curve_of(cell.runs, measure, most)


def curve_of(runs: Sequence[Run], measure: str, most: int = MOST_POINTS) -> Curve | None:
    """The curve of some runs with equal evaluations."""
    lines = [[line for line in run.curve if "epoch" in line] for run in runs]
    length = min(map(len, lines))
    if not length:
        return None
    kept = range(0, length, -(-length // most))
    places = [*kept, *([length - 1] if kept[-1] != length - 1 else [])]
    values = unit(measure) * np.array(
        [[line[place].get(measure) for place in places] for line in lines], float
    )
    epochs = np.array([lines[0][place]["epoch"] for place in places], float)
    if np.isnan(values).all():
        return None
    return Curve(epochs, values.mean(0), values.min(0), values.max(0))
