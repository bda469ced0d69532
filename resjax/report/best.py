"""The best networks of each depth: the one with the lowest error, and those that are as good."""

from collections.abc import Iterable

from resjax.report.arms import ArmTable
from resjax.report.degradation import TOLERANCE
from resjax.report.pairs import Comparison


def best_cells(table: ArmTable, comparisons: Iterable[Comparison]) -> set[tuple[str, int]]:
    """The best arms at each depth, {(arm, depth)}, by comparisons of one measure.

    They are the arm with the lowest mean error, and all that are shown to be as good: the 95 %
    interval of the paired difference lies within `TOLERANCE`. With one seed there is no interval,
    and only an equal error is as good. A depth with one arm has no best.
    """
    best = set()
    at_depth: dict[int, list[Comparison]] = {}
    for found in comparisons:
        at_depth.setdefault(found.depth, []).append(found)
    for depth, there in at_depth.items():
        errors = {
            cell.arm: sample.mean
            for cell in table.cells
            if cell.depth == depth and (sample := cell.sample(there[0].measure))
        }
        lowest = min(errors, key=errors.__getitem__)
        alike = [found for found in there if lowest in (found.first, found.second)]
        arms = {arm for found in alike if _is_small(found) for arm in (found.first, found.second)}
        best |= {(arm, depth) for arm in {lowest, *arms}}
    return best


def _is_small(found: Comparison) -> bool:
    """Tells whether two errors are shown to differ by no more than `TOLERANCE`."""
    mean, interval = found.difference.mean, found.difference.interval
    return mean == 0 if interval is None else max(map(abs, interval)) <= TOLERANCE
