"""Errors of a cell's runs over training, as mean and range over seeds."""

import dataclasses

import numpy as np

from resjax.report.arms import Cell

MOST_POINTS = 300
"""Most points of a curve that is drawn; of longer ones every n-th point and the last are."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Errors in percent against epochs; NaN where one was not finite, or not recorded.

    Attributes:
      epochs: `[points]`.
      mean, low, high: mean, least and greatest over the seeds, `[points]`.
    """

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(cell: Cell, measure: str) -> Curve | None:
    """The curve of an error such as "train_error"; None if a run recorded none."""
    lines = [[line for line in run.curve if "epoch" in line] for run in cell.runs]
    length = min(map(len, lines))
    if not length:
        return None
    kept = range(0, length, -(-length // MOST_POINTS))
    places = [*kept, *([length - 1] if kept[-1] != length - 1 else [])]
    errors = 100 * np.array(
        [[line[place].get(measure) for place in places] for line in lines], float
    )
    epochs = np.array([lines[0][place]["epoch"] for place in places], float)
    if np.isnan(errors).all():
        return None
    return Curve(epochs, errors.mean(0), errors.min(0), errors.max(0))
