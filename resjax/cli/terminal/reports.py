"""Output about the report of a sweep, and about probes."""

import numpy as np

from resjax.buckets.places import Copy, Here
from resjax.cli.terminal.lines import say
from resjax.cli.terminal.tables import literal, print_table, text_table
from resjax.config.text import several
from resjax.probes.table import PROBES
from resjax.report.degradation import joined
from resjax.report.probes import arrays_by_block, surface_in_words
from resjax.report.report import Report
from resjax.report.tables import SCREEN, errors
from resjax.runs.planned import waiting_in
from resjax.runs.probing import Probed


def print_report(report: Report, place: Here | Copy) -> None:
    """Prints the tables, the verdicts and the paths of the files, to stdout."""
    for section in report.sections:
        title = section.table.title if len(report.sections) > 1 else None
        table = text_table((name.replace(" ", "\n", 1) for name in SCREEN), words=("shortcut",))
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
        for verdict in joined(section.verdicts):
            style = "bold" if verdict.degrades else None
            say(verdict.line, style)
        if not section.verdicts:
            say(section.headline)
        for line in section.notes:
            say(line)
        print()
    for run in report.missing:
        say(f"not in the table: {run.name} ({run.state})")
    if waiting := waiting_in(place.directory):
        say(f"not in the table: {several(len(waiting), 'planned run')} (waiting)")
    for section in report.sections:
        for figure in section.figures[:1]:
            say(place.named(f"figure: {figure.with_suffix('.png')}"))
    page = report.directory / "index.html"
    say(place.named(f"report: {page}"))
    if isinstance(place, Copy):
        if link := (place.address / "report" / "index.html").link:
            say(f"in a browser: {link}")
        say(f"copy: {page}")


def print_probed(probed: Probed, names: list[str], directory: str) -> None:
    """Prints every array at the first, middle and last block, and the directory, to stdout.

    What is not by block is said in a line, and so is what there is none of among the `names` that
    were asked for.
    """
    headings = ("probe", "array", "first", "middle", "last")
    table = text_table(headings, words=("probe", "array"), gap=2)
    several = False
    for probe in probed.found:
        for name, array in arrays_by_block(probed, probe).items():
            values = (array[0], array[len(array) // 2], array[-1])
            table.add_row(probe, name, *map(_few, values))
            several = several or array[0].size > 1
    say(
        f"{probed.run} at step {probed.step}: {sum(probed.stages)} blocks, by the first "
        f"{probed.examples} examples",
    )
    if table.row_count:
        print_table(table)
    if several:
        say("several numbers in a cell are those of the layers of the block, in order")
    for probe in probed.found:
        if not PROBES[probe].by_block:
            say(f"{probe}: {surface_in_words(probed, probe)}")
        if quantity := PROBES[probe].quantity:
            say(f"{probe}: {quantity}")
    for name in names:
        if name not in probed.found:
            say(f"{name}: the network has none")
    say(f"arrays and figures: {directory}")


def _few(values: np.ndarray) -> str:
    """Formats a number, or those of the layers of a block; NaN, where undefined, becomes a dash."""
    return " ".join("-" if np.isnan(value) else f"{value:.3g}" for value in np.ravel(values))
