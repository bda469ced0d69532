"""The page's table of all runs: its columns, and the data of each run."""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resjax.config.naming import differing_keys
from resjax.report import styles
from resjax.report.arms import label, value_of
from resjax.report.charts import MEASURES, run_curves
from resjax.report.rounding import DECIMALS_OF_A_LOSS, DECIMALS_OF_A_PERCENT, number
from resjax.report.runs import Missing, Run
from resjax.runs.rundir import DONE

if TYPE_CHECKING:
    from resjax.report.report import Report

KEYS = {"model.shortcut": "shortcut", "model.depth": "depth", "seed": "seed"}
"""Keys of every network, with the names of their columns."""

TEXTS = ("run", "state", "why", "shortcut")
"""Columns of words; a column of a key is aligned according to its values."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of the table.

    Attributes:
      name: what stands above it.
      filter: the name by which a filter knows it, such as "depth" or "train_error".
      kind: "key" if it is a key of the config, "result" if it is of the outcome, else "".
      values: a text for each run; "-" where there is none.
    """

    name: str
    filter: str
    kind: str
    values: tuple[str, ...]

    @functools.cached_property
    def text(self) -> bool:
        """Tells whether its values are words, which are aligned to the left."""
        return self.name in TEXTS or (self.kind == "key" and not all(map(_is_number, self.values)))

    @property
    def parts(self) -> list[str]:
        """Parts of its name, between which a line may break.

        >>> Column("optim.learning_rate", "", "", ()).parts
        ['optim.', 'learning_', 'rate']
        """
        return re.findall(r"[^._]*[._]|[^._]+", self.name)


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return text == "-"
    return True


def all_runs(report: "Report") -> list[Run | Missing]:
    """All runs in the order of the page: those that are not done first, then as in its tables.

    Runs that are in no table come last, by name.
    """
    places: dict[str, tuple[float, ...]] = {}
    for table, section in enumerate(report.sections):
        arms = {arm.name: place for place, arm in enumerate(section.table.arms)}
        found = [(cell.arm, run) for cell in section.table.cells for run in cell.runs]
        for arm, run in (*section.table.missing, *found):
            depth, seed = run.config["model.depth"], run.config["seed"]
            places[run.name] = (table, arms.get(arm, len(arms)), depth, seed)

    def place(run: Run | Missing) -> tuple[tuple[float, ...], str]:
        return places.get(run.name, (math.inf,)), run.name

    return [*sorted(report.missing, key=place), *sorted(report.runs, key=place)]


def differing(runs: Sequence[Run | Missing]) -> list[str]:
    """Keys in which runs differ, apart from `KEYS`."""
    return [
        key for key in differing_keys([run.keys for run in runs if run.config]) if key not in KEYS
    ]


def columns(report: "Report") -> list[Column]:
    """The columns; one of a key with equal values, or empty for all runs, is left out."""
    runs = all_runs(report)
    tables = {
        run.name: str(number)
        for number, section in enumerate(report.sections, start=1)
        for run in (*section.table.runs, *(run for _, run in section.table.missing))
    }
    found = []

    def table_of(run: Run | Missing) -> str:
        return tables.get(run.name, "")

    def add(name: str, known_as: str, kind: str, text: Callable[[Run | Missing], str]) -> None:
        values = tuple(text(run) or "-" for run in runs)
        if set(values) != {"-"} and (kind != "key" or len(set(values)) > 1):
            found.append(Column(name, known_as, kind, values))

    def add_measures(kind: str) -> None:
        for measure in MEASURES:
            if measure.endswith(kind):
                name = measure.replace("_", " ") + (" %" if kind == "error" else "")
                add(name, measure, "result", functools.partial(_answer, measure=measure))

    add("run", "run", "", lambda run: run.name)
    if report.missing:
        add("state", "state", "", _state)
    add("why", "why", "", lambda run: getattr(run, "reason", ""))
    if len(report.sections) > 1:
        add("table", "table", "", table_of)
    add_measures("error")
    for key, name in (KEYS | {key: key for key in differing(runs)}).items():
        add(name, key, "key", functools.partial(_setting, key=key))
    add_measures("loss")
    for phase in ("compile", "train", "eval"):
        add(f"{phase} (s)", phase, "result", functools.partial(_seconds, phases=(phase,)))
    add("in all (s)", "in_all", "result", _seconds)
    if any(run.ledger and run.ledger.interruptions for run in runs):
        add("interruptions", "interruptions", "result",
            lambda run: str(run.ledger.interruptions) if run.ledger else "")  # fmt: skip
        add("lost (s)", "lost", "result",
            lambda run: f"{run.ledger.lost_seconds:,.1f}" if run.ledger else "")  # fmt: skip
    return found


def _state(run: Run | Missing) -> str:
    return DONE if isinstance(run, Run) else run.state


def _setting(run: Run | Missing, key: str) -> str:
    value = run.config.get(key, "")
    return label(value) if key == "model.shortcut" else str(value)


def _answer(run: Run | Missing, measure: str) -> str:
    value = value_of(run, measure) if isinstance(run, Run) else None
    if value is None:
        return ""
    if measure.endswith("error"):
        return number(100 * value, DECIMALS_OF_A_PERCENT)
    return number(value, DECIMALS_OF_A_LOSS)


def _seconds(run: Run | Missing, phases: Sequence[str] = ()) -> str:
    return f"{run.seconds(*phases):,.1f}" if isinstance(run, Run) else ""


def run_rows(report: "Report", workdir: Path, shown: Sequence[Column]) -> list[dict[str, Any]]:
    """A row for each run: the path of its directory, its state, and its values."""
    own = {run.name for run in all_runs(report) if not (workdir / run.name).is_dir()}
    return [
        {
            # A run that holds its report itself has no directory of its name below the sweep.
            "link": "../" if run.name in own else f"../{quote(run.name)}/",
            "state": _state(run),
            "values": [column.values[n] for column in shown],
        }
        for n, run in enumerate(all_runs(report))
    ]


def run_data(report: "Report", depths: Sequence[int], most: int) -> list[dict[str, Any]]:
    """The curves of each run, in the order of the rows, with the index of its colour and dashes."""
    looks = _looks(report)

    def data(run: Run | Missing) -> dict[str, Any]:
        if isinstance(run, Missing):
            return {"name": run.name, "epochs": []}
        place, hollow = looks.get(run.name) or (styles.arm_places([run.shortcut])[0], False)
        return {
            "name": run.name,
            "depth": run.depth,
            "place": place,
            "hollow": hollow,
            "dash": depths.index(run.depth) if run.depth in depths else 0,
            **run_curves(run, most),
        }

    return list(map(data, all_runs(report)))


def _looks(report: "Report") -> Mapping[str, tuple[int, bool]]:
    """The colour of each run that is in a table, that of its arm, and whether it is hollow."""
    return {
        run.name: (arm.place, hollow)
        for section in report.sections
        for arm, hollow in zip(
            section.table.arms, styles.hollow([a.place for a in section.table.arms]), strict=True
        )
        for cell in arm.cells
        for run in cell.runs
    }


def shared(report: "Report", shown: Sequence[Column]) -> dict[str, str]:
    """What no two runs differ in, for filters: keys, and the state if it has no column."""
    first, names = report.runs[0], {column.filter for column in shown}
    apart = names | set(differing(all_runs(report)))
    same = {"state": DONE} | {key: _setting(first, key=key) for key in first.config}
    return {key: value for key, value in same.items() if key not in apart}
