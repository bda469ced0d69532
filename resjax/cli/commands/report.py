"""`resjax report`: the tables, figures and page of a sweep."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from resjax.buckets.places import Copy, Here, reading
from resjax.cli.commands.command import Command
from resjax.cli.parsing import path_or_address
from resjax.cli.terminal.lines import say, shortened, tell
from resjax.cli.terminal.tables import literal, print_table, text_table
from resjax.config.addresses import Address
from resjax.config.text import by_reason, several
from resjax.runs import needed
from resjax.runs.claims import Claimed, claimed
from resjax.runs.planned import waiting_in
from resjax.runs.rundir import make_directory, no_run

if TYPE_CHECKING:
    from resjax.report.report import Report
    from resjax.report.runs import Missing


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dir", type=path_or_address, metavar="DIR",
        help="directory of a sweep, or gs://, s3://, az://",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    page = write_and_print(_sweep_of(options.dir), again=True)
    if options.open:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            tell(f"no browser to open it with; open {page}")
    return 0


def _sweep_of(place: Path | Address) -> Path | Address:
    """The sweep whose page is named, or the place itself."""
    is_page = (place.parent.name, place.name) == ("report", "index.html")
    return place.parent.parent if is_page else place


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
            raise no_run(directory)
        make_directory(directory)
        from resjax.report.report import read_sweep, write_report

        try:
            with claimed(directory):
                report = write_report(directory, again)
                _print(report, place)
                place.upload("report", last="report/index.html", alone=True)
                _print_files(report, place)
        except Claimed:
            report = read_sweep(directory)
            _print(report, place)
            _print_files(report, place)
            tell(place.named(f"another process is writing {directory / 'report'}"))
    return directory / "report" / "index.html"


def _print(report: "Report", place: Here | Copy) -> None:
    """Prints the tables, the verdicts and what is not in them, to stdout."""
    from resjax.report.degradation import joined
    from resjax.report.tables import SCREEN, errors

    for section in report.sections:
        title = section.table.title if len(report.sections) > 1 else None
        table = text_table((name.replace(" ", "\n", 1) for name in SCREEN), words=("network",))
        table.title = title and literal(title)
        arms = section.table.arms
        apart = any(len(arm.cells) > 1 for arm in arms)
        for number, arm in enumerate(arms):
            if apart and number:
                table.add_row()
            for row in errors(arm.cells, SCREEN).rows:
                table.add_row(*(literal(value.replace(" ± ", "±")) for value in row))
        print_table(table)
        print()
        if len(section.table.depths) == 1:
            say(section.headline)
        for verdict in joined(section.verdicts):
            style = "bold" if verdict.degrades else None
            say(verdict.line, style)
        for line in section.notes:
            say(line)
        print()
    for runs, why in by_reason((run.name, _why(run)) for run in report.missing):
        say(place.named(f"not in the table: {runs} ({why})"))
    if waiting := waiting_in(place.directory):
        say(f"not in the table: {several(len(waiting), 'planned run')} (waiting)")


def _print_files(report: "Report", place: Here | Copy) -> None:
    """Prints where the figures and the page are, to stdout."""
    for section in report.sections:
        for figure in (*section.figures[:1], *section.probes.values()):
            say(place.named(f"figure: {figure.with_suffix('.png')}"))
    page = report.directory / "index.html"
    say(place.named(f"report: {page}"))
    if isinstance(place, Copy):
        if link := (place.address / "report" / "index.html").link:
            say(f"in a browser: {link}")
        say(f"copy: {page}")


def _why(run: "Missing") -> str:
    """The state of a run without a result, and the first line of the reason if there is one."""
    return ": ".join(filter(None, (run.state, shortened(run.reason.partition("\n")[0]))))


REPORT = Command(
    summary="summarise a sweep in tables, figures and a web page",
    usage="DIR [options]",
    run=_run,
    arguments=_arguments,
    notes="The report is written to DIR/report: index.html, tables, results.csv, figures.\n",
    examples=("resjax report runs/degradation --open", "resjax report gs://lab/degradation"),
)
