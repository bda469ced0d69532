"""How long a report takes to write: tables, figures and the page, of sweeps of many runs.

    python -m tests.benchmarks.reports [--runs=100,1000]

The runs are of four shortcuts and five depths, and the rest is seeds. A first report is written
before, so that nothing is imported while one is timed.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from resjax.report.report import write_report
from tests.report.fabricate import LEVELS, write_grid

DEPTHS = (8, 14, 20, 32, 56)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"medians of {options.rounds} reports\n\n"
          "| runs | seconds | nothing has changed | page MB |\n|---|---|---|---|")  # fmt: skip
    for runs in map(int, options.runs.split(",")):
        with tempfile.TemporaryDirectory() as directory:
            workdir = Path(directory)
            write_grid(workdir, seeds=runs // (len(LEVELS) * len(DEPTHS)), depths=DEPTHS)
            written = write_report(workdir)
            found = {}
            for again in (True, False):
                found[again] = []
                for _ in range(options.rounds):
                    start = time.perf_counter()
                    write_report(workdir, again)
                    found[again].append(time.perf_counter() - start)
            size = (written.directory / "index.html").stat().st_size / 1e6
            seconds = (f"{statistics.median(found[again]):.1f}" for again in (True, False))
            print(f"| {len(written.runs):,} | {' | '.join(seconds)} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()
