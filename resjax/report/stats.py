"""What the runs of a sweep say together: cells of equal nets, and the degradation gap."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy import stats

from resjax.config import identity
from resjax.training import rundir
from resjax.training.loop import Summary, read_summary

AXES = ("model.depth", "model.shortcut", "seed")
"""The keys over which a table runs; all others are the protocol, which is the same in a table."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is done: its name, config {dotted key: value}, result, curve and manifest."""

    name: str
    config: dict[str, Any]
    summary: Summary
    curve: list[dict[str, Any]]
    manifest: dict[str, Any]

    @property
    def shortcut(self) -> str:
        return self.config["model.shortcut"]

    @property
    def depth(self) -> int:
        return self.config["model.depth"]

    @property
    def protocol(self) -> str:
        """All keys that are no axis and differ from their defaults, as text to group by."""
        keys = {key: value for key, value in identity(self.config).items() if key not in AXES}
        return json.dumps(keys, sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs of one shortcut and depth, which differ by seed."""

    shortcut: str
    depth: int
    runs: tuple[Run, ...]

    def values(self, key: str) -> list[float]:
        """A field of the summaries, in the order of the seeds; one that was not finite is inf."""
        found = (getattr(run.summary, key) for run in self.runs)
        return [math.inf if value is None else value for value in found]

    def mean(self, key: str) -> float:
        return statistics.fmean(self.values(key))

    def spread(self, key: str) -> float | None:
        """Sample standard deviation over seeds, None for a single one."""
        values = self.values(key)
        return statistics.stdev(values) if len(values) > 1 else None

    def seconds(self) -> float:
        """Mean seconds of a run: compilation, training and evaluation."""
        return statistics.fmean(sum(run.summary.seconds.values()) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Gap:
    """The degradation gap: training error of the deepest net less that of the best shallower one.

    Attributes:
      deepest, best: the two cells; `best` has the lowest mean among the shallower.
      gap: mean over the seeds that both have, as a fraction of the training set.
      interval: 95 % t interval of the gap, paired by seed; None with a single seed.
      degrades: whether the gap is above zero by more than its uncertainty. That is the interval, or
        with a single seed the sampling error of counting the errors of two nets.
    """

    deepest: Cell
    best: Cell
    gap: float
    interval: tuple[float, float] | None
    degrades: bool


def read_runs(workdir: Path) -> tuple[list[Run], dict[str, str]]:
    """The runs below a directory that are done, and the state of each that is not."""
    done, others = [], {}
    found = workdir.iterdir() if workdir.is_dir() else []
    for directory in sorted([*found, workdir]):
        state = rundir.run_state(directory)
        if state == rundir.DONE:
            done.append(
                Run(
                    directory.name,
                    rundir.read_config(directory),
                    read_summary(directory),
                    rundir.read_lines(directory / "metrics.jsonl"),
                    rundir.read_json(directory / "manifest.json"),
                )
            )
        elif state != rundir.ABSENT:
            others[directory.name] = state
    return done, others


def protocols(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs in groups of equal protocol, the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.protocol, []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def cells(runs: Iterable[Run], shortcut_order: Iterable[str]) -> list[Cell]:
    """The runs of one protocol by shortcut and depth."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.shortcut, run.depth), []).append(run)
    order = list(shortcut_order)
    return [
        Cell(*key, tuple(sorted(groups[key], key=lambda run: run.config["seed"])))
        for key in sorted(groups, key=lambda key: (order.index(key[0]), key[1]))
    ]


def degradation(arm: list[Cell]) -> Gap | None:
    """The gap of one shortcut's cells; None unless two depths share a seed."""
    deepest = max(arm, key=lambda cell: cell.depth)
    shallower = [cell for cell in arm if cell.depth < deepest.depth]
    if not shallower:
        return None
    best = min(shallower, key=lambda cell: cell.mean("train_error"))
    high, low = (
        {run.config["seed"]: run.summary.train_error for run in cell.runs}
        for cell in (deepest, best)
    )
    pairs = [(high[seed], low[seed]) for seed in high if seed in low]
    if not pairs:
        return None
    gaps = [deep - shallow for deep, shallow in pairs]
    gap = statistics.fmean(gaps)
    if len(gaps) == 1:
        examples = deepest.runs[0].manifest["data"]["train"]
        deviation = math.sqrt(sum(error * (1 - error) for error in pairs[0]) / examples)
        return Gap(deepest, best, gap, None, gap > float(stats.norm.ppf(0.975)) * deviation)
    margin = (
        float(stats.t.ppf(0.975, len(gaps) - 1)) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    )
    return Gap(deepest, best, gap, (gap - margin, gap + margin), gap > margin)
