"""The best networks of each depth: the one with the lowest error, and those that may be as good."""

from collections.abc import Iterable

from resjax.report.arms import Comparison, ProtocolTable
from resjax.report.stats import CONFIDENCE


def best_cells(table: ProtocolTable, comparisons: Iterable[Comparison]) -> set[tuple[str, int]]:
    """The best arms at each depth, {(arm, depth)}, by comparisons of one measure.

    They are the arm with the lowest mean error, and all that are not distinguishable from it: the
    paired t test of the difference, corrected over the table (Holm), has p of 5 % or more. With one
    seed there is no test, and only an equal error is as good. A depth with one arm has no best.
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
        arms = {
            arm for found in alike if _may_be_zero(found) for arm in (found.first, found.second)
        }
        best |= {(arm, depth) for arm in {lowest, *arms}}
    return best


def _may_be_zero(found: Comparison) -> bool:
    """Tells whether the difference of two errors is not distinguishable from zero."""
    return found.difference.mean == 0 if found.p is None else found.p >= 1 - CONFIDENCE
