"""Table of what networks are like inside, from the probes that runs record at their evaluations."""

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from resjax.report import rounding
from resjax.report.arms import label
from resjax.report.runs import Run

START = "probes/0/probes.json"
"""What `resjax probe --probe=gradients --checkpoint=0` leaves in the directory of a run."""


def probed_rows(directory: Path, runs: Iterable[Run]) -> list[dict[str, Any]]:
    """A row for each run: its network, its seed, and numbers before training and after."""
    rows = []
    for run in sorted(runs, key=lambda run: (run.depth, run.name)):
        own = directory / run.name
        before = json.loads((own / START).read_text(encoding="utf-8"))["probes"]
        after = json.loads((own / "probes.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        row = {"network": f"{label(run.config['model.shortcut'])} {run.depth}", "seed": run.seed}
        rows.append(row | _numbers(before, after))
    return rows


def _numbers(before: dict, after: dict) -> dict[str, float]:
    """The numbers of a run, from its probes before training and after."""
    lesions = after["lesions"]
    swapped = [error for error in lesions["swapped"] if isinstance(error, float)]
    return {
        "first_ratio": before["gradients"]["input_ratio"],
        "last_ratio": after["gradients"]["input_ratio"],
        "response": float(np.mean(after["responses"]["deviation"])),
        "whole": 100 * lesions["whole"],
        "deleted": 100 * statistics.median(lesions["deleted"]),
        "swapped": 100 * statistics.median(filter(math.isfinite, swapped)),
    }


COLUMNS = {
    "first_ratio": "gradient ratio before training",
    "last_ratio": "after it",
    "response": "response",
    "whole": "test error %",
    "deleted": "without a block",
    "swapped": "with two swapped",
}
"""Columns of the table by the names of the numbers."""


def probed_table(rows: Iterable[dict[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table with the mean and deviation over the seeds of every network."""
    networks: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        networks.setdefault(row["network"], []).append(row)
    texts = []
    for network, own in networks.items():
        found = [[float(row[name]) for row in own] for name in COLUMNS]
        texts.append([network, *map(_mean_and_deviation, found)])
    return ["network", *COLUMNS.values()], texts


def _mean_and_deviation(values: list[float]) -> str:
    return rounding.with_deviation(statistics.fmean(values), statistics.stdev(values), 2)
