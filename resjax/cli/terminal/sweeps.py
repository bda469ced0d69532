"""Output about the runs of a sweep: their settings, their progress and their cost."""

import collections
import math
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resjax.cli.terminal.lines import say, shortened, tell
from resjax.cli.terminal.live import clock, status_rows
from resjax.cli.terminal.tables import literal, print_whole, several
from resjax.config import flatten
from resjax.runs.doctor import Finding
from resjax.runs.estimate import Work
from resjax.runs.ledger import Ledger, known_total
from resjax.runs.rundir import DONE, IMPORTED
from resjax.runs.status import ENDED, WAITING, Status, count_states


def print_findings(findings: list[Finding]) -> None:
    """Prints lines about every run, and the number of runs in each state, to stdout."""
    console = Console(highlight=False, markup=False)
    for found in findings:
        step = "" if found.step is None else f" at step {found.step}"
        age = "" if found.age is None else f", {_ago(found.age)}"
        count = f"{several(len(found.whole), 'checkpoint')}"
        say(
            console,
            f"{found.directory.name}: {found.state}{step}{age}, {found.size / 1e6:.1f} MB, {count}",
            style="bold" if found.state != DONE or found.damaged else None,
        )
        lines = [*found.damaged, *(f"partial: {path.name}" for path in found.partial)]
        if found.why:
            why = shortened(found.why.partition("\n")[0])  # a traceback may follow
            lines.append(why + (f"; {found.advice}" if found.advice else ""))
        for line in lines:
            say(console, f"  {line}")
    states = collections.Counter(found.state for found in findings)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    say(console, f"{several(len(findings), 'run')}: {counts}")
    if any(found.partial for found in findings):
        say(console, "what is partial is never read; --repair removes it")


def print_removed(paths: list[Path]) -> None:
    """Prints the paths that a repair has removed, to stderr."""
    for path in paths:
        tell(f"removed: {path}")


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


NAMED = frozenset({"model.depth", "model.shortcut", "seed"})
"""Keys whose values are in the name of a run."""


def varying(runs: Mapping[Path, ConfigDict]) -> dict[Path, list[str]]:
    """The settings of each run that differ from the most frequent and are not in its name."""
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
    """Formats a number by three digits and a prefix, such as "1.96 T"."""
    power = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(number, 1)) / 3)))
    return f"{number / 1000**power:.3g} {PREFIXES[power]}"


def print_statuses(statuses: list[Status], line: str, ledgers: list[Ledger | None]) -> None:
    """Prints a row for each run, a line about all, and one about their cost if it is known."""
    console = Console(highlight=False, markup=False)
    table = status_rows(statuses)
    print_whole(console, table)
    for status in statuses:
        if status.why:
            say(console, f"{status.directory.name}: {shortened(status.why)}")
    say(console, line)
    begun = [
        ledger
        for status, ledger in zip(statuses, ledgers, strict=True)
        if status.state not in (WAITING, IMPORTED)
    ]
    unknown = begun.count(None)
    rest = f"what {several(unknown, 'run')} cost is not known" if unknown else ""
    if any(ledgers):
        cost = known_total(ledgers)
        lost = f"{cost.lost_seconds:,.1f} s lost to {several(cost.interruptions, 'interruption')}"
        spent = f"{cost.device_seconds:,.1f} device seconds"
        compiled = f"{cost.compile_seconds:,.1f} s of compilation"
        rest = "; ".join(part for part in (f"{spent}, {compiled}", lost, rest) if part)
    if rest:
        say(console, rest)


def print_dry_run(
    runs: Mapping[Path, ConfigDict],
    statuses: list[Status],
    work: Mapping[Path, Work],
    seconds: Mapping[Path, float | None],
    speed: str,
) -> None:
    """Prints the runs of a grid, their settings, states and cost, to stdout.

    `speed` is the text that tells how the seconds were estimated.
    """
    settings = varying(runs)
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    beside = any(settings.values()) and not console.is_terminal  # where there is room
    for name in ("run", "state", "parameters", "multiply-\nadds", "training\nFLOP", "time",
                 *([""] if beside else [])):  # fmt: skip
        left = name in ("run", "state", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for status in statuses:
        own, takes = work[status.directory], seconds[status.directory]
        differs, name = settings[status.directory], status.directory.name
        table.add_row(
            Text("\n  ").join(map(literal, [name] if beside else [name, *differs])),
            status.state,
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
        total += f", {clock(sum(known))} one after another {speed}"
    say(
        console,
        f"{several(len(statuses), 'run')}: {count_states(statuses)}"
        + (f"; {len(left)} to train: {total}" if left else ""),
    )
