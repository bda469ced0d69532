"""Writes docs/results.md: what the files of experiments/ ask, and what came out.

    python -m tests.results [NAME ...]
    python -m tests.results --run [NAME ...]

The first draws the figures of all sections, or of those named, and writes the page, from the tables
in docs/results/. The second trains them before, each sweep in its directory of runs/results/, and
writes their tables. What was interrupted goes on when the command is given again; how long a sweep
takes is noted only if it was trained from nothing in one go.

A section is a line of `tests.result_sections.SECTIONS`. Its words are the paragraphs of the
experiment's docstring that begin with `Question:` and `Result:`, or with `Question of ARG:` and
`Result of ARG:` where an argument has its own.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from resjax.report import layout
from resjax.report.report import FIGURES, read_sweep
from tests.result_page import MEASURED, page
from tests.result_probes import probed_rows
from tests.result_sections import (
    DATA,
    MACHINES,
    ROOT,
    SECTIONS,
    command_of,
    curves_of,
    machines,
    probes_of,
    read_section,
    table_of,
)
from tests.tabulated import write_curves, write_runs, write_table

PAGE = ROOT / "docs" / "results.md"

WORKDIRS = Path("runs", "results")
"""Directory of the sweeps, below the root of the repository."""


def main(words: list[str]) -> None:
    """Trains sections if asked to, draws their figures, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="train before")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SECTIONS))
    options = parser.parse_args(words)
    if unknown := sorted(set(options.names) - set(SECTIONS)):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    for name in options.names or SECTIONS:
        if options.run and SECTIONS[name].command:
            run(name)
        if SECTIONS[name].figure and table_of(name).exists():
            print(f"{name}: {draw(name, DATA).relative_to(ROOT)}", flush=True)
    PAGE.write_text(page(), encoding="utf-8")


def draw(name: str, directory: Path) -> Path:
    """Draws the figure of a section."""
    figure = FIGURES[SECTIONS[name].figure](read_section(name).table.arms)
    with tempfile.TemporaryDirectory() as drawn:
        layout.save(figure, Path(drawn, name))
        return Path(shutil.copy(Path(drawn, f"{name}.png"), directory))


def run(name: str) -> None:
    """Runs the command of a section, and writes its tables."""
    DATA.mkdir(exist_ok=True)
    {"sweep": _sweep, "bench": _bench}[SECTIONS[name].command](name)


def _sweep(name: str) -> None:
    directory = ROOT / WORKDIRS / name
    noted, new = directory / "seconds.txt", not directory.exists()
    seconds, _ = _execute(command_of(name, WORKDIRS / name))
    if new:
        noted.write_text(f"{seconds:.0f}")
    runs = read_sweep(directory).runs
    write_runs(table_of(name), runs)
    if SECTIONS[name].figure == "training_error":
        write_curves(curves_of(name), runs)
    if SECTIONS[name].probed:
        for run in runs:
            of = WORKDIRS / name / run.name
            _execute(f"resjax probe {of} --probe=gradients --checkpoint=0")
        write_table(probes_of(name), probed_rows(directory, runs))
    sizes = {split: runs[0].manifest["data"][split] for split in ("train", "test")}
    _note(name, seconds=noted.read_text() if noted.exists() else "", **sizes)


def _bench(name: str) -> None:
    seconds, said = _execute(f"{command_of(name)} --json", stdout=subprocess.PIPE)
    measured = [json.loads(line) for line in said.splitlines()]
    write_table(table_of(name), [{field: row[field] for field in MEASURED} for row in measured])
    _note(name, seconds=f"{seconds:.0f}")


def _execute(command: str, **options: int) -> tuple[float, str]:
    """Seconds and output of a command of resjax, for which nothing is compiled at its start."""
    print(command, flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as compiled:
        done = subprocess.run(
            [sys.executable, "-m", "resjax", *command.split()[1:]],
            cwd=ROOT,
            env=os.environ | {"JAX_COMPILATION_CACHE_DIR": compiled},
            text=True,
            check=False,
            **options,
        )
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}; to go on, give the same command again")
    return time.monotonic() - began, done.stdout


def _note(name: str, **columns: str | int) -> None:
    """Writes a section's row of `MACHINES`."""
    import jax

    [cpu] = set(re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.M))
    row = {"section": name, "cpu": cpu, "cores": len(os.sched_getaffinity(0))}
    rows = machines() | {name: row | {"jax": jax.__version__} | columns}
    write_table(MACHINES, [rows[each] for each in SECTIONS if each in rows])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:  # what was trained is kept, and the next time goes on
        sys.exit(128 + signal.SIGINT)
