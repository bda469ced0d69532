"""Differences between two arms, or two networks, paired by seed."""

import dataclasses
import itertools

from resjax.report import stats
from resjax.report.arms import Arm, ArmTable, Cell


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
    """Compares arms at every depth at which they share a seed.

    These are every two that differ in one setting, if there are such, or one and all others.

    Args:
      table: table of the arms.
      measure: "train_error" or "test_error".
      against: name of the arm that all others are compared with; None for every two that differ
        in one setting.
    """
    found = []
    cells = {(arm.name, cell.depth): cell for arm in table.arms for cell in arm.cells}
    together = [*itertools.combinations(table.arms, 2)]
    if against is None:
        close = [pair for pair in together if _settings_between(*pair) == 1] or together
    else:
        close = [pair for pair in together if against in {arm.name for arm in pair}]
    for depth in table.depths:
        for first, second in ((one.name, other.name) for one, other in close):
            pair = cells.get((first, depth)), cells.get((second, depth))
            difference = difference_of(*pair, measure) if all(pair) else None
            if difference is not None:
                found.append((depth, first, second, difference))
    tested = [row for row in found if row[-1].p is not None]
    corrected = dict(zip(map(id, tested), stats.holm([row[-1].p for row in tested]), strict=True))
    return [Comparison(*row[:3], measure, row[-1], corrected.get(id(row))) for row in found]


def _settings_between(first: Arm, second: Arm) -> int:
    """The number of settings in which two arms differ; a shortcut and its options are one."""
    one, other = (
        dict(part.partition("=")[::2] for part in arm.parts if "=" in part)
        for arm in (first, second)
    )
    shortcuts = first.shortcut != second.shortcut
    keys = one.keys() & other.keys() if shortcuts else one.keys() | other.keys()
    return shortcuts + sum(one.get(key) != other.get(key) for key in keys)


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
    least_variance = first.rounding_variance(measure) + second.rounding_variance(measure)
    pairs = [high[seed] for seed in seeds], [low[seed] for seed in seeds]
    found = stats.paired(*pairs, least_variance, comparisons)
    if found.interval is None:
        return found
    lowest, highest = found.interval
    return dataclasses.replace(found, interval=(max(-1.0, lowest), min(1.0, highest)))
