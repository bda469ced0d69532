"""The report of a sweep: reads its runs, writes tables, figures and a page into `report/`."""

import dataclasses
import json
from importlib import resources
from pathlib import Path

from resjax.config import ConfigError
from resjax.models.shortcuts import SHORTCUTS
from resjax.report import figures, tables
from resjax.report.stats import Cell, Run, cells, degradation, protocols, read_runs


@dataclasses.dataclass(frozen=True)
class Section:
    """The runs of one protocol.

    Attributes:
      title: what sets this protocol apart from the others in the report.
      arms: the cells of each shortcut, by depth.
      verdicts: for each shortcut, whether it degrades and the line that says so.
      figure: the training error figure, without its suffix.
    """

    title: str
    arms: list[list[Cell]]
    verdicts: list[tuple[bool, str]]
    figure: Path

    @property
    def cells(self) -> list[Cell]:
        return [cell for arm in self.arms for cell in arm]


@dataclasses.dataclass(frozen=True)
class Report:
    """What was written: the directory, a section for each protocol, the runs that are not done."""

    directory: Path
    sections: list[Section]
    others: dict[str, str]


def write_report(workdir: Path) -> Report:
    """Writes `workdir/report/` from the runs below `workdir`.

    The same runs give the same files.

    Raises:
      ConfigError: if no run is done.
    """
    runs, others = read_runs(workdir)
    if not runs:
        unfinished = f", {len(others)} not done" if others else ""
        raise ConfigError(f"no finished run in {workdir}{unfinished}; start with resjax sweep")
    directory = workdir / "report"
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    groups = protocols(runs)
    sections = [
        _section(group, title, directory / "figures" / f"training_error{number}")
        for group, title, number in zip(
            groups, _titles(groups), ["", *map(str, range(2, len(groups) + 1))], strict=True
        )
    ]
    for section in sections:
        figures.save(figures.training_error(section.arms), section.figure)
    texts = {
        "table.md": "\n".join(_with_title(section, len(groups)) for section in sections),
        "table.tex": "\n".join(tables.latex(section.cells) for section in sections),
        "results.csv": tables.comma_separated(runs),
        "index.html": _page(workdir, runs, others, sections),
    }
    for name, text in texts.items():
        (directory / name).write_text(text)
    return Report(directory, sections, others)


def _section(runs: list[Run], title: str, figure: Path) -> Section:
    table = cells(runs, SHORTCUTS)
    arms = [[c for c in table if c.shortcut == kind] for kind in SHORTCUTS]
    arms = [arm for arm in arms if arm]
    gaps = [degradation(arm) for arm in arms]
    verdicts = [
        (gap is not None and gap.degrades, tables.verdict(arm[0].shortcut, gap))
        for arm, gap in zip(arms, gaps, strict=True)
    ]
    return Section(title, arms, verdicts, figure)


def _titles(groups: list[list[Run]]) -> list[str]:
    """For each protocol its data set, and the keys in which it differs from the others."""
    protocols = [json.loads(group[0].protocol) for group in groups]
    keys = sorted({key for protocol in protocols for key in protocol})
    differing = [key for key in keys if len({str(protocol.get(key)) for protocol in protocols}) > 1]
    return [
        ", ".join(
            [group[0].config["data.name"], *(f"{key}={group[0].config[key]}" for key in differing)]
        )
        for group in groups
    ]


def _with_title(section: Section, sections: int) -> str:
    title = f"## {section.title}\n\n" if sections > 1 else ""
    return title + tables.markdown(section.cells)


def _page(workdir: Path, runs: list[Run], others: dict[str, str], sections: list[Section]) -> str:
    import jinja2

    source = resources.files("resjax.report").joinpath("page.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        source
    )
    return template.render(
        title=f"Degradation with depth: {workdir.resolve().name}",
        runs=len(runs),
        others=others,
        header=tables.HEADER,
        sections=[
            {
                "title": section.title,
                "verdicts": section.verdicts,
                "rows": tables.rows(section.cells),
                "svg": _inline(section.figure.with_suffix(".svg")),
            }
            for section in sections
        ],
    )


def _inline(path: Path) -> str:
    """An SVG file as an element, without the XML declaration that HTML does not allow."""
    text = path.read_text()
    return text[text.index("<svg") :]
