"""Keys that are tuned for each network separately, so that their values handicap no arm.

The runs of a sweep whose config names keys in `eval.tune` are candidates: of each network at each
depth those enter the tables whose mean validation error over the seeds is the lowest. Test errors
decide nothing.
"""

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable
from typing import Any

from resjax.config.keys import KEYS
from resjax.report.arms import ArmTable, label, value_of
from resjax.report.runs import Missing, Run
from resjax.report.sorting import OF_NETWORK, apart, arm_settings, group_key

MEASURE = "validation_error"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen values for one network.

    Attributes:
      candidates: number of values that there were to choose from.
      values: {key: value} of the tuned keys; empty if none is chosen.
      error: mean validation error with them.
      at_the_end: whether the chosen value of a key is the lowest or highest that was tried.
    """

    candidates: int
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    error: float = math.inf
    at_the_end: bool = False

    def line(self, name: str) -> str:
        """A sentence about the choice, for readers of a report."""
        if not self.values:
            return (
                f"{name}: not in the table, as each of {self.candidates} candidates lacks a seed "
                "that another has"
            )
        said = ", ".join(f"{key}={value}" for key, value in self.values.items())
        end = "; the best lies at the end of what was tried" if self.at_the_end else ""
        return (
            f"{name}: {said} of {self.candidates}, validation error {100 * self.error:.2f} %{end}"
        )


def tuned_keys(run: Run | Missing) -> list[str]:
    """Keys that are tuned in a run's sweep."""
    return list(run.config.get("eval.tune", []))


Shared = tuple[str, str, int]


def shared_keys(run: Run | Missing) -> Shared:
    """What the candidates for one choice have in common: table, settings and depth."""
    return group_key(apart(run)), group_key(arm_settings(run)), run.config["model.depth"]


def choose_tuned(
    runs: Iterable[Run], missing: Iterable[Missing]
) -> tuple[list[Run], list[Missing], dict[Shared, Choice]]:
    """Drops candidates that were not chosen; returns the others, and choices by `shared_keys`.

    A candidate that lacks a seed that another one has, since it failed or is not done, is not
    chosen. Where that is so of all, none is, and the runs without a result are kept to tell why.
    """
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        if tuned_keys(run):
            groups.setdefault(shared_keys(run), []).append(run)
    choices = {key: _choice(group) for key, group in groups.items()}

    def stays(run: Run | Missing) -> bool:
        choice = choices.get(shared_keys(run)) if tuned_keys(run) else None
        if choice is None:
            return True
        return _values(run) == choice.values if choice.values else isinstance(run, Missing)

    return list(filter(stays, runs)), list(filter(stays, missing)), choices


def notes(table: ArmTable, choices: dict[Shared, Choice]) -> list[str]:
    """A line for each network of a table whose runs were chosen, and for each without a choice."""
    tuned = [cell for cell in table.cells if tuned_keys(cell.runs[0])]
    lines = [choices[shared_keys(cell.runs[0])].line(cell.name) for cell in tuned]
    of_table = group_key(apart(table.runs[0]))
    for (shared, of_arm, depth), choice in choices.items():
        if shared == of_table and not choice.values:
            lines.append(choice.line(f"{_name(json.loads(of_arm))} {depth}"))
    return lines


def _name(keys: dict[str, Any]) -> str:
    """The name of a network that is in no table, by what differs from the defaults."""
    shortcut = label(keys.pop("model.shortcut", KEYS["model.shortcut"].default))
    own = (f"{key}={value}" for key, value in keys.items() if key.startswith(OF_NETWORK))
    return " ".join([shortcut, *own])


def _values(run: Run | Missing) -> dict[str, Any]:
    return {key: run.config[key] for key in tuned_keys(run)}


def _choice(runs: list[Run]) -> Choice:
    candidates: dict[str, list[Run]] = {}
    for run in runs:
        candidates.setdefault(group_key(_values(run)), []).append(run)
    seeds = {run.seed for run in runs}
    errors = {
        text: statistics.fmean(_error(run) for run in group)
        for text, group in candidates.items()
        if {run.seed for run in group} == seeds
    }
    if not errors:
        return Choice(len(candidates))
    best = min(errors, key=errors.get)
    values = _values(candidates[best][0])
    at_the_end = any(_is_extreme(key, value, runs) for key, value in values.items())
    return Choice(len(candidates), values, errors[best], at_the_end)


def _error(run: Run) -> float:
    value = value_of(run, MEASURE)
    return math.inf if value is None else value


def _is_extreme(key: str, value: Any, runs: list[Run]) -> bool:
    if type(value) not in (int, float):  # names, and lists such as milestones, have no ends
        return False
    tried = sorted({run.config[key] for run in runs})
    return len(tried) > 2 and value in (tried[0], tried[-1])
