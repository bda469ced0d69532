"""`resjax sweep --dry-run`: the runs of a grid, with their settings, states and cost."""

import collections
import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml_collections import ConfigDict
from rich.text import Text

from resjax.cli.terminal.lines import plain_console, say
from resjax.cli.terminal.tables import literal, print_table, text_table
from resjax.config import flatten
from resjax.config.text import clock, several

if TYPE_CHECKING:
    from resjax.runs.estimate import Work
    from resjax.runs.status import Status

NAMED = frozenset({"model.depth", "model.shortcut", "seed"})
"""Keys whose values are part of the name of a run."""

PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def show_grid(runs: Mapping[Path, ConfigDict], device: str | None, as_json: bool) -> None:
    """Prints the runs of a grid with what they cost, on a device if one is named."""
    from resjax.runs.estimate import seconds_of, seconds_on, work_of
    from resjax.runs.rundir import refuse_other_config
    from resjax.runs.scratch import fetch_states
    from resjax.runs.status import look

    fetch_states(runs)
    refuse_other_config(*next(iter(runs.items())))
    work, statuses = work_of(runs), [look(directory) for directory in runs]
    if device:
        seconds, counted = seconds_on(runs, device), "train"
        speed = f"as estimated for {device}"
    else:
        seconds, counted = seconds_of(statuses, work), "in all"
        speed = "at the speed of those that are done"
    if as_json:
        for status in statuses:
            own = dataclasses.asdict(work[status.directory])
            fields = {"run": status.directory.name, "state": status.state, **own}
            print(json.dumps(fields | {"seconds": seconds[status.directory]}))
    else:
        _print(runs, statuses, work, seconds, counted, speed)


def _print(
    runs: Mapping[Path, ConfigDict],
    statuses: "list[Status]",
    work: Mapping[Path, "Work"],
    seconds: Mapping[Path, float | None],
    counted: str,
    speed: str,
) -> None:
    """Prints the runs of a grid, their settings, states and cost, to stdout.

    `counted` names the seconds, as in `resjax.runs.ledger.TIMES`, and `speed` tells how they were
    estimated; without any there is no column of them.
    """
    from resjax.runs.status import ENDED, count_states

    settings = _varying(runs)
    beside = any(settings.values()) and not plain_console().is_terminal  # where there is room
    timed = any(own is not None for own in seconds.values())
    table = text_table(
        [
            *("run", "state", "parameters", "multiply-\nadds", "training\nFLOP"),
            *([counted] if timed else []),
            *([""] if beside else []),
        ],
        words=("run", "state", ""),
    )
    for status in statuses:
        name, own = status.directory.name, settings[status.directory]
        cost, takes = work[status.directory], seconds[status.directory]
        table.add_row(
            Text("\n  ").join(map(literal, [name] if beside else [name, *own])),
            literal(status.state),
            f"{cost.params:,}",
            f"{cost.multiply_adds:,}",
            _operations(2 * cost.total),
            *(["" if takes is None else clock(takes)] if timed else []),
            *([literal(" ".join(own))] if beside else []),
        )
    print_table(table)
    left = [status.directory for status in statuses if status.state not in ENDED]
    known = [takes for run in left if (takes := seconds[run]) is not None]
    total = f"{_operations(sum(2 * work[run].total for run in left))}FLOP"
    if left and len(known) == len(left):
        total += f", {counted} {clock(sum(known))} one after another {speed}"
    say(
        f"{several(len(statuses), 'run')}: {count_states(status.state for status in statuses)}"
        + (f"; {len(left)} to train: {total}" if left else ""),
    )


def _varying(runs: Mapping[Path, ConfigDict]) -> dict[Path, list[str]]:
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


def _operations(number: float) -> str:
    """Formats a number with three digits and a prefix, such as "1.96 T"."""
    power = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(number, 1)) / 3)))
    return f"{number / 1000**power:.3g} {PREFIXES[power]}"
