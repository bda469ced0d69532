"""Output about the runs of a grid before training: their settings and their cost."""

import collections
import math
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.lines import say
from resjax.cli.terminal.tables import literal, print_whole
from resjax.config import flatten
from resjax.config.text import clock, several
from resjax.runs.estimate import Work
from resjax.runs.status import ENDED, Status, count_states

NAMED = frozenset({"model.depth", "model.shortcut", "seed"})
"""Keys whose values are part of the name of a run."""


def varying(runs: Mapping[Path, ConfigDict]) -> dict[Path, list[str]]:
    """The settings of each run that differ from the usual ones and are not in its name."""
    flat = {directory: flatten(config) for directory, config in runs.items()}
    keys = [key for key in next(iter(flat.values())) if key not in NAMED]
    usual = {
        key: collections.Counter(str(settings[key]) for settings in flat.values()).most_common(1)
        for key in keys
    }
    return {
        directory: [
            f"{key}={settings[key]}" for key in keys if str(settings[key]) != usual[key][0][0]
        ]
        for directory, settings in flat.items()
    }


PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def _operations(number: float) -> str:
    """Formats a number with three digits and a prefix, such as "1.96 T"."""
    power = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(number, 1)) / 3)))
    return f"{number / 1000**power:.3g} {PREFIXES[power]}"


def print_dry_run(
    runs: Mapping[Path, ConfigDict],
    statuses: list[Status],
    work: Mapping[Path, Work],
    seconds: Mapping[Path, float | None],
    counted: str,
    speed: str,
) -> None:
    """Prints the runs of a grid, their settings, states and cost, to stdout.

    `counted` names the seconds, as in `resjax.runs.ledger.TIMES`, and `speed` tells how they were
    estimated.
    """
    settings = varying(runs)
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    beside = any(settings.values()) and not console.is_terminal  # where there is room
    for name in ("run", "state", "parameters", "multiply-\nadds", "training\nFLOP", counted,
                 *([""] if beside else [])):  # fmt: skip
        left = name in ("run", "state", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for status in statuses:
        own, takes = work[status.directory], seconds[status.directory]
        differs, name = settings[status.directory], status.directory.name
        table.add_row(
            Text("\n  ").join(map(literal, [name] if beside else [name, *differs])),
            literal(status.state),
            f"{own.params:,}",
            f"{own.multiply_adds:,}",
            _operations(2 * own.total),
            "" if takes is None else clock(takes),
            *([literal(" ".join(differs))] if beside else []),
        )
    print_whole(console, table)
    left = [status.directory for status in statuses if status.state not in ENDED]
    known = [takes for run in left if (takes := seconds[run]) is not None]
    total = f"{_operations(sum(2 * work[run].total for run in left))}FLOP"
    if left and len(known) == len(left):
        total += f", {counted} {clock(sum(known))} one after another {speed}"
    say(
        console,
        f"{several(len(statuses), 'run')}: {count_states(statuses)}"
        + (f"; {len(left)} to train: {total}" if left else ""),
    )
