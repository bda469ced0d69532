"""The page of a report: a single HTML file without external resources."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resjax.config.text import clock, printable
from resjax.report import charts, probes, run_table, styles, tables, what_ran
from resjax.report.arms import label
from resjax.report.degradation import DEGRADES, DOES_NOT, TOLERANCE, UNDECIDED, Gap, joined
from resjax.report.layout import FORMATS, embedded
from resjax.report.lines import AXES, axis_of
from resjax.report.runs import WITHOUT_CONFIG
from resjax.runs.ledger import DEFINITION, known_total
from resjax.runs.planned import waiting_in
from resjax.runs.rundir import FAILED

if TYPE_CHECKING:
    from resjax.report.report import Report, Section

SIGNS = {DEGRADES: "▲", DOES_NOT: "●", UNDECIDED: "◐", None: "○"}
"""Signs beside a verdict, so that it is not shown by colour alone."""

SCRIPTS = (
    "state.js",
    "picture.js",
    "chart.js",
    "sections.js",
    "tables.js",
    "runs.js",
    "parallel.js",
)
"""Scripts of the page, in the order of their dependencies."""

FEW_AXES = 2
"""Maximum number of a sweep's axes shown in charts; more become parallel coordinates."""


MOST_VERDICTS = 6
"""Maximum number of verdicts of a table that are not folded."""

BEGINNING = 2048
"""Characters at the start of a page that contain the digest of its runs."""


def is_of(page: Path, digest: str) -> bool:
    """Tells whether a page exists and shows the runs with this digest."""
    try:
        with page.open(encoding="utf-8") as file:
            return f'content="{digest}"' in file.read(BEGINNING)
    except (OSError, ValueError):
        return False


def render(report: "Report", workdir: Path, digest: str) -> str:
    """Renders the page: tables and numbers in HTML, charts from embedded data."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_shown,
    )  # fmt: skip
    ledgers = [run.ledger for run in (*report.runs, *report.missing)]
    missing = Counter(run.state for run in report.missing)
    waiting = [run.name for run in waiting_in(workdir)]
    unfinished = missing.keys() - {FAILED, WITHOUT_CONFIG}
    columns = run_table.columns(report)
    manifest = what_ran.manifest(report.runs)
    depths = sorted({run.depth for run in report.runs})
    return environment.from_string(_asset("page.html.j2")).render(
        name=workdir.resolve().name,
        digest=digest,
        done=len(report.runs),
        missing=sorted(missing.items()),
        waiting=waiting,
        # The same runs give the same page once they have all ended.
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC" if waiting or unfinished else None,
        seconds=clock(sum(run.seconds() for run in report.runs)),
        sections=[_section(each, n, depths) for n, each in enumerate(report.sections, start=1)],
        text=(*tables.TEXT, "array"),
        columns=columns,
        runs=run_table.run_rows(report, workdir, columns),
        parallel=len(_axes(columns)) > FEW_AXES,
        bill=known_total(ledgers),
        without_bill=ledgers.count(None),
        cost_note=DEFINITION,
        training=what_ran.training(report.runs, [s.table for s in report.sections]),
        recipe=what_ran.recipe(report.runs),
        differing={key: values for key, values in manifest.items() if len(values) > 1},
        same={key: values[0] for key, values in manifest.items() if len(values) == 1},
        style=_asset("page.css"),
        papers={"light": _paper("light", styles.LIGHT), "dark": _paper("dark", styles.DARK)},
        d3=_d3(),
        scripts=[_asset(name) for name in SCRIPTS],
        data=_embedded(_data(report, columns, depths) | {"sweep": workdir.resolve().name}),
    )


def _shown(value: Any) -> Any:
    """Makes the characters of a text visible; HTML markup and other values stay unchanged."""
    return printable(value) if type(value) is str else value


def _axes(columns: Sequence[run_table.Column]) -> list[str]:
    """Keys in which the runs of a sweep differ, but for the seed, which means nothing by itself."""
    keys = [c for c in columns if c.kind == "key" and c.filter != "seed"]
    return [c.filter for c in keys if len(set(c.values) - {"-"}) > 1]


def _data(
    report: "Report", columns: Sequence[run_table.Column], depths: Sequence[int]
) -> dict[str, Any]:
    """All data that the scripts of the page use."""
    arms = [section.table.arms for section in report.sections]
    cells = sum(len(section.table.cells) for section in report.sections)
    most = charts.points_each(cells)
    return {
        "lines": styles.SVG_LINES,
        "markers": styles.SVG_MARKERS,
        "sections": [charts.charts(each, depths, most) for each in arms],
        "runs": run_table.run_data(report, depths, charts.points_each(len(report.runs))),
        "labels": {"model.shortcut": {"none": label("none")}},
        "axes": _axes(columns),
        "shared": run_table.shared(report, columns),
    }


def _d3() -> str:
    """The D3 script contained in the package mpld3, found without importing that."""
    place = Path(find_spec("mpld3").origin).parent
    return (place / "js" / "d3.v5.min.js").read_text(encoding="utf-8")


def _asset(name: str) -> str:
    return resources.files("resjax.report").joinpath("assets", name).read_text(encoding="utf-8")


def _paper(mode: str, colors: Sequence[str]) -> str:
    """CSS declarations of the colours of the paper and of the arms on it."""
    arms = (f"--arm{place}: {color};" for place, color in enumerate(colors))
    return " ".join((f"--paper: {styles.PAPER[mode]};", *arms))


def _embedded(content: Any) -> str:
    """Formats JSON for use inside a script element."""
    text = json.dumps(_all_shown(content), separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _all_shown(content: Any) -> Any:
    """The content with all texts passed through `_shown`; lists of numbers stay unchanged."""
    if isinstance(content, dict):
        return {_shown(key): _all_shown(value) for key, value in content.items()}
    if isinstance(content, list) and content and isinstance(content[0], dict | list | str):
        return [_all_shown(each) for each in content]
    return _shown(content)


def _section(section: "Section", place: int, depths: Sequence[int]) -> dict[str, Any]:
    table = section.table
    of_errors, of_differences = tables.captions(table)
    differences = tables.paired_differences(*section.differences.values())
    seeds = {run.seed for run in table.runs}
    said = joined(section.verdicts)
    scale = _scale([verdict.gap for verdict in said if verdict.gap])
    of_table = f", table {place}" if place > 1 else ""
    return {
        "id": f"table{place}",
        "title": table.title,
        "runs": len(table.runs),
        "seeds": len(seeds),
        "spread": any(len(cell.runs) > 1 for cell in table.cells),
        "headline": section.headline,
        "folded": len(said) > MOST_VERDICTS,
        "verdicts": [
            {
                "sign": SIGNS[verdict.gap.verdict if verdict.gap else None],
                "degrades": verdict.degrades,
                "arm": verdict.arm,
                "said": verdict.said,
                "numbers": _unbroken(verdict.numbers),
                "gap": _drawn_gap(verdict.gap, scale) if verdict.gap else None,
            }
            for verdict in said
        ],
        "scale": {
            "tolerance": f"{100 * TOLERANCE:g}",
            "ticks": [(scale(tick), f"{100 * tick:+g}" if tick else "0") for tick in scale.ticks],
        },
        "missing": [f"{run.name} ({run.state})" for _, run in table.missing],
        "arms": [
            {
                "name": arm.name,
                "place": arm.place,
                "hollow": hollow,
                "marker": styles.SVG_MARKERS[arm.place],
                "depths": [
                    (cell.depth, styles.SVG_LINES[depths.index(cell.depth) % len(styles.SVG_LINES)])
                    for cell in arm.cells
                ],
            }
            for arm, hollow in zip(
                table.arms, styles.hollow([arm.place for arm in table.arms]), strict=True
            )
        ],
        "errors": tables.errors(table.cells, tables.DETAILS).without_empty_columns(),
        "errors_caption": of_errors,
        "differences": differences.without_empty_columns(),
        "differences_caption": of_differences,
        "notes": section.notes,
        "references": tables.references(section.replications),
        "costs": tables.costs(table.cells),
        "ledger": _without_a_sum_of_one(tables.ledger(table)),
        "figures": [
            (
                stem.name.removesuffix(str(place)).replace("_", " ") + of_table,
                [(kind.upper(), f"figures/{quote(stem.name)}.{kind}") for kind in FORMATS],
            )
            for stem in (*section.figures, *section.probes.values())
        ],
        "swept": _swept(section),
        "probes": probes.on_page(section.probed, section.probes),
    }


def _without_a_sum_of_one(ledger: tables.TextTable) -> tables.TextTable:
    """Drops the row of all networks where there is one, which it would repeat."""
    return ledger._replace(rows=ledger.rows[:1]) if len(ledger.rows) == 2 else ledger


def _swept(section: "Section") -> dict[str, str] | None:
    """The key that was swept at one depth, with the figure of the errors by it; None without."""
    key = axis_of(section.table.arms)
    if key in AXES or not section.figures:
        return None
    return {"key": key, "picture": embedded(section.figures[-1])}


def _unbroken(text: str) -> str:
    """Replaces spaces before percent signs, so that no line starts with one."""
    return text.replace(" %", "\u00a0%")


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Positions of gaps, in percent of the width that is common to those of a section.

    Attributes:
      low, high: the least and the greatest gap, as fractions.
    """

    low: float
    high: float

    def __call__(self, gap: float) -> float:
        return round(4 + 92 * (gap - self.low) / (self.high - self.low), 1)

    @property
    def ticks(self) -> list[float]:
        """Round numbers, at most `MOST_TICKS`, of which one is zero.

        >>> _Scale(-0.02, 0.57).ticks
        [0.0, 0.2, 0.4]
        """
        least = (self.high - self.low) / (MOST_TICKS - 1)
        power = 10.0 ** math.floor(math.log10(least))
        step = next(step for n in (1, 2, 5, 10) if (step := n * power) >= least)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(n * step, 9) for n in range(first, last + 1)]


MOST_TICKS = 5


def _scale(gaps: Sequence[Gap]) -> _Scale:
    """The scale of gaps with their intervals, zero and the tolerance on either side of it."""
    ends = [end for gap in gaps for end in (gap.gap, *(gap.interval or ()))]
    return _Scale(min(-TOLERANCE, *ends, 0.0), max(TOLERANCE, *ends, 0.0))


def _drawn_gap(gap: Gap, scale: _Scale) -> dict[str, float]:
    """Positions of a gap, its interval, zero and the tolerance."""
    low, high = gap.interval or (gap.gap, gap.gap)
    ends = {"low": low, "high": high, "gap": gap.gap, "zero": 0.0, "tolerance": TOLERANCE}
    return {name: scale(end) for name, end in ends.items()}
