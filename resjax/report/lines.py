"""The errors of networks as lines: against depth, or against a key in which they differ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from resjax.report.arms import Arm, Cell
from resjax.report.sorting import arm_settings
from resjax.report.styles import arm_places

AXES = ("depth", "network")
"""What errors are drawn against where no key was swept at one depth."""

NAMES = {"train_error": "training error (%)", "test_error": "test error (%)"}


class ErrorLine(NamedTuple):
    """The cells of a line by what they are drawn against.

    Attributes:
      parts: the parts of its name, as those of an `Arm`.
      place: index of its colour and marker in the tables of `resjax.report.styles`.
      cells: {value on the axis: cell}, in order.
    """

    parts: tuple[str, ...]
    place: int
    cells: dict[float, Cell]


def axis_of(arms: Sequence[Arm]) -> str:
    """What `error_by` draws errors against: `depth`, the end of the name of a key, or `network`."""
    if len({cell.depth for arm in arms for cell in arm.cells}) > 1:
        return "depth"
    key = swept_key(arms)
    return key.rpartition(".")[2] if key else "network"


def swept_key(arms: Sequence[Arm]) -> str:
    """The only numeric key in which arms of one depth differ; empty if there is none or no line.

    Arms that are otherwise equal are a line; without any that are, there is nothing to connect.
    """
    runs = [arm.cells[0].runs[0] for arm in arms]
    values = {
        key: [run.config.get(key) for run in runs] for run in runs for key in arm_settings(run)
    }
    swept = [
        key
        for key, found in values.items()
        if all(type(value) in (int, float) for value in found) and len(set(found)) > 1
    ]
    return swept[0] if len(swept) == 1 and len(lines_by(arms, swept[0])) < len(arms) else ""


def lines_by(arms: Sequence[Arm], key: str) -> list[ErrorLine]:
    """The lines of arms that differ in a key alone, sorted by it."""
    found: dict[tuple[str, ...], dict[float, Cell]] = {}
    shortcuts = {}
    for arm in arms:
        parts = tuple(part for part in arm.parts if not _is_of(key, part))
        (cell,) = arm.cells
        found.setdefault(parts, {})[float(cell.runs[0].config[key])] = cell
        shortcuts[parts] = arm.shortcut
    places = arm_places(list(shortcuts.values()))
    return [
        ErrorLine(parts, place, dict(sorted(cells.items())))
        for (parts, cells), place in zip(found.items(), places, strict=True)
    ]


def _is_of(key: str, part: str) -> bool:
    """Tells whether a part of a name is the value of a key, whose section it may leave out."""
    said, equals, _ = part.partition("=")
    return bool(equals) and f".{key}".endswith(f".{said}")


def percents(
    cells: dict[float, Cell], measure: str
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Values at which an error is finite, its means in percent, and the ends of their intervals."""
    samples = [(value, cell.sample(measure)) for value, cell in cells.items()]
    found = [(value, s) for value, s in samples if s is not None and np.isfinite(s.mean)]
    ends = [s.interval or (s.mean, s.mean) for _, s in found]
    return (
        [value for value, _ in found],
        [100 * sample.mean for _, sample in found],
        [100 * low for low, _ in ends],
        [100 * high for _, high in ends],
    )


def errors_of(cells: Sequence[Cell]) -> list[float]:
    """All finite errors of the runs of some cells, of both splits and in percent."""
    found = [cell.by_seed(measure).values() for cell in cells for measure in NAMES]
    return [100 * error for errors in found for error in errors if math.isfinite(error)]


def is_any_wider_than_the_data(cells: Sequence[Cell]) -> bool:
    """Tells whether an interval is wider than the range of all errors."""
    errors = errors_of(cells) or [0.0]
    widest = max((high - low for low, high in intervals_of(cells)), default=0.0)
    return widest > max(errors) - min(errors)


def intervals_of(cells: Sequence[Cell]) -> list[tuple[float, float]]:
    """The intervals of the errors of some cells, of both splits and in percent."""
    samples = [cell.sample(measure) for cell in cells for measure in NAMES]
    return [
        (100 * sample.interval[0], 100 * sample.interval[1])
        for sample in samples
        if sample is not None and sample.interval and np.isfinite(sample.interval).all()
    ]
