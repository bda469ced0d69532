"""`resjax report`: the tables, figures and page of a sweep."""

import argparse
from pathlib import Path

from resjax.cli.commands.command import Command
from resjax.cli.parsing import path
from resjax.cli.terminal.lines import tell
from resjax.config import ConfigError
from resjax.config.overrides import refuse
from resjax.runs.claims import Claimed, claimed
from resjax.runs.rundir import make_directory


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=path, metavar="DIR", help="directory of the sweep")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    refuse(rest)
    write_and_print(options.dir, again=True)
    if options.open:
        import webbrowser

        webbrowser.open((options.dir / "report" / "index.html").resolve().as_uri())
    return 0


def write_and_print(workdir: Path, again: bool) -> None:
    """Writes the report of a sweep and prints it; `again` writes it even if no run has changed."""
    if not workdir.is_dir():
        raise ConfigError(f"no directory {workdir}; start with resjax sweep")
    make_directory(workdir)
    from resjax.cli.terminal import reports
    from resjax.report.report import write_report

    try:
        with claimed(workdir):
            report = write_report(workdir, again)
    except Claimed:
        tell(f"another process writes {workdir / 'report'}")
    else:
        reports.print_report(report)


REPORT = Command(
    summary="write and print the tables, figures and page of a sweep",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="It is written to DIR/report: index.html, tables, results.csv, figures.\n",
    examples=("resjax report runs/degradation --open",),
)
