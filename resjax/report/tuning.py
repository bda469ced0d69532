"""Keys that are tuned for each network separately, so that their values handicap no arm.

The runs of a sweep whose config names keys in `eval.tune` are candidates: of each network at each
depth those enter the tables whose mean validation error over the seeds is the lowest. Test errors
decide nothing.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable
from typing import Any

from resjax.report.arms import Cell, arm_keys, group_key, protocol, value_of
from resjax.report.runs import Missing, Run

MEASURE = "validation_error"


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen values for one network.

    Attributes:
      values: {key: value} of the tuned keys.
      error: mean validation error with them.
      candidates: number of values that there were to choose from.
      at_the_end: whether the chosen value of a key is the lowest or highest that was tried.
    """

    values: dict[str, Any]
    error: float
    candidates: int
    at_the_end: bool

    def line(self, name: str) -> str:
        """A sentence about the choice, for readers of a report."""
        said = ", ".join(f"{key}={value}" for key, value in self.values.items())
        end = "; the best lies at the end of what was tried" if self.at_the_end else ""
        return (
            f"{name}: {said} of {self.candidates}, validation error {100 * self.error:.2f} %{end}"
        )


def tuned_keys(run: Run | Missing) -> list[str]:
    """Keys that are tuned in a run's sweep."""
    return list(run.config.get("eval.tune", []))


def shared_keys(run: Run | Missing) -> tuple[str, str, int]:
    """The protocol, network and depth that the candidates for one choice have in common."""
    return group_key(protocol(run)), group_key(arm_keys(run)), run.config["model.depth"]


def choose_tuned(
    runs: Iterable[Run], missing: Iterable[Missing]
) -> tuple[list[Run], list[Missing], dict[tuple[str, str, int], Choice]]:
    """Drops candidates that were not chosen; returns the others, and choices by `shared_keys`.

    A candidate that lacks a seed that another one has, since it failed or is not done, is not
    chosen.
    """
    groups: dict[tuple[str, str, int], list[Run]] = {}
    for run in runs:
        if tuned_keys(run):
            groups.setdefault(shared_keys(run), []).append(run)
    choices = {key: _choice(group) for key, group in groups.items()}
    choices = {key: choice for key, choice in choices.items() if choice is not None}

    def stays(run: Run | Missing) -> bool:
        choice = choices.get(shared_keys(run)) if tuned_keys(run) else None
        return choice is None or _values(run) == choice.values

    return list(filter(stays, runs)), list(filter(stays, missing)), choices


def note(cell: Cell, choices: dict[tuple[str, str, int], Choice]) -> str | None:
    """A line about a cell whose runs were chosen; None for any other cell."""
    choice = choices.get(shared_keys(cell.runs[0])) if tuned_keys(cell.runs[0]) else None
    return choice and choice.line(cell.name)


def _values(run: Run | Missing) -> dict[str, Any]:
    return {key: run.config[key] for key in tuned_keys(run)}


def _choice(runs: list[Run]) -> Choice | None:
    candidates: dict[str, list[Run]] = {}
    for run in runs:
        candidates.setdefault(group_key(_values(run)), []).append(run)
    most = max(map(len, candidates.values()))
    errors = {
        text: statistics.fmean(_error(run) for run in group)
        for text, group in candidates.items()
        if len(group) == most
    }
    best = min(errors, key=errors.get)
    if not math.isfinite(errors[best]):
        return None
    values = _values(candidates[best][0])
    return Choice(
        values,
        errors[best],
        len(candidates),
        any(_is_extreme(key, value, runs) for key, value in values.items()),
    )


def _error(run: Run) -> float:
    value = value_of(run, MEASURE)
    return math.inf if value is None else value


def _is_extreme(key: str, value: Any, runs: list[Run]) -> bool:
    if type(value) not in (int, float):  # names, and lists such as milestones, have no ends
        return False
    tried = sorted({run.config[key] for run in runs})
    return len(tried) > 2 and value in (tried[0], tried[-1])
