"""Differences between two arms, or two networks, paired by seed."""

import dataclasses
import itertools

from resjax.report import stats
from resjax.report.arms import ArmTable, Cell


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two arms at one depth, paired by seed: the first's error minus the second's.

    Attributes:
      depth, first, second: depth at which they are compared, and names of the two arms.
      measure: "train_error" or "test_error".
      difference: difference of the error over the seeds that both have.
      p: p value of the test, corrected over all comparisons of this measure that were made (Holm);
        None where there is one seed.
    """

    depth: int
    first: str
    second: str
    measure: str
    difference: stats.Difference
    p: float | None


def compare(table: ArmTable, measure: str, against: str | None = None) -> list[Comparison]:
    """Compares every two arms, or one with all others, at every depth at which they share a seed.

    Args:
      table: table of the arms.
      measure: "train_error" or "test_error".
      against: name of the arm that all others are compared with; None for every two.
    """
    found = []
    cells = {(arm.name, cell.depth): cell for arm in table.arms for cell in arm.cells}
    names = [arm.name for arm in table.arms]
    for depth in sorted({cell.depth for cell in table.cells}):
        there = [name for name in names if (name, depth) in cells]
        for first, second in itertools.combinations(there, 2):
            if against in (None, first, second):
                pair = cells[first, depth], cells[second, depth]
                difference = difference_of(*pair, measure)
                if difference is not None:
                    found.append((depth, first, second, difference))
    tested = [row for row in found if row[-1].p is not None]
    corrected = dict(zip(map(id, tested), stats.holm([row[-1].p for row in tested]), strict=True))
    return [Comparison(*row[:3], measure, row[-1], corrected.get(id(row))) for row in found]


def difference_of(
    first: Cell, second: Cell, measure: str, comparisons: int = 1
) -> stats.Difference | None:
    """The first cell's error minus the second's over their common seeds; None without any.

    Its variance is at least that of rounding two errors to whole examples, so that a few equal
    differences do not make it certain; the interval stays within -1 and 1.
    """
    high, low = first.by_seed(measure), second.by_seed(measure)
    seeds = sorted(high.keys() & low.keys())
    if not seeds:
        return None
    examples = fewest_examples(first, second, measure)
    least_variance = 2 / 12 / examples**2 if examples else 0.0
    pairs = [high[seed] for seed in seeds], [low[seed] for seed in seeds]
    found = stats.paired(*pairs, least_variance, comparisons)
    if found.interval is None:
        return found
    lowest, highest = found.interval
    return dataclasses.replace(found, interval=(max(-1.0, lowest), min(1.0, highest)))


def fewest_examples(first: Cell, second: Cell, measure: str) -> int | None:
    """The fewest examples that an error of two cells is counted over; None if not recorded."""
    split = measure.removesuffix("_error")
    counted = {run.examples(split) for cell in (first, second) for run in cell.runs}
    return None if None in counted else min(counted)
