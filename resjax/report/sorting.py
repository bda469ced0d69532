"""Sorting of runs into tables of arms, and the names of arms.

An arm is a network and its recipe: everything that decides a result, apart from the depth and the
seed. A setting of the recipe that depends on the depth alone, such as a warm-up of the deepest
networks, does not tell arms apart. Runs on other data, and those whose answer is another of their
evaluations, are in another table.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from resjax.config.naming import differing_keys
from resjax.models.shortcuts import SHORTCUTS
from resjax.report.arms import Arm, ArmTable, Cell, label
from resjax.report.runs import Missing, Run
from resjax.report.styles import arm_places

AXES = ("model.depth", "seed")
"""Keys that vary within an arm."""

APART = ("data.name", "eval.select")
"""Keys that vary between tables only."""

GROWTH = "train.grow_"
"""Prefix of keys whose defaults are not said: of a network that is not grown from another."""

OF_NETWORK = ("model.", "norm.", GROWTH)
"""Prefixes of the keys of a network; the others are of its recipe."""

UNSAID = ("model.", "optim.", "train.")
"""Sections that the names of arms leave out before the name of a key."""

MOST_ARMS = 16
"""Most arms in a table that could be divided into one for each recipe."""


def arm_settings(run: Run | Missing) -> dict[str, Any]:
    """Keys of the network and its recipe that differ from their defaults.

    Keys that are tuned for each network are not among them; see `resjax.report.tuning`.
    """
    others = {*AXES, *APART, *run.config.get("eval.tune", [])}
    return {key: value for key, value in run.keys.items() if key not in others}


def apart(run: Run | Missing) -> dict[str, Any]:
    """The keys by which runs are in different tables."""
    selection = run.summary.selection if isinstance(run, Run) else run.config["eval.select"]
    return {"data.name": run.config["data.name"], "eval.select": selection}


def group_key(keys: dict[str, Any]) -> str:
    """A text that is the same for equal keys, to group runs by."""
    return json.dumps(keys, sort_keys=True)


def arm_tables(runs: Iterable[Run], missing: Iterable[Missing] = ()) -> list[ArmTable]:
    """Sorts the runs into tables, the largest first."""
    every: list[Run | Missing] = [*runs, *missing]
    groups = [
        part
        for group in _grouped(every, lambda run: group_key(apart(run))).values()
        for part in _divided(group)
        if any(isinstance(run, Run) for run in part)
    ]
    told = [apart(group[0]) | _recipe(group, len(groups)) for group in groups]
    differing = [key for key in differing_keys(told) if key != "data.name"]
    tables = [
        _table(group, [f"{key}={_said(group[0], key)}" for key in differing if key in keys])
        for group, keys in zip(groups, told, strict=True)
    ]
    return sorted(tables, key=lambda table: (-len(table.runs), natural(table.title)))


def natural(text: str) -> list[tuple[int, float, str]]:
    """A key to sort texts by, with the numbers in them as numbers.

    >>> sorted(["train[:1000]", "train[:50]", "test"], key=natural)
    ['test', 'train[:50]', 'train[:1000]']
    """
    parts = re.split(r"((?<![\w.])[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return [
        (0, float(part), "") if place % 2 else (1, 0.0, part)
        for place, part in enumerate(parts)
        if part
    ]


def _grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _said(run: Run | Missing, key: str) -> Any:
    """A value of a run, as a title or a name says it."""
    return apart(run).get(key, run.config.get(key, ""))


def _recipe(runs: Sequence[Run | Missing], tables: int) -> dict[str, Any]:
    """Settings outside the network that runs share, where there are several tables."""
    if tables == 1:
        return {}
    found = [{k: v for k, v in arm_settings(run).items() if _is_of_recipe(k)} for run in runs]
    return {key: value for key, value in found[0].items() if key not in differing_keys(found)}


def _is_of_recipe(key: str) -> bool:
    return not key.startswith(OF_NETWORK)


def _by_depth(runs: Sequence[Run | Missing]) -> dict[str, dict[int, Any]]:
    """Settings of the recipe that differ, but never at one depth, {key: {depth: value}}."""
    differing = filter(_is_of_recipe, differing_keys([arm_settings(run) for run in runs]))
    depths = _grouped(runs, lambda run: run.config["model.depth"])
    values = {
        key: {depth: [_said(run, key) for run in group] for depth, group in sorted(depths.items())}
        for key in differing
    }
    return {
        key: {depth: said[0] for depth, said in of_key.items()}
        for key, of_key in values.items()
        if all(said.count(said[0]) == len(said) for said in of_key.values())
    }


def _divided(runs: list[Run | Missing]) -> list[list[Run | Missing]]:
    """Divides runs into those of each recipe, if they have very many arms.

    They stay together where there would be nothing to compare in the parts.
    """
    unsaid = _by_depth(runs)

    def of(run: Run | Missing, *kinds: bool) -> str:
        own = arm_settings(run).items()
        return group_key({k: v for k, v in own if k not in unsaid and _is_of_recipe(k) in kinds})

    if len({of(run, True, False) for run in runs}) <= MOST_ARMS:
        return [runs]
    parts = _grouped(runs, lambda run: of(run, True)).values()
    compared = [{(of(run, False), run.config["model.depth"]) for run in part} for part in parts]
    return list(parts) if any(len(each) > 1 for each in compared) else [runs]


def _table(every: Sequence[Run | Missing], told: Iterable[str]) -> ArmTable:
    by_depth = _by_depth(every)
    names = _Names(every, by_depth)
    order = {kind: place for place, kind in enumerate(SHORTCUTS)}

    def in_order(run: Run | Missing) -> tuple[Any, ...]:
        shortcut = run.config["model.shortcut"]
        return order.get(shortcut, len(order)), shortcut, names.in_order(run)

    every = sorted(every, key=in_order)
    runs = [run for run in every if isinstance(run, Run)]
    groups = _grouped(runs, lambda run: (run.shortcut, names.parts(run)))
    places = arm_places([shortcut for shortcut, _ in groups])
    arms = []
    for ((shortcut, parts), group), place in zip(groups.items(), places, strict=True):
        of_depth = _grouped(group, lambda run: run.depth)
        cells = [
            Cell(" ".join(parts), depth, tuple(sorted(of_depth[depth], key=lambda run: run.seed)))
            for depth in sorted(of_depth)
        ]
        arms.append(Arm(parts, shortcut, place, tuple(cells)))
    missing = [(" ".join(names.parts(run)), run) for run in every if isinstance(run, Missing)]
    title = ", ".join([str(every[0].config["data.name"]), *names.shared, *told])
    return ArmTable(title, tuple(arms), tuple(missing), by_depth)


class _Names:
    """The names of a table's arms.

    Args:
      every: the runs.
      unsaid: keys that are not in the names.

    Attributes:
      shared: the name of the shortcut, if all have it and the rest tells them apart; no name has
        it then.
    """

    def __init__(self, every: Sequence[Run | Missing], unsaid: Iterable[str]):
        own = [{k: v for k, v in arm_settings(run).items() if k not in unsaid} for run in every]
        self.differing = [key for key in differing_keys(own) if key != "model.shortcut"]
        last = [key.rpartition(".")[2] for key in self.differing]
        self.short = {
            key: name if key.startswith(UNSAID) and last.count(name) == 1 else key
            for key, name in zip(self.differing, last, strict=True)
        }
        # Defaults are said as well, of each network whose shortcut has another value elsewhere.
        self.varied = {
            shortcut: {key for key in differing_keys(group) if not key.startswith(GROWTH)}
            for shortcut, group in _grouped(own, lambda keys: keys.get("model.shortcut")).items()
        }
        kinds = {label(run.config["model.shortcut"]) for run in every}
        self.shared = kinds if len(kinds) == 1 and all(map(self._said, every)) else set()

    def _said(self, run: Run | Missing) -> list[str]:
        keys = arm_settings(run)
        shown = keys.keys() | self.varied[keys.get("model.shortcut")]
        said = [key for key in self.differing if key in shown and key in run.config]
        return [f"{self.short[key]}={run.config[key]}" for key in said]

    def parts(self, run: Run | Missing) -> tuple[str, ...]:
        kind = label(run.config["model.shortcut"])
        return (*({kind} - self.shared), *self._said(run))

    def in_order(self, run: Run | Missing) -> list[tuple[Any, ...]]:
        """A key to sort by: numbers by their size, of words the default first."""
        values = [(key, run.config.get(key, "")) for key in self.differing]
        return [
            (isinstance(value, str) and key in run.keys, natural(str(value)))
            for key, value in values
        ]
