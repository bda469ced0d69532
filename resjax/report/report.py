"""The report of a sweep: reads its runs, writes tables, figures and a page into `report/`."""

import dataclasses
import functools
import hashlib
import marshal
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import resjax
from resjax.buckets.places import reading
from resjax.config import ConfigError
from resjax.config.extras import require
from resjax.config.paths import place
from resjax.report import figures, formats, layout, page, probes
from resjax.report.arms import ArmTable, Cell
from resjax.report.degradation import Verdict, headline, verdicts
from resjax.report.inside import ProbedNetwork, recorded
from resjax.report.lines import axis_of
from resjax.report.pairs import Comparison, compare
from resjax.report.replication import Replication, replications
from resjax.report.runs import Missing, Run, read_runs
from resjax.report.sorting import arm_tables
from resjax.report.tuning import Choice, Shared, choose_tuned, notes
from resjax.runs import disk, needed, rundir
from resjax.runs.planned import waiting_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

MOST_DRAWN = 8
"""Maximum number of tables with figures; a sweep over a hundred learning rates would draw for
minutes."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The part of a report about the runs on one data set.

    Attributes:
      table: the runs.
      headline: the verdicts in one sentence.
      verdicts: a verdict on each arm.
      differences: {"train_error", "test_error"}, the paired differences of the arms.
      replications: errors of the table beside published ones.
      notes: a line for each network that is tuned, and for each cell that compared the statistics
        of evaluation.
      figures: stems of the files, in the order of the page; none after the first `MOST_DRAWN`.
      probed: the networks whose runs recorded probes, and what they found.
      probes: stems of the figures of probes, by their names; none after the first `MOST_DRAWN`.
    """

    table: ArmTable
    headline: str
    verdicts: list[Verdict]
    differences: dict[str, list[Comparison]]
    replications: list[Replication]
    notes: list[str]
    figures: list[Path]
    probed: list[ProbedNetwork]
    probes: dict[str, Path]


@dataclasses.dataclass(frozen=True)
class Report:
    """A report on a sweep: its directory, a section for each table, and all runs."""

    directory: Path
    sections: list[Section]
    runs: list[Run]
    missing: list[Missing]

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts of all sections."""
        return [verdict for section in self.sections for verdict in section.verdicts]

    @property
    def table(self) -> "DataFrame":
        """A pandas table with a row for each run and the columns of `results.csv`.

        Raises:
          ConfigError: if pandas is not installed.
        """
        require("pandas", "a table of runs")
        import pandas

        return pandas.DataFrame(formats.records(self.runs, self.missing)).set_index("run")


def read_sweep(workdir: Path | str) -> Report:
    """Reads the runs of a sweep, or one run, and what they show, without writing anything.

    Args:
      workdir: the directory, or its address in a bucket, of which a copy is read.

    Raises:
      ConfigError: if no run is done, or a file of one is damaged.
    """
    with reading(place(workdir), needed.REPORT) as there:
        return _read(there.directory)


def report_of(directory: Path, runs: list[Run], missing: list[Missing]) -> Report:
    """The report of some runs, whose files would be in this directory."""
    chosen, missed, choices = choose_tuned(runs, [run for run in missing if run.config])
    sections = [
        _section(table, choices, directory / "figures", place)
        for place, table in enumerate(arm_tables(chosen, missed))
    ]
    return Report(directory, sections, runs, missing)


def _read(workdir: Path) -> Report:
    runs, missing = read_runs(workdir)
    if not runs and missing:
        raise ConfigError(
            f"no run in {workdir} is done, {len(missing)} without a result; "
            f"resjax status {workdir} shows their progress"
        )
    if not runs:
        raise rundir.no_run(workdir)
    return report_of(workdir / "report", runs, missing)


def write_report(workdir: Path, again: bool = True) -> Report:
    """Writes `workdir/report/` from the runs below `workdir`.

    The same runs give the same files, but for the time on the page of a sweep that has not ended.
    The page is written last and says which runs it shows, so without `again` nothing is written if
    it is there and shows these runs.

    Raises:
      ConfigError: as `read_sweep`.
    """
    report = read_sweep(workdir)
    directory, sections, missing = report.directory, report.sections, report.missing
    digest = _digest(workdir, report.runs, missing)
    if not again and page.is_of(directory / "index.html", digest):
        return report
    rundir.make_directory(directory / "figures")
    for name in (*FIGURES, "probe_"):
        for stale in (directory / "figures").glob(f"{name}*.*"):
            stale.unlink(missing_ok=True)
    for section in sections:
        title = section.table.title if len(sections) > 1 else None
        for stem, draw in zip(section.figures, FIGURES.values(), strict=False):  # or it has none
            layout.save(draw(section.table.arms, title=title), stem)
        for name, stem in section.probes.items():
            layout.save(probes.draw_probe(section.probed, name, title), stem)
    texts = {
        "table.md": formats.markdown_document(sections, missing),
        "table.tex": formats.latex_document(sections, workdir.resolve().name),
        "results.csv": formats.comma_separated(report.runs, missing),
        "index.html": page.render(report, workdir, digest),
    }
    for name, text in texts.items():
        disk.write_text(directory / name, text, durable=False)
    return report


FIGURES: dict[str, Callable[..., "Figure"]] = {
    "training_error": functools.partial(figures.error_curves, measure="train_error"),
    "test_error": functools.partial(figures.error_curves, measure="test_error"),
    "error_by": figures.error_by,
}
"""Figures of a table, by the names of their files; `error_by` is followed by what it shows."""


def _stem(directory: Path, name: str, place: int) -> Path:
    """The stem of the files of a figure, by the place of its table."""
    return directory / f"{name}{place + 1 if place else ''}"


def _digest(workdir: Path, runs: list[Run], missing: list[Missing]) -> str:
    """A digest of everything that a report depends on."""
    all_runs: list[Run | Missing] = [*runs, *missing]
    waiting = [run.name for run in waiting_in(workdir)]
    read = [resjax.__version__, workdir.resolve().name, waiting, *map(_values, all_runs)]
    # Version 2 of the format has the same bytes for equal values, in a tenth of the time of JSON.
    return hashlib.sha256(marshal.dumps(read, 2)).hexdigest()


def _values(run: Run | Missing) -> list[Any]:
    """Everything that is known about a run."""
    known = vars(run).values()
    return [vars(value) if dataclasses.is_dataclass(value) else value for value in known]


def _section(
    table: ArmTable, choices: dict[Shared, Choice], directory: Path, place: int
) -> Section:
    lines = [*notes(table, choices), *_depth_notes(table), *map(_statistics_note, table.cells)]
    said = verdicts(table)
    differences = {what: compare(table, what) for what in ("train_error", "test_error")}
    ends = {"error_by": f"_{axis_of(table.arms)}"}
    probed = recorded(table)
    drawn = place < MOST_DRAWN
    return Section(
        table=table,
        headline=headline(said, table, differences["test_error"]),
        verdicts=said,
        differences=differences,
        replications=replications(table),
        notes=[line for line in lines if line],
        figures=[
            _stem(directory, f"{name}{ends.get(name, '')}", place) for name in FIGURES if drawn
        ],
        probed=probed,
        probes={
            name: _stem(directory, f"probe_{name}", place)
            for name in probes.names_of(probed)
            if drawn
        },
    )


def _depth_notes(table: ArmTable) -> list[str]:
    """A line for each setting that depends on the depth."""
    return [
        f"{key} depends on the depth: "
        + ", ".join(f"{value} for {depth} layers" for depth, value in values.items())
        for key, values in table.by_depth.items()
    ]


def _statistics_note(cell: Cell) -> str | None:
    """A line with a cell's errors by BatchNorm's statistics; None if a run did not compare them."""
    compared = [run.summary.statistics for run in cell.runs if run.summary.statistics is not None]
    if len(compared) < len(cell.runs):
        return None
    kinds = [
        f"{kind} {' / '.join(_mean_percent(compared, kind, split) for split in ('train', 'test'))}"
        for kind in compared[0]
    ]
    return f"{cell.name}: train / test error % by statistics, {', '.join(kinds)}"


def _mean_percent(compared: Iterable[dict], kind: str, split: str) -> str:
    return f"{100 * statistics.fmean(one[kind][f'{split}_error'] for one in compared):.2f}"
