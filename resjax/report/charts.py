"""Numbers that the charts of the page draw."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from resjax.report.arms import Arm, Cell
from resjax.report.curves import curve


def charts(arms: Sequence[Arm]) -> dict[str, Any]:
    """Curves of every cell and errors by depth of every arm, in percent."""
    depths = sorted({cell.depth for arm in arms for cell in arm.cells})
    curves, points = [], []
    for place, arm in enumerate(arms):
        for cell in arm.cells:
            drawn = {what: _curve(cell, f"{what}_error") for what in ("train", "test")}
            line = {"arm": place, "depth": cell.depth, "dash": depths.index(cell.depth)}
            curves.append(line | {"seeds": len(cell.runs)} | drawn)
        points.append({what: _points(arm, f"{what}_error") for what in ("train", "test")})
    return {"arms": [arm.name for arm in arms], "depths": depths, "curves": curves,
            "points": points}  # fmt: skip


def _curve(cell: Cell, measure: str) -> dict[str, list] | None:
    found = curve(cell, measure)
    if found is None:
        return None
    drawn = {"x": _numbers(found.epochs), "y": _numbers(found.mean)}
    if len(cell.runs) > 1:
        drawn |= {"low": _numbers(found.low), "high": _numbers(found.high)}
    return drawn


def _points(arm: Arm, measure: str) -> dict[str, list]:
    samples = [(cell.depth, cell.sample(measure)) for cell in arm.cells]
    samples = [(depth, s) for depth, s in samples if s is not None and np.isfinite(s.mean)]
    ends = [s.interval or (s.mean, s.mean) for _, s in samples]
    return {
        "x": [depth for depth, _ in samples],
        "y": _numbers([100 * s.mean for _, s in samples]),
        "low": _numbers([100 * low for low, _ in ends]),
        "high": _numbers([100 * high for _, high in ends]),
        "n": [s.n for _, s in samples],
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Rounds to five digits, which are more than a chart shows; None for numbers not finite."""
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values]
