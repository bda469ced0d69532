"""`resjax sweep --dry-run`: the runs of a grid, with their settings, states and cost."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from resjax.cli.terminal.lines import say
from resjax.cli.terminal.tables import literal, print_table, table_of_runs, terminal_width
from resjax.config.naming import settings_of, told_apart
from resjax.config.text import several, time_taken

if TYPE_CHECKING:
    from resjax.runs.estimate import Work
    from resjax.runs.status import Status

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
    apart = told_apart({directory: settings_of(config) for directory, config in runs.items()})
    if as_json:
        for status in statuses:
            own = dataclasses.asdict(work[status.directory])
            fields = {"run": status.directory.name, "state": status.state, **own}
            fields |= {"seconds": seconds[status.directory], "settings": apart[status.directory]}
            print(json.dumps(fields))
    else:
        _print(apart, statuses, work, seconds, counted, speed)


def _print(
    apart: Mapping[Path, Mapping[str, Any]],
    statuses: "list[Status]",
    work: Mapping[Path, "Work"],
    seconds: Mapping[Path, float | None],
    counted: str,
    speed: str,
) -> None:
    """Prints the runs of a grid, what tells them apart, their states and cost, to stdout.

    `counted` names the seconds, as in `resjax.runs.ledger.TIMES`, and `speed` tells how they were
    estimated; without any there is no column of them.
    """
    from resjax.runs.status import ENDED, count_states

    rows = {}
    for status in statuses:
        cost, takes = work[status.directory], seconds[status.directory]
        rows[status.directory] = [
            literal(status.state),
            f"{cost.params:,}",
            f"{cost.multiply_adds:,}",
            _operations(2 * cost.total),
            "" if takes is None else time_taken(takes),
        ]
    headings = ("state", "parameters", "multiply-\nadds", "training\nFLOP", counted)
    print_table(table_of_runs(rows, headings, apart, terminal_width()))
    left = [status.directory for status in statuses if status.state not in ENDED]
    known = [takes for run in left if (takes := seconds[run]) is not None]
    total = f"{_operations(sum(2 * work[run].total for run in left))}FLOP"
    if left and len(known) == len(left):
        total += f", {counted} {time_taken(sum(known))} one after another {speed}"
    say(
        f"{several(len(statuses), 'run')}: {count_states(status.state for status in statuses)}"
        + (f"; {len(left)} to train: {total}" if left else ""),
    )


def _operations(number: float) -> str:
    """Formats a number with three digits and a prefix, such as "1.96 T"."""
    power = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(number, 1)) / 3)))
    return f"{number / 1000**power:.3g} {PREFIXES[power]}"
