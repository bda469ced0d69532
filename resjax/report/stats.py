"""What the runs of a sweep say together: cells of equal nets, and the degradation gap."""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scipy import stats

from resjax.config import ConfigError, deciding_keys
from resjax.training import rundir
from resjax.training.loop import Summary, read_summary

AXES = ("model.depth", "model.shortcut", "seed")
"""The keys over which a table runs; all others are the protocol, which is the same in a table."""


DEGRADES, DOES_NOT, UNDECIDED = "degrades with depth", "does not degrade with depth", "undecided"

TOLERANCE = 0.01
"""A gap in training error that counts as none, as a fraction of the training set."""


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


def protocol(config: dict[str, Any]) -> str:
    """All keys that are no axis and differ from their defaults, as text to group by."""
    keys = {key: value for key, value in deciding_keys(config).items() if key not in AXES}
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
        if len(values) < 2:
            return None
        return statistics.stdev(values) if all(map(math.isfinite, values)) else math.inf

    def seconds(self) -> float:
        """Mean seconds of a run: compilation, training and evaluation."""
        return statistics.fmean(sum(run.summary.seconds.values()) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Gap:
    """The degradation gap: training error of the deepest net less that of the best shallower one.

    The best is chosen by what is compared, so a gap above zero is a little too large on average.

    Attributes:
      seeds: those that both depths have; everything here is over them.
      deepest, best: depths; `best` has the lowest mean error among the shallower.
      deepest_error, best_error: mean training errors.
      interval: 95 % t interval of the gap, paired by seed; None with a single seed.
      verdict: DEGRADES if the gap is above zero by more than its uncertainty, DOES_NOT if it is
        below `TOLERANCE` by more than that, else UNDECIDED. The uncertainty is that of the
        interval, or with a single seed the error of counting errors in two samples of this size;
        equal seeds do not make it smaller than that.
    """

    seeds: tuple[int, ...]
    deepest: int
    best: int
    deepest_error: float
    best_error: float
    interval: tuple[float, float] | None
    verdict: str

    @property
    def gap(self) -> float:
        """Difference of the mean errors, as a fraction of the training set."""
        return self.deepest_error - self.best_error


@dataclasses.dataclass(frozen=True)
class Missing:
    """A run that has no result: its name, state and config."""

    name: str
    state: str
    config: dict[str, Any]


def read_runs(workdir: Path) -> tuple[list[Run], list[Missing]]:
    """The runs below a directory that are done, and those that are not.

    A directory that is a run itself is read as that run.

    Raises:
      ConfigError: if a file of a run is damaged, or two directories hold the same run.
    """
    below = sorted(path for path in workdir.iterdir() if path.is_dir()) if workdir.is_dir() else []
    no_runs = (rundir.ABSENT, rundir.IMPORTED)
    found = [path for path in below if rundir.run_state(path) not in no_runs] or [workdir]
    done, missing, names = [], [], {}
    for directory in found:
        state = rundir.run_state(directory)
        if state in no_runs:
            continue
        config = rundir.read_config(directory)
        key = json.dumps(deciding_keys(config), sort_keys=True)
        if key in names:
            raise ConfigError(f"{directory} and {names[key]} hold the same run; remove one of them")
        names[key] = directory
        if state == rundir.DONE:
            curve = rundir.read_metrics(directory)
            manifest = rundir.read_json(directory / "manifest.json")
            done.append(Run(directory.name, config, read_summary(directory), curve, manifest))
        else:
            missing.append(Missing(directory.name, state, config))
    return done, missing


def protocols(runs: Iterable[Run]) -> list[list[Run]]:
    """The runs in groups of equal protocol, the largest group first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(protocol(run.config), []).append(run)
    return sorted(groups.values(), key=len, reverse=True)


def cells(runs: Iterable[Run], shortcut_order: Iterable[str]) -> list[Cell]:
    """The runs of one protocol by shortcut and depth; unknown shortcuts come last."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.shortcut, run.depth), []).append(run)
    order = {kind: place for place, kind in enumerate(shortcut_order)}
    return [
        Cell(*key, tuple(sorted(groups[key], key=lambda run: run.config["seed"])))
        for key in sorted(groups, key=lambda key: (order.get(key[0], len(order)), *key))
    ]


def degradation(arm: list[Cell]) -> Gap | None:
    """The gap of one shortcut's cells; None unless the deepest shares a seed with another."""
    errors = {
        cell.depth: {run.config["seed"]: run.summary.train_error for run in cell.runs}
        for cell in arm
    }
    deepest = max(errors)
    seeds = {
        depth: sorted(errors[depth].keys() & errors[deepest].keys())
        for depth in sorted(errors)
        if depth != deepest
    }
    means = {
        depth: statistics.fmean(errors[depth][seed] for seed in shared)
        for depth, shared in seeds.items()
        if shared
    }
    if not means:
        return None
    best = min(means, key=means.__getitem__)
    shared = seeds[best]
    high = [errors[deepest][seed] for seed in shared]
    low = [errors[best][seed] for seed in shared]
    gaps = [a - b for a, b in zip(high, low, strict=True)]
    examples = max(cell.runs[0].manifest["data"]["train"] for cell in arm)
    counting = statistics.fmean(error * (1 - error) / examples for error in (*high, *low)) * 2
    n, gap = len(gaps), statistics.fmean(gaps)
    interval = None
    if n == 1:
        margin = float(stats.norm.ppf(0.975)) * math.sqrt(counting)
    else:
        variance = max(statistics.variance(gaps), counting)
        margin = float(stats.t.ppf(0.975, n - 1)) * math.sqrt(variance / n)
        interval = (gap - margin, gap + margin)
    return Gap(
        seeds=tuple(shared),
        deepest=deepest,
        best=best,
        deepest_error=statistics.fmean(high),
        best_error=statistics.fmean(low),
        interval=interval,
        verdict=DEGRADES if gap > margin else DOES_NOT if gap + margin < TOLERANCE else UNDECIDED,
    )
