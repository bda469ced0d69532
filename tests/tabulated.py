"""Runs of a sweep as small tables of CSV, from which its report is made again.

A row has the name of a run, which says its config together with the experiment file, the keys in
which the runs differ, and the result. Another table has the errors after every epoch.
"""

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from resjax.config import flatten
from resjax.config.naming import deciding_keys, differing_keys
from resjax.report.report import Report, report_of
from resjax.report.runs import Run
from resjax.runs.summary import Summary

ALWAYS = ("model.shortcut", "model.depth", "seed")
"""Keys that every table has."""

FIELDS = {field.name: field.type for field in dataclasses.fields(Summary)}

SECONDS = "seconds."
"""Start of the columns with the seconds of a run."""

POINT = ("epoch", "train_error", "grown_train_error")
"""Columns of a curve."""


def write_runs(path: Path, runs: list[Run]) -> None:
    """Writes a row for each run, in the order of their depth, network and seed."""
    runs = sorted(runs, key=lambda run: (run.depth, run.name))
    differing = differing_keys([run.keys for run in runs])
    keys = [*ALWAYS, *(key for key in differing if key not in ALWAYS)]
    rows = []
    for run in runs:
        settings = {key: run.config[key] for key in keys}
        rows.append({"run": run.name} | settings | flatten(run.summary.recorded()))
    write_table(path, rows)


def write_curves(path: Path, runs: list[Run]) -> None:
    """Writes a row for each evaluation of each run."""
    runs = sorted(runs, key=lambda run: (run.depth, run.name))
    points = [(run.name, line) for run in runs for line in run.curve]
    columns = [name for name in POINT if any(name in line for _, line in points)]
    write_table(
        path,
        [{"run": run} | {name: line.get(name, "") for name in columns} for run, line in points],
    )


def read_report(
    runs: Mapping[str, ConfigDict], results: Path, curves: Path, examples: Mapping[str, int]
) -> Report:
    """The report of runs, {name: config}, whose results and curves are in tables.

    Args:
      runs: all runs of the sweep.
      results: table of the results.
      curves: table of the curves; it may be absent.
      examples: {"train", "test"}, the sizes of the splits.

    Raises:
      ValueError: if the table has other runs than the sweep.
    """
    rows = {row.pop("run"): row for row in read_table(results)}
    if rows.keys() != runs.keys():
        other = sorted(rows.keys() ^ runs.keys())
        raise ValueError(f"{results.name} is of another sweep: {', '.join(other)}")
    lines: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for line in read_table(curves) if curves.exists() else ():
        lines[line.pop("run")].append({name: float(text) for name, text in line.items() if text})
    found = [_run(name, runs[name], row, lines[name], examples) for name, row in rows.items()]
    return report_of(results.parent, found, [])


def _run(
    name: str, config: ConfigDict, row: dict[str, str], curve: list, examples: Mapping[str, int]
) -> Run:
    seconds = {
        column.removeprefix(SECONDS): float(text)
        for column, text in row.items()
        if column.startswith(SECONDS)
    }
    values = {column: _value(column, text) for column, text in row.items() if column in FIELDS}
    return Run(
        name,
        flatten(config),
        deciding_keys(config),
        Summary(**values, seconds=seconds),
        curve,
        {"data": dict(examples)},
    )


def _value(field: str, text: str) -> Any:
    if not text:
        return None
    kind = FIELDS[field]
    return text if kind is str else int(text) if kind in (int, int | None) else float(text)


def _text(column: str, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return f"{value:.4g}" if column.startswith((SECONDS, "epoch")) else f"{value:.6g}"


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes {column: value} of each row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = dict.fromkeys(column for row in rows for column in row)
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({column: _text(column, value) for column, value in row.items()})


def read_table(path: Path) -> list[dict[str, str]]:
    """Reads {column: text} of each row."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
