"""How long the page of a report takes to write and to open in Chromium, and its size.

    python -m tests.benchmarks.report_page [--runs=100,1000] [--epochs=15]

The runs are of four shortcuts and five depths, and the rest is seeds. A first report is written
before, so that nothing is imported while one is timed. It is written whole, with tables and
figures; "unchanged" is the same where no run has changed. The page is open when its load event has
been handled.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from resjax.report.report import write_report
from tests.report.browsing import launch
from tests.report.fabricate import LEVELS, write_grid

DEPTHS = (8, 14, 20, 32, 56)

OPENED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", default="100,1000")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"medians of {options.rounds}\n")
    print("| runs | write (s) | unchanged (s) | bytes | open (s) |\n|---|---|---|---|---|")
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for runs in map(int, options.runs.split(",")):
            with tempfile.TemporaryDirectory() as directory:
                workdir = Path(directory)
                seeds = runs // (len(LEVELS) * len(DEPTHS))
                write_grid(workdir, seeds=seeds, depths=DEPTHS, epochs=options.epochs)
                page = write_report(workdir).directory / "index.html"

                def median(measure: Callable[..., float], *arguments: object) -> float:
                    return statistics.median(measure(*arguments) for _ in range(options.rounds))

                written, unchanged = (
                    median(seconds_to_write, workdir, again) for again in (True, False)
                )
                opened = median(seconds_to_open, browser, page)
                size = page.stat().st_size
                print(f"| {runs:,} | {written:.1f} | {unchanged:.1f} | {size:,} | {opened:.1f} |",
                      flush=True)  # fmt: skip


def seconds_to_write(workdir: Path, again: bool) -> float:
    start = time.perf_counter()
    write_report(workdir, again)
    return time.perf_counter() - start


def seconds_to_open(browser: Browser, page: Path) -> float:
    opened = browser.new_page()
    opened.goto(page.as_uri())
    opened.wait_for_function(f"{OPENED} > 0")
    milliseconds = opened.evaluate(OPENED)
    opened.close()
    return milliseconds / 1000


if __name__ == "__main__":
    main()
