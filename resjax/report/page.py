"""The page of a report: one HTML file that needs no other."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from resjax.config import flatten
from resjax.report import styles, tables
from resjax.report.arms import as_text, differing_keys, label, protocol, value_of
from resjax.report.charts import charts
from resjax.report.degradation import DEGRADES, DOES_NOT, TOLERANCE, UNDECIDED, Verdict
from resjax.report.rounding import number
from resjax.report.runs import Missing, Run
from resjax.runs.ledger import DEFINITION, known_total
from resjax.runs.rundir import DONE, FAILED, UNFINISHED

if TYPE_CHECKING:
    from resjax.report.report import Report, Section

SIGNS = {DEGRADES: "▲", DOES_NOT: "●", UNDECIDED: "◐", None: "○"}
"""Signs beside a verdict, so that it is told by more than its colour."""

RUNS = ("run", "state", "table", "network", "depth", "seed", "train error %",
        "test error %", "time (s)", *tables.LEDGER[2:], "settings", "why")  # fmt: skip
"""Columns of the table of runs; some are left out where they say nothing."""

NOT_COMPARED = ("run", "params", "multiply_adds", "seconds", "files")
"""Entries of a manifest that differ from run to run by nature."""


BEGINNING = 2048
"""Characters at the start of a page, among which is the digest of its runs."""


def is_of(page: Path, digest: str) -> bool:
    """Tells whether a page is there and shows the runs of this digest."""
    try:
        with page.open(encoding="utf-8") as file:
            return f'content="{digest}"' in file.read(BEGINNING)
    except (OSError, ValueError):
        return False


def render(report: "Report", workdir: Path, digest: str) -> str:
    """Renders the page: tables and numbers in HTML, charts from the data that it carries."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    ledgers = [run.ledger for run in (*report.runs, *report.missing)]
    bill = known_total(ledgers)
    needed = {
        "table": len(report.sections) > 1,
        "why": any(run.reason for run in report.missing),
        "settings": bool(_settings(report)),
        "interruptions": bool(bill.interruptions),
        "lost (s)": bool(bill.interruptions),
    }
    header = [name for name in RUNS if needed.get(name, True)]
    counts = Counter({DONE: len(report.runs), FAILED: 0, UNFINISHED: 0})
    counts.update(run.state for run in report.missing)
    return environment.from_string(_asset("page.html.j2")).render(
        name=workdir.resolve().name,
        digest=digest,
        counts=counts,
        seconds=_duration(sum(run.seconds() for run in report.runs)),
        sections=[_section(section, n) for n, section in enumerate(report.sections, start=1)],
        text=tables.TEXT,
        runs_header=header,
        runs=_run_rows(report, workdir, header),
        bill=dict(zip(tables.LEDGER[2:], tables.costs(bill), strict=True)),
        without_bill=ledgers.count(None),
        cost_note=DEFINITION,
        recipe=_recipe(report.runs),
        manifest=_manifest(report.runs),
        style=_asset("page.css"),
        papers={"light": _paper("light", styles.LIGHT), "dark": _paper("dark", styles.DARK)},
        script=_asset("page.js"),
        plotly=_asset("plotly-basic.min.js"),
        data=_embedded(
            {
                "light": styles.LIGHT,
                "dark": styles.DARK,
                "lines": styles.PLOTLY_LINES,
                "markers": styles.PLOTLY_MARKERS,
                "sections": [charts(section.table.arms) for section in report.sections],
            }
        ),
    )


def _asset(name: str) -> str:
    return resources.files("resjax.report").joinpath("assets", name).read_text(encoding="utf-8")


def _paper(mode: str, colors: Sequence[str]) -> str:
    """CSS declarations of the colours of the paper and of the arms on it."""
    arms = (f"--arm{place}: {color};" for place, color in enumerate(colors))
    return " ".join((f"--paper: {styles.PAPER[mode]};", *arms))


def _embedded(content: Any) -> str:
    """Formats JSON so that it can stand inside a script element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", r"\u003c").replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def _section(section: "Section", place: int) -> dict[str, Any]:
    table = section.table
    depths = sorted({cell.depth for cell in table.cells})
    of_errors, of_differences = tables.captions(table)
    errors = tables.details(table)
    differences = tables.told(
        tables.DIFFERENCES, tables.difference_rows(*section.differences.values())
    )
    seeds = {run.seed for run in table.runs}
    drawn = _drawn_gaps(section.verdicts)
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
            for verdict, gap in zip(section.verdicts, drawn, strict=True)
        ],
        "missing": [f"{run.name} ({run.state})" for _, run in table.missing],
        "arms": [
            {
                "name": arm.name,
                "place": place % len(styles.LIGHT),
                "sign": styles.SIGNS[place % len(styles.SIGNS)],
                "depths": [cell.depth for cell in arm.cells],
            }
            for place, arm in enumerate(table.arms)
        ],
        "lines": {d: styles.SVG_LINES[n % len(styles.SVG_LINES)] for n, d in enumerate(depths)},
        "details_header": errors[0],
        "details": errors[1],
        "details_caption": of_errors,
        "differences_header": differences[0],
        "differences": differences[1],
        "differences_caption": of_differences,
        "notes": section.notes,
        "reference_header": tables.REFERENCE,
        "reference": tables.reference_rows(section.gate),
        "costs_header": tables.COSTS,
        "costs": tables.cost_rows(table.cells),
        "ledger_header": tables.LEDGER,
        "ledger": tables.ledger_rows(table),
        "figures": [f"figures/{quote(stem.name)}" for stem in section.figures],
    }


def _unbroken(text: str) -> str:
    """Replaces spaces before percent signs, so that none of these starts a line."""
    return text.replace(" %", "\u00a0%")


def _drawn_gaps(verdicts: Sequence[Verdict]) -> list[dict[str, float] | None]:
    """Places each gap, its interval's ends and zero, in percent of a width that all share."""
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


# ------------------------------------------------------------------------------ runs and what ran


def _settings(report: "Report") -> list[str]:
    """Keys in which runs differ, without those that have a column."""
    differing = differing_keys([run.keys for run in (*report.missing, *report.runs) if run.config])
    return [key for key in differing if key not in ("model.depth", "model.shortcut", "seed")]


def _run_rows(report: "Report", workdir: Path, header: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each run, failed and unfinished ones first."""
    everything: list[Run | Missing] = [*report.missing, *report.runs]
    differing = _settings(report)
    places = {as_text(s.table.protocol): str(n) for n, s in enumerate(report.sections, start=1)}
    rows = []
    for run in everything:
        done = isinstance(run, Run)
        errors = ("-", "-", "-")
        if done:
            found = (value_of(run, f"{split}_error") for split in ("train", "test"))
            seconds = f"{run.seconds(*tables.TIMED):,.1f}"
            errors = (*(number(100 * value, 2) for value in found), seconds)
        settings = [f"{k}={run.config[k]}" for k in differing if k in run.keys]
        values = {
            "run": run.name,
            "state": DONE if done else run.state,
            "why": (not done and run.reason) or "-",
            **dict.fromkeys(("table", "network", "depth", "seed"), "-"),
            **dict(zip(RUNS[6:9], errors, strict=True)),
            **dict(zip(tables.LEDGER[2:], tables.costs(run.ledger), strict=True)),
            "settings": ", ".join(settings) or "-",
        }
        if run.config:
            values |= {
                "table": places.get(as_text(protocol(run)), "-"),
                "network": label(run.config["model.shortcut"]),
                "depth": str(run.config["model.depth"]),
                "seed": str(run.config["seed"]),
            }
        own = not (workdir / run.name).is_dir()  # a run that holds its report itself
        rows.append(
            {
                "link": "../" if own else f"../{quote(run.name)}/",
                "values": [values[name] for name in header],
                "state": values["state"],
            }
        )
    return rows


def _recipe(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Keys, with their values, that all runs share and that differ from their defaults."""
    keys = [run.keys for run in runs]
    same = keys[0].keys() - set(differing_keys(keys)) - {"model.depth", "seed"}
    return [(key, str(runs[0].config[key])) for key in sorted(same)]


def _manifest(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Entries of the manifests, each with every value that it has and how often."""
    counted: dict[str, dict[str, int]] = {}
    for run in runs:
        kept = {key: value for key, value in run.manifest.items() if key not in NOT_COMPARED}
        for key, value in flatten(kept).items():
            values = counted.setdefault(key, {})
            values[str(value)] = values.get(str(value), 0) + 1
    return [
        (
            key,
            [value if n == len(runs) else f"{value} ({n} of {len(runs)} runs)"
             for value, n in values.items()],
        )
        for key, values in counted.items()
    ]  # fmt: skip


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
