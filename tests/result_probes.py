"""Table of what networks are like inside, from the probes that runs record at their evaluations."""

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resjax.report import rounding
from resjax.report.arms import label
from resjax.report.runs import Run
from resjax.runs.rundir import PROBES_FILE

MEASURED: dict[str, tuple[str, Callable[[dict], float], int]] = {
    "gradient_ratio": (
        "gradient, first block / last",
        lambda found: found["gradients"]["input_ratio"],
        2,
    ),
    "response": (
        "response",
        lambda found: statistics.fmean(
            value for block in found["responses"]["deviation"] for value in block
        ),
        2,
    ),
    "whole": ("test error %", lambda found: 100 * found["lesions"]["whole"], 2),
    "deleted": (
        "without a block",
        lambda found: 100 * statistics.median(found["lesions"]["deleted"]),
        2,
    ),
    "swapped": (
        "with two swapped",
        lambda found: (
            100
            * statistics.median(
                error for error in found["lesions"]["swapped"] if isinstance(error, float)
            )
        ),
        2,
    ),
}
"""What is taken from the probes of an evaluation: its column, how, and its decimals."""


def probed_rows(directory: Path, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """A row for each run: its network, its seed, and the numbers of its last evaluation."""
    rows = []
    for run in sorted(runs, key=lambda run: (run.depth, run.name)):
        last = (directory / run.name / PROBES_FILE).read_text(encoding="utf-8").splitlines()[-1]
        found = json.loads(last)
        numbers = {name: take(found["probes"]) for name, (_, take, _) in MEASURED.items()}
        arm = label(run.config["model.shortcut"])
        rows.append({"network": f"{arm} {run.depth}", "seed": run.seed} | numbers)
    return rows


def probed_table(rows: Iterable[dict[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table with the mean and deviation over the seeds of every network."""
    networks: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        networks.setdefault(row["network"], []).append(row)
    texts = []
    for network, own in networks.items():
        found = {name: [float(row[name]) for row in own] for name in MEASURED}
        texts.append(
            [network]
            + [
                rounding.with_deviation(
                    statistics.fmean(values), statistics.stdev(values), MEASURED[name][2]
                )
                for name, values in found.items()
            ]
        )
    return ["network", *(column for column, _, _ in MEASURED.values())], texts
