"""The best networks of each depth: the one with the lowest error, and those that are as good."""

from resjax.report.arms import ArmTable, Cell
from resjax.report.degradation import TOLERANCE
from resjax.report.pairs import difference_of


def best_cells(table: ArmTable, measure: str) -> set[tuple[str, int]]:
    """The best arms at each depth by a measure such as "test_error", {(arm, depth)}.

    They are the arm with the lowest mean error, and all that are shown to be as good: the 95 %
    interval of the difference, paired by seed, lies within `TOLERANCE`. With one seed there is no
    interval, and only an equal error is as good. A depth with one arm has no best.
    """
    best = set()
    for depth in table.depths:
        errors = {
            cell.arm: sample.mean
            for cell in table.cells
            if cell.depth == depth and (sample := cell.sample(measure))
        }
        there = {cell.arm: cell for cell in table.cells if cell.depth == depth}
        if len(errors) < 2:
            continue
        lowest = there[min(errors, key=errors.__getitem__)]
        alike = [
            arm for arm in errors if arm != lowest.arm and _are_alike(there[arm], lowest, measure)
        ]
        best |= {(arm, depth) for arm in (lowest.arm, *alike)}
    return best


def _are_alike(one: Cell, lowest: Cell, measure: str) -> bool:
    """Tells whether two errors are shown to differ by no more than `TOLERANCE`."""
    found = difference_of(one, lowest, measure)
    if found is None:
        return False
    return found.mean == 0 if found.interval is None else max(map(abs, found.interval)) <= TOLERANCE
