"""The report of a sweep: reads its runs, writes tables, figures and a page into `report/`."""

import dataclasses
import json
from importlib import resources
from pathlib import Path

from resjax.config import ConfigError
from resjax.models.shortcuts import SHORTCUTS
from resjax.report import figures, tables
from resjax.report.stats import (
    DEGRADES,
    Cell,
    Missing,
    Run,
    cells,
    degradation,
    protocol,
    protocols,
    read_runs,
)
from resjax.training import rundir


@dataclasses.dataclass(frozen=True)
class Section:
    """The runs of one protocol.

    Attributes:
      title: what sets this protocol apart from the others in the report.
      arms: the cells of each shortcut, by depth.
      verdicts: for each shortcut, whether it degrades and the line that says so.
      statistics: a line for each cell whose runs compared the statistics of evaluation.
      figure: the training error figure, without its suffix.
    """

    title: str
    arms: list[list[Cell]]
    verdicts: list[tuple[bool, str]]
    statistics: list[str]
    figure: Path

    @property
    def cells(self) -> list[Cell]:
        return [cell for arm in self.arms for cell in arm]


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written: the directory, a section for each protocol, the runs without a result."""

    directory: Path
    sections: list[Section]
    missing: list[Missing]


def write_report(workdir: Path) -> Report:
    """Writes `workdir/report/` from the runs below `workdir`.

    The same runs give the same files.

    Raises:
      ConfigError: if no run is done.
    """
    runs, missing = read_runs(workdir)
    if not runs:
        without = f", {len(missing)} without a result" if missing else ""
        raise ConfigError(f"no finished run in {workdir}{without}; start with resjax sweep")
    directory = workdir / "report"
    rundir.make_directory(directory / "figures")
    for stale in (directory / "figures").glob("training_error*"):
        stale.unlink()
    groups = protocols(runs)
    sections = []
    for number, (group, title) in enumerate(zip(groups, _titles(groups), strict=True), start=1):
        name = "training_error" if number == 1 else f"training_error{number}"
        failed = [run for run in missing if run.state == rundir.FAILED]
        section = _section(group, failed, title, directory / "figures" / name)
        figure = figures.training_error(section.arms, title if len(groups) > 1 else None)
        figures.save(figure, section.figure)
        sections.append(section)
    texts = {
        "table.md": "\n".join(f"## {s.title}\n\n{tables.markdown(s.cells)}" for s in sections),
        "table.tex": "\n".join(f"% {s.title}\n{tables.latex(s.cells)}" for s in sections),
        "results.csv": tables.comma_separated(runs),
        "index.html": _page(workdir, len(runs), missing, sections),
    }
    for name, text in texts.items():
        (directory / name).write_text(text, encoding="utf-8")
    return Report(directory, sections, missing)


def _section(runs: list[Run], failed: list[Missing], title: str, figure: Path) -> Section:
    """The section of a protocol, given its runs and the failed runs of all protocols."""
    table = cells(runs, SHORTCUTS)
    kinds = dict.fromkeys(cell.shortcut for cell in table)
    arms = [[cell for cell in table if cell.shortcut == kind] for kind in kinds]
    verdicts = []
    for kind, arm in zip(kinds, arms, strict=True):
        lost = [
            run.name
            for run in failed
            if run.config["model.shortcut"] == kind
            and protocol(run.config) == protocol(runs[0].config)
        ]
        gap = degradation(arm)
        degrades = gap is not None and gap.verdict == DEGRADES and not lost
        verdicts.append((degrades, tables.verdict(kind, gap, lost)))
    statistics = [line for cell in table if (line := tables.by_statistics(cell))]
    return Section(title, arms, verdicts, statistics, figure)


def _titles(groups: list[list[Run]]) -> list[str]:
    """For each protocol its data set, and the keys in which it differs from the others."""
    protocols = [json.loads(protocol(group[0].config)) for group in groups]
    keys = sorted({key for keys in protocols for key in keys})
    differing = [key for key in keys if len({str(keys.get(key)) for keys in protocols}) > 1]
    titles = []
    for group in groups:
        config = group[0].config
        settings = [f"{key}={config.get(key)}" for key in differing if key != "data.name"]
        titles.append(", ".join([str(config["data.name"]), *settings]))
    return titles


def _page(workdir: Path, runs: int, missing: list[Missing], sections: list[Section]) -> str:
    import jinja2

    source = resources.files("resjax.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source).render(
        title=f"Degradation with depth: {workdir.resolve().name}",
        runs=runs,
        missing=missing,
        header=tables.HEADER,
        sections=[
            {
                "title": section.title,
                "verdicts": section.verdicts,
                "statistics": section.statistics,
                "rows": tables.rows(section.cells),
                "svg": _inline(section.figure.with_suffix(".svg")),
            }
            for section in sections
        ],
    )


def _inline(path: Path) -> str:
    """An SVG file as an element, without the XML declaration that HTML does not allow."""
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg") :]
