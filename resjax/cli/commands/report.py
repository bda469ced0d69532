"""`resjax report`: the tables, figures and page of a sweep."""

import argparse
from pathlib import Path

from resjax.buckets.places import reading
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.cli.terminal.lines import tell
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.overrides import refuse
from resjax.runs import needed
from resjax.runs.claims import Claimed, claimed
from resjax.runs.rundir import make_directory


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep, or gs://, s3://, az://",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    refuse(rest)
    page = write_and_print(options.dir, again=True)
    if options.open:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            tell(f"no browser to open it with; open {page}")
    return 0


def write_and_print(workdir: Path | Address, again: bool) -> Path:
    """Writes the report of a sweep, to the bucket if the sweep is in one, and prints it.

    Args:
      workdir: directory of the sweep, or its address.
      again: whether it is written even if no run has changed.

    Returns:
      The page, or a copy of it.
    """
    with reading(workdir, needed.REPORT) as place:
        directory = place.directory
        if not directory.is_dir():
            raise ConfigError(f"no directory {directory}; start with resjax sweep")
        make_directory(directory)
        from resjax.cli.terminal import reports
        from resjax.report.report import read_sweep, write_report

        try:
            with claimed(directory):
                reports.print_report(write_report(directory, again), place)
                place.upload("report", last="report/index.html", alone=True)
        except Claimed:
            reports.print_report(read_sweep(directory), place)
            tell(place.named(f"another process is writing {directory / 'report'}"))
    return directory / "report" / "index.html"


REPORT = Command(
    summary="summarise a sweep in tables, figures and a web page",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="The report is written to DIR/report: index.html, tables, results.csv, figures.\n",
    examples=("resjax report runs/degradation --open", "resjax report gs://lab/degradation"),
)
