"""Output about the files of runs: the states of runs, and what is damaged."""

import collections
from pathlib import Path

from resjax.cli.terminal.lines import say, shortened, tell
from resjax.config.text import several
from resjax.runs.doctor import Finding
from resjax.runs.rundir import DONE


def print_findings(findings: list[Finding]) -> None:
    """Prints the findings about every run, and the number of runs in each state, to stdout."""
    for found in findings:
        step = "" if found.step is None else f" at step {found.step}"
        age = "" if found.age is None else f", {_ago(found.age)}"
        count = f"{several(len(found.whole), 'checkpoint')}"
        say(
            f"{found.directory.name}: {found.state}{step}{age}, {found.size / 1e6:.1f} MB, {count}",
            style="bold" if found.state != DONE or found.damaged else None,
        )
        lines = [*found.damaged, *(f"partial: {path.name}" for path in found.partial)]
        if found.why:
            why = shortened(found.why.partition("\n")[0])  # a traceback may follow
            lines.append(why + (f"; {found.advice}" if found.advice else ""))
        for line in lines:
            say(f"  {line}")
    states = collections.Counter(found.state for found in findings)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    say(f"{several(len(findings), 'run')}: {counts}")
    if any(found.partial for found in findings):
        say("partial files are never read; --repair removes them")


def print_removed(paths: list[Path]) -> None:
    """Prints the paths that a repair removed, to stderr."""
    for path in paths:
        tell(f"removed: {path}")


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"
