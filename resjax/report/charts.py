"""Data for the charts of the page."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from resjax.report import styles
from resjax.report.arms import Arm, Cell
from resjax.report.curves import MOST_POINTS, Curve, curve, curve_of, unit
from resjax.report.runs import Run

MEASURES = ("train_error", "test_error", "train_loss", "test_loss")

MOST_NUMBERS = 160_000
"""Maximum of all numbers in the curves of a page, if they keep `FEWEST_POINTS`; more are thinned
out."""

FEWEST_POINTS = 20


def points_each(curves: int) -> int:
    """The maximum number of points for each of several curves, so that the page stays small.

    >>> points_each(10), points_each(1000), points_each(100_000)
    (300, 40, 20)
    """
    return min(MOST_POINTS, max(FEWEST_POINTS, MOST_NUMBERS // len(MEASURES) // max(1, curves)))


def charts(arms: Sequence[Arm], depths: Sequence[int], most: int = MOST_POINTS) -> dict[str, Any]:
    """Curves of every cell, with its size, time, and errors in percent.

    The dashes of a line are the place of its depth among the `depths` of the page.
    """
    cells = [
        {
            "arm": number,
            "depth": cell.depth,
            "dash": depths.index(cell.depth),
            "seeds": len(cell.runs),
            "params": cell.runs[0].summary.params,
            "multiply_adds": cell.runs[0].summary.multiply_adds,
            "seconds": float(f"{cell.seconds('train'):.4g}"),
            "curves": _curves(cell, most),
            "ends": {what: _end(cell, what) for what in MEASURES},
        }
        for number, arm in enumerate(arms)
        for cell in arm.cells
    ]
    hollow = styles.hollow([arm.place for arm in arms])
    named = [
        {"name": arm.name, "place": arm.place, "hollow": own}
        for arm, own in zip(arms, hollow, strict=True)
    ]
    return {"arms": named, "cells": cells}


def _curves(cell: Cell, most: int) -> dict[str, Any]:
    """Epochs, steps of one, and {"y", "low", "high"} of each measure that was recorded."""
    found = {what: curve(cell, what, most) for what in MEASURES}
    drawn = {"epochs": _epochs(found.values()), "steps": _steps_of_an_epoch(cell.runs[0])}
    for what, line in found.items():
        if line is not None:
            drawn[what] = {"y": _numbers(line.mean)}
            if len(cell.runs) > 1:
                drawn[what] |= {"low": _numbers(line.low), "high": _numbers(line.high)}
    return drawn


def run_curves(run: Run, most: int) -> dict[str, Any]:
    """Epochs, steps of one, and the values of each measure that a run recorded."""
    found = {what: curve_of([run], what, most) for what in MEASURES}
    lines = {what: _numbers(line.mean) for what, line in found.items() if line is not None}
    return {"epochs": _epochs(found.values()), "steps": _steps_of_an_epoch(run)} | lines


def _epochs(curves: Iterable[Curve | None]) -> list[float | None]:
    """The epochs of curves with equal evaluations, exact enough to tell steps apart."""
    return next((_numbers(line.epochs, 9) for line in curves if line is not None), [])


def _steps_of_an_epoch(run: Run) -> float | None:
    """The steps of an epoch, by the last evaluation; None where none was recorded."""
    for line in reversed(run.curve):
        if line.get("epoch"):
            return line["step"] / line["epoch"]
    return None


def _end(cell: Cell, measure: str) -> list[float | None] | None:
    """The mean of the runs' results, and both ends of its interval; None if unknown."""
    sample = cell.sample(measure)
    if sample is None or not np.isfinite(sample.mean):
        return None
    low, high = sample.interval or (None, None)
    scale = unit(measure)
    ends = [] if low is None else _numbers([scale * low, scale * high])
    return [*_numbers([scale * sample.mean]), *ends]


def _numbers(values: Iterable[float], digits: int = 5) -> list[float | None]:
    """Rounds to five digits, more than a chart shows; None for numbers that are not finite."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]
