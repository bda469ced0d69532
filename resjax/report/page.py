"""The page of a report: a single HTML file without external resources."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resjax.config import flatten
from resjax.config.text import clock, printable
from resjax.report import charts, run_table, styles, tables
from resjax.report.arms import label
from resjax.report.degradation import DEGRADES, DOES_NOT, TOLERANCE, UNDECIDED, Verdict, joined
from resjax.report.figures import FORMATS
from resjax.report.runs import Run
from resjax.report.sorting import differing_keys
from resjax.runs.ledger import DEFINITION, known_total

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

FEW_AXES = 3
"""Maximum number of a sweep's axes shown in charts; more become parallel coordinates."""

NOT_COMPARED = ("run", "params", "multiply_adds", "seconds", "files")
"""Entries of a manifest that naturally differ from run to run."""


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
    columns = run_table.columns(report)
    manifest = _manifest(report.runs)
    depths = sorted({run.depth for run in report.runs})
    return environment.from_string(_asset("page.html.j2")).render(
        name=workdir.resolve().name,
        digest=digest,
        done=len(report.runs),
        missing=sorted(missing.items()),
        seconds=clock(sum(run.seconds() for run in report.runs)),
        sections=[_section(each, n, depths) for n, each in enumerate(report.sections, start=1)],
        text=tables.TEXT,
        columns=columns,
        runs=run_table.run_rows(report, workdir, columns),
        parallel=len(_axes(columns)) > FEW_AXES,
        bill=known_total(ledgers),
        without_bill=ledgers.count(None),
        cost_note=DEFINITION,
        recipe=_recipe(report.runs),
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
    """Keys in which the runs of a sweep differ."""
    return [c.filter for c in columns if c.kind == "key" and len(set(c.values) - {"-"}) > 1]


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
        "shared": run_table.shared(report),
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
    of_table = f", table {place}" if place > 1 else ""
    return {
        "id": f"table{place}",
        "title": table.title,
        "runs": len(table.runs),
        "seeds": len(seeds),
        "headline": section.headline,
        "verdicts": [
            {
                "sign": SIGNS[verdict.gap.verdict if verdict.gap else None],
                "degrades": verdict.degrades,
                "arm": verdict.arm,
                "said": verdict.said,
                "numbers": _unbroken(verdict.numbers),
                "gap": gap,
            }
            for verdict, gap in zip(said, _drawn_gaps(said), strict=True)
        ],
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
        "ledger": tables.ledger(table),
        "figures": [
            (
                stem.name.removesuffix(str(place)).replace("_", " ") + of_table,
                [(kind.upper(), f"figures/{quote(stem.name)}.{kind}") for kind in FORMATS],
            )
            for stem in section.figures
        ],
    }


def _unbroken(text: str) -> str:
    """Replaces spaces before percent signs, so that no line starts with one."""
    return text.replace(" %", "\u00a0%")


def _drawn_gaps(verdicts: Sequence[Verdict]) -> list[dict[str, float] | None]:
    """Positions of each gap, its interval and zero, in percent of a common width."""
    gaps = [verdict.gap for verdict in verdicts]
    ends = [(g.gap, g.gap) if g.interval is None else g.interval for g in gaps if g is not None]
    low = min((end for end, _ in ends), default=0.0)
    high = max((end for _, end in ends), default=0.0)
    low, high = min(low, -TOLERANCE), max(high, TOLERANCE)

    def at(value: float) -> float:
        return round(4 + 92 * (value - low) / (high - low), 1)

    return [
        None
        if gap is None
        else {"zero": at(0.0), "gap": at(gap.gap)}
        | dict(zip(("low", "high"), map(at, gap.interval or (gap.gap, gap.gap)), strict=True))
        for gap in gaps
    ]


# ------------------------------------------------------------------------------------- what ran


def _recipe(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Keys, with their values, that all runs share and that differ from the defaults."""
    keys = [run.keys for run in runs]
    same = keys[0].keys() - set(differing_keys(keys)) - {"model.depth", "seed"}
    return [(key, str(runs[0].config[key])) for key in sorted(same)]


def _manifest(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Entries of the manifests, each with all of its values and, if they differ, their counts."""
    counted: dict[str, Counter[str]] = {}
    for run in runs:
        kept = {key: value for key, value in run.manifest.items() if key not in NOT_COMPARED}
        for key, value in flatten(kept).items():
            counted.setdefault(key, Counter())[str(value)] += 1
    for values in counted.values():
        if without := len(runs) - values.total():
            values["not recorded"] = without
    return {
        key: [value if n == len(runs) else f"{value} ({n} of {len(runs)} runs)"
              for value, n in values.items()]
        for key, values in counted.items()
    }  # fmt: skip
