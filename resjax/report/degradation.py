"""Verdicts on whether an arm's networks degrade with depth, and the sentences that report them."""

import collections
import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

from resjax.report.arms import ArmTable, Cell
from resjax.report.pairs import Comparison, difference_of
from resjax.report.rounding import (
    DECIMALS_OF_A_PERCENT,
    decimals,
    decimals_of,
    interval,
    number,
    probability,
    with_deviation,
)
from resjax.report.runs import Missing
from resjax.runs.rundir import FAILED

DEGRADES, DOES_NOT, UNDECIDED = "degrades with depth", "does not degrade with depth", "undecided"

TOLERANCE = 0.01
"""A gap in training error too small to count, as a fraction of the training set."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """The degradation gap: the deepest network's training error minus the best shallower one's.

    The same errors that are compared also tell which net is best, so the deepest net is compared
    with every shallower one, paired by seed, by intervals that hold all the true differences at
    once (Bonferroni). The gap is the largest of these differences, so the largest of the lower ends
    and the largest of the upper ends bound it, and it is above zero where Holm's test of this
    family finds any of them to be.

    Attributes:
      seeds: seeds that both depths have; the errors are over them.
      deepest, best: depths; `best` has the largest difference from the deepest. Where all have the
        same seeds, it has the lowest mean error among the shallower.
      deepest_error, best_error: mean training errors.
      interval: 95 % interval of the gap; None with a single seed.
      compared: number of shallower depths.
      verdict: DEGRADES if the interval lies above zero, DOES_NOT if it ends below `TOLERANCE`,
        else UNDECIDED, as with a single seed, which says nothing of the spread over seeds.
    """

    seeds: tuple[int, ...]
    deepest: int
    best: int
    deepest_error: float
    best_error: float
    interval: tuple[float, float] | None
    compared: int
    verdict: str

    @property
    def gap(self) -> float:
        """Difference of the mean errors, as a fraction of the training set."""
        return self.deepest_error - self.best_error


def degradation(cells: Sequence[Cell]) -> Gap | None:
    """The gap of an arm's cells, which are given from shallow to deep.

    It is None unless the deepest cell shares a seed with another. Where it shares several seeds
    with some depths, those with which it shares one are left out.
    """
    if not cells:
        return None
    *shallower, deepest = cells
    shared = {cell.depth: _shared_seeds(deepest, cell) for cell in shallower}
    least = 2 if any(len(seeds) > 1 for seeds in shared.values()) else 1
    compared = [cell for cell in shallower if len(shared[cell.depth]) >= least]
    if not compared:
        return None
    bounds, said = None, UNDECIDED
    if least > 1:
        found = (difference_of(deepest, cell, "train_error", len(compared)) for cell in compared)
        low, high = (max(ends) for ends in zip(*(each.interval for each in found), strict=True))
        bounds = low, high
        said = DEGRADES if low > 0 else DOES_NOT if high < TOLERANCE else UNDECIDED
    errors = {
        cell.depth: (_shared_error(deepest, cell), _shared_error(cell, deepest))
        for cell in compared
    }
    # Of differences that are equal when rounded, that from the lowest error.
    best = max(errors, key=lambda depth: (errors[depth][0] - errors[depth][1], -errors[depth][1]))
    return Gap(
        seeds=shared[best],
        deepest=deepest.depth,
        best=best,
        deepest_error=errors[best][0],
        best_error=errors[best][1],
        interval=bounds,
        compared=len(compared),
        verdict=said,
    )


def _shared_seeds(first: Cell, second: Cell) -> tuple[int, ...]:
    return tuple(sorted({run.seed for run in first.runs} & {run.seed for run in second.runs}))


def _shared_error(cell: Cell, other: Cell) -> float:
    """Mean training error of a cell over the seeds shared with another."""
    errors, others = cell.by_seed("train_error"), other.by_seed("train_error")
    return statistics.fmean(errors[seed] for seed in errors if seed in others)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on an arm.

    Attributes:
      arm: name of the arm.
      gap: the gap that was judged; None if there is no verdict.
      said: the verdict in words.
      numbers: numbers that it rests on, or why there is none.
    """

    arm: str
    gap: Gap | None
    said: str
    numbers: str

    @property
    def degrades(self) -> bool:
        """Tells whether the verdict is that the networks degrade."""
        return self.gap is not None and self.gap.verdict == DEGRADES

    @property
    def line(self) -> str:
        """The arm, the verdict and the numbers, as the command prints them."""
        return f"{self.arm}: {self.said}, {self.numbers}"


def verdict(arm: str, cells: Sequence[Cell], missing: Iterable[Missing] = ()) -> Verdict:
    """Judges whether the networks of an arm degrade with depth.

    There is no verdict if any of the `missing` runs of this arm failed, since the others are a
    biased selection.
    """
    lost = [cell.name for cell in cells if not _finite(cell)]
    reasons = _failures(cells, missing) + [f"{name} has no finite error" for name in lost]
    gap = None if reasons else degradation(cells)
    if gap is None:
        why = ", ".join(reasons) or "two depths with a common seed are needed"
        return Verdict(arm, None, "no verdict", why)
    places, uncertainty = decimals(None), "one seed, so no interval"
    if gap.interval is not None:
        ends = tuple(100 * end for end in gap.interval)
        places = decimals_of(ends)
        uncertainty = f"{len(gap.seeds)} seeds, 95 % interval {interval(ends, places, sign=True)}"
    points = number(100 * gap.gap, places, sign=True)
    deep = f"{gap.deepest} layers {100 * gap.deepest_error:.2f} %"
    best = f"{gap.best} layers {100 * gap.best_error:.2f} %"
    numbers = f"training error {points} points ({deep}, {best}; {uncertainty})"
    return Verdict(arm, gap, gap.verdict, numbers)


def _failures(cells: Iterable[Cell], missing: Iterable[Missing]) -> list[str]:
    """Counts the failed runs of an arm by depth, such as "2 of 3 runs with 56 layers failed"."""
    runs = collections.Counter(run.depth for cell in cells for run in cell.runs)
    failed: collections.Counter[int] = collections.Counter()
    for run in missing:
        depth = run.config["model.depth"]
        runs[depth] += 1
        failed[depth] += run.state == FAILED
    return [
        f"{_of(count, runs[depth])} with {depth} layers failed"
        for depth, count in sorted(failed.items())
        if count
    ]


def _of(count: int, runs: int) -> str:
    return f"{count} of {runs} runs" if runs > 1 else "the run"


def joined(said: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts to show: arms without one for the same reason are joined, and named in a list."""
    groups: dict[tuple[str, ...], list[Verdict]] = {}
    for each in said:
        apart = (each.arm,) if each.gap else ()
        groups.setdefault((each.said, each.numbers, *apart), []).append(each)
    return [
        dataclasses.replace(group[0], arm=_listed([each.arm for each in group]))
        for group in groups.values()
    ]


def _finite(cell: Cell) -> bool:
    return all(map(math.isfinite, cell.by_seed("train_error").values()))


def verdicts(table: ArmTable) -> list[Verdict]:
    """Verdicts on all arms, even those without a finished run.

    If all have one depth there are none, other than on arms with failed runs.
    """
    missing: dict[str, list[Missing]] = {}
    for arm, run in table.missing:
        missing.setdefault(arm, []).append(run)
    depths = {*table.depths} | {run.config["model.depth"] for _, run in table.missing}
    failed = {arm for arm, run in table.missing if run.state == FAILED}
    cells = {arm.name: arm.cells for arm in table.arms}
    return [
        verdict(arm, cells.get(arm, ()), missing.get(arm, ()))
        for arm in dict.fromkeys([*cells, *missing])
        if arm in failed or (arm in cells and len(depths) > 1)
    ]


MOST_COMPARED = 3
"""Most differences of two networks that a headline tells."""

MOST_NAMED = 4
"""Most networks of one verdict that a headline names; more are counted."""


def headline(
    said: Sequence[Verdict], table: ArmTable, differences: Sequence[Comparison] = ()
) -> str:
    """One sentence that sums up the verdicts: who degrades, who does not, who cannot be judged.

    Where all networks have one depth, it is on the lowest test error instead, and is followed by
    the differences in test error, if they are few.
    """
    if len(table.depths) == 1:
        few = differences if len(differences) <= MOST_COMPARED else ()
        return " ".join(filter(None, [_lowest(table), *map(_compared, few)]))
    kinds: dict[str, list[str]] = {}
    one_seed = False
    for each in said:
        kinds.setdefault(each.gap.verdict if each.gap else "", []).append(each.arm)
        one_seed |= each.gap is not None and each.gap.interval is None
    of_depth = "" if DEGRADES in kinds else "degrade with depth"
    parts = [
        _clause(kinds.get(DEGRADES), len(said), "degrades", "degrade", "with depth"),
        _clause(kinds.get(DOES_NOT), len(said), "does not", "do not", of_depth),
        _clause(kinds.get(UNDECIDED), len(said), "is undecided", "are undecided"),
        _clause(kinds.get(""), len(said), "has no verdict", "have no verdict"),
    ]
    sentence = "; ".join(part for part in parts if part)
    advice = " One seed does not say how far seeds lie apart: add some by --seeds=3."
    return f"{_capital(sentence)}.{advice if one_seed else ''}"


def _lowest(table: ArmTable) -> str:
    """A sentence on the lowest test error of networks of one depth; empty if none is known."""
    samples = [(cell, found) for cell in table.cells if (found := cell.sample("test_error"))]
    if not samples:
        return ""
    best, found = min(samples, key=lambda pair: pair[1].mean)
    deviation = None if found.deviation is None else 100 * found.deviation
    error = with_deviation(100 * found.mean, deviation, DECIMALS_OF_A_PERCENT)
    what = "Lowest test error" if len(samples) > 1 else "Test error"
    return f"{what} with {best.depth} layers: {best.arm}, {error} %."


def _compared(found: Comparison) -> str:
    """A sentence on the difference of two arms."""
    places, spread = decimals(None), "one seed, so no interval"
    if found.difference.interval is not None:
        ends = tuple(100 * end for end in found.difference.interval)
        places = decimals_of(ends)
        spread = f"95 % interval {interval(ends, places, sign=True)}, p {probability(found.p)}"
    points = number(100 * found.difference.mean, places, sign=True)
    what = _capital(found.measure.replace("_", " "))
    return f"{what} of {found.first} less that of {found.second}: {points} points ({spread})."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _clause(names: Sequence[str] | None, total: int, one: str, several: str, rest: str = "") -> str:
    """A clause on some of the networks, by their names or, if they are many, their number."""
    if not names:
        return ""
    few = len(names) <= MOST_NAMED
    who = _listed(names) if few else f"{len(names)} of {total} networks"
    return " ".join(filter(None, (who, one if len(names) == 1 else several, rest)))


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
