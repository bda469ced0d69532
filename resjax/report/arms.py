"""Comparisons: tables of one protocol, their arms, and the runs of an arm at one depth.

An arm is a network but for its depth: what the keys of `model` and `norm` say, from which network
it is grown, and the keys that `eval.compare` names. The protocol is everything else that decides a
result, but for the seed: data, optimisation, duration, and which evaluation of a run is its answer.
"""

import dataclasses
import functools
import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from resjax.models.shortcuts import SHORTCUTS
from resjax.report import stats
from resjax.report.runs import Missing, Run
from resjax.report.styles import arm_places

AXES = ("model.depth", "seed")
"""Keys that vary within an arm."""

GROWTH = "train.grow_"
"""Prefix of keys whose defaults are not said: of a network that is not grown from another."""

ARM_KEYS = ("model.", "norm.", GROWTH)
"""Prefixes of the keys that distinguish the arms of a table."""

SELECTIONS = {"final": "final evaluation", "best": "evaluation with the lowest validation error"}


def arm_keys(run: Run | Missing) -> dict[str, Any]:
    """Keys of the arm that differ from their defaults."""
    return {k: v for k, v in _deciding(run).items() if _is_of_arm(run, k)}


def protocol(run: Run | Missing) -> dict[str, Any]:
    """Keys of the protocol that differ from their defaults; always the data and the selection."""
    chosen = {k: v for k, v in _deciding(run).items() if not _is_of_arm(run, k)}
    selection = run.summary.selection if isinstance(run, Run) else run.config["eval.select"]
    return chosen | {"data.name": run.config["data.name"], "eval.select": selection}


def _deciding(run: Run | Missing) -> dict[str, Any]:
    """Keys that tell arms or protocols apart; not those that are tuned (`resjax.report.tuning`)."""
    others = {*AXES, *run.config.get("eval.tune", [])}
    return {key: value for key, value in run.keys.items() if key not in others}


def _is_of_arm(run: Run | Missing, key: str) -> bool:
    return key.startswith(ARM_KEYS) or key in run.config.get("eval.compare", [])


def group_key(keys: dict[str, Any]) -> str:
    """A text that is the same for equal keys, to group runs by."""
    return json.dumps(keys, sort_keys=True)


def value_of(run: Run, measure: str) -> float | None:
    """A run's error, as a fraction, or its loss, in the evaluation that counts.

    A value that was not finite is inf. It is None if it is not recorded, as the loss of a selected
    evaluation, or a split that there is not.
    """
    field = measure if run.summary.selection == "final" else f"best_{measure}"
    value: float | None = getattr(run.summary, field, None)
    return value if value is None or math.isfinite(value) else math.inf


@dataclasses.dataclass(frozen=True)
class Cell:
    """The runs of one arm at one depth, which differ by seed."""

    arm: str
    depth: int
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """Name of the cell, such as `plain 56`."""
        return f"{self.arm} {self.depth}"

    @property
    def selection(self) -> str:
        """Key of `SELECTIONS`: the evaluation that errors are taken from, equal in a table."""
        return self.runs[0].summary.selection

    def by_seed(self, measure: str) -> dict[int, float]:
        """Returns {seed: value} of a measure such as "train_error"; empty if not measured."""
        found = {run.seed: value_of(run, measure) for run in self.runs}
        return {} if None in found.values() else found

    def sample(self, measure: str) -> stats.Sample | None:
        """The statistics of a measure over seeds; the interval of an error stays within 0 and 1."""
        if measure not in self._samples:
            values = list(self.by_seed(measure).values())
            sample = stats.summarise(values) if values else None
            if sample and sample.interval and measure.endswith("_error"):
                low, high = sample.interval
                sample = dataclasses.replace(sample, interval=(max(0.0, low), min(1.0, high)))
            self._samples[measure] = sample
        return self._samples[measure]

    @functools.cached_property
    def _samples(self) -> dict[str, stats.Sample | None]:
        """A cache of statistics, which tables and figures request many times."""
        return {}

    def seconds(self, *of: str) -> float:
        """Mean seconds of the cell's runs; see `Run.seconds`."""
        return statistics.fmean(run.seconds(*of) for run in self.runs)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A network at its depths.

    Attributes:
      name: its name in a report.
      shortcut: key of `SHORTCUTS`.
      place: index of its colour and marker in the tables of `resjax.report.styles`.
      cells: its runs at each depth, from shallow to deep.
    """

    name: str
    shortcut: str
    place: int
    cells: tuple[Cell, ...]


@dataclasses.dataclass(frozen=True)
class ProtocolTable:
    """The runs of one protocol.

    Attributes:
      title: the data, and what sets this protocol apart from others in the report.
      protocol: {dotted key: value} that differ from their defaults.
      arms: networks to compare.
      missing: runs of this protocol without a result, each with the name of its arm.
    """

    title: str
    protocol: dict[str, Any]
    arms: tuple[Arm, ...]
    missing: tuple[tuple[str, Missing], ...]

    @property
    def cells(self) -> list[Cell]:
        """Cells of all arms."""
        return [cell for arm in self.arms for cell in arm.cells]

    @property
    def runs(self) -> list[Run]:
        """Runs of all cells."""
        return [run for cell in self.cells for run in cell.runs]

    @property
    def selection(self) -> str:
        """Key of `SELECTIONS`: the evaluation of a run that errors are taken from."""
        return self.cells[0].selection


def label(shortcut: str) -> str:
    """The name of a shortcut in a report; a network without one is called plain."""
    return {"none": "plain"}.get(shortcut, shortcut)


def protocol_tables(runs: Iterable[Run], missing: Iterable[Missing] = ()) -> list[ProtocolTable]:
    """Groups the runs into tables of equal protocol, the largest first."""
    groups = _grouped(runs, lambda run: group_key(protocol(run)))
    lost = _grouped(missing, lambda run: group_key(protocol(run)))
    keys = sorted(groups, key=lambda key: -len(groups[key]))
    differing = differing_keys([protocol(groups[key][0]) for key in keys])
    return [
        _table(_title(groups[key][0], differing), groups[key], lost.get(key, [])) for key in keys
    ]


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def differing_keys(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Keys whose values differ between configs, or that only some configs have."""
    keys = sorted({key for keys in configs for key in keys})
    return [key for key in keys if len({str(keys.get(key)) for keys in configs}) > 1]


def _title(run: Run, differing: Iterable[str]) -> str:
    said = run.config | {"eval.select": protocol(run)["eval.select"]}
    shown = [f"{key}={said[key]}" for key in differing if key != "data.name" and key in said]
    return ", ".join([str(said["data.name"]), *shown])


def _table(title: str, runs: list[Run], missing: list[Missing]) -> ProtocolTable:
    networks = [arm_keys(run) for run in (*runs, *missing)]
    differing = [key for key in differing_keys(networks) if key != "model.shortcut"]
    # Defaults are said as well, of each network whose shortcut has another value elsewhere.
    alike = _grouped(networks, lambda keys: keys.get("model.shortcut"))
    varied = {
        shortcut: {key for key in differing_keys(group) if not key.startswith(GROWTH)}
        for shortcut, group in alike.items()
    }

    def name(run: Run | Missing, defaults: bool = True) -> str:
        keys = arm_keys(run)
        shown = keys.keys() | (varied[keys.get("model.shortcut")] if defaults else ())
        said = [f"{key}={run.config[key]}" for key in differing if key in shown & run.config.keys()]
        return ", ".join([label(run.config["model.shortcut"]), *said])

    order = {kind: place for place, kind in enumerate(SHORTCUTS)}
    # Defaults come first, so that arms are sorted by what differs from them.
    groups = _grouped(runs, lambda run: (run.shortcut, name(run, defaults=False), name(run)))
    arms = []
    keys = sorted(groups, key=lambda key: (order.get(key[0], len(order)), key))
    for key, place in zip(keys, arm_places([key[0] for key in keys]), strict=True):
        shortcut, _, arm = key
        by_depth = _grouped(groups[key], lambda run: run.depth)
        cells = [
            Cell(arm, depth, tuple(sorted(by_depth[depth], key=lambda run: run.seed)))
            for depth in sorted(by_depth)
        ]
        arms.append(Arm(arm, shortcut, place, tuple(cells)))
    return ProtocolTable(
        title, protocol(runs[0]), tuple(arms), tuple((name(run), run) for run in missing)
    )


# --------------------------------------------------------------------------------- between two arms


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


def compare(table: ProtocolTable, measure: str, against: str | None = None) -> list[Comparison]:
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
