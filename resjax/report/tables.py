"""Tables of a sweep: depth by shortcut, for the screen, Markdown, LaTeX and CSV."""

import csv
import io
import statistics
from collections.abc import Iterable

from resjax.config import flatten
from resjax.report.stats import Cell, Gap, Run

HEADER = (
    "shortcut",
    "depth",
    "seeds",
    "train error %",
    "train loss",
    "test error %",
    "parameters",
    "time (s)",
)


def label(shortcut: str) -> str:
    """What a shortcut is called in tables and figures: the net without one is the plain net."""
    return {"none": "plain"}.get(shortcut, shortcut)


def rows(cells: Iterable[Cell]) -> list[tuple[str, ...]]:
    """A row for each cell, in the order of `HEADER`: mean and standard deviation over seeds."""
    return [
        (
            label(cell.shortcut),
            str(cell.depth),
            str(len(cell.runs)),
            _mean_and_spread(cell, "train_error", 100, 2),
            _mean_and_spread(cell, "train_loss", 1, 4),
            _mean_and_spread(cell, "test_error", 100, 2),
            f"{cell.runs[0].summary.params:,}",
            f"{cell.seconds():.1f}",
        )
        for cell in cells
    ]


def _mean_and_spread(cell: Cell, key: str, unit: float, digits: int) -> str:
    mean, spread = f"{unit * cell.mean(key):.{digits}f}", cell.spread(key)
    return mean if spread is None else f"{mean} ± {unit * spread:.{digits}f}"


def verdict(shortcut: str, gap: Gap | None, failed: Iterable[str] = ()) -> str:
    """One line: whether this shortcut's nets degrade with depth, and the numbers it rests on.

    There is none if runs of this shortcut `failed`, since those that did not are a selection.
    """
    name = label(shortcut)
    if failed := list(failed):
        return f"{name}: no verdict, {', '.join(failed)} failed"
    if gap is None:
        return f"{name}: no verdict, two depths with a common seed are needed"
    if gap.interval is None:
        uncertainty = "one seed"
    else:
        low, high = (100 * end for end in gap.interval)
        uncertainty = f"{len(gap.seeds)} seeds, 95 % interval {low:+.2f} to {high:+.2f}"
    deep = f"{gap.deepest} layers {100 * gap.deepest_error:.2f} %"
    best = f"{gap.best} layers {100 * gap.best_error:.2f} %"
    points = f"{100 * gap.gap:+.2f} points"
    return f"{name}: {gap.verdict}, training error {points} ({deep}, {best}; {uncertainty})"


def by_statistics(cell: Cell) -> str | None:
    """One line: the errors by what evaluation normalised by; None if a run did not compare them."""
    compared = [run.summary.statistics for run in cell.runs]
    if None in compared:
        return None
    kinds = [
        f"{kind} {' / '.join(_mean_percent(compared, kind, split) for split in ('train', 'test'))}"
        for kind in compared[0]
    ]
    name = f"{label(cell.shortcut)} {cell.depth}"
    return f"{name}: train / test error % by statistics, {', '.join(kinds)}"


def _mean_percent(compared: list[dict], kind: str, split: str) -> str:
    return f"{100 * statistics.fmean(one[kind][f'{split}_error'] for one in compared):.2f}"


def markdown(cells: Iterable[Cell]) -> str:
    """A GitHub table."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows(cells)]
    return "\n".join(lines) + "\n"


def latex(cells: Iterable[Cell]) -> str:
    """A `tabular` that needs the package booktabs."""

    def escape(text: str) -> str:
        return (
            text.replace("_", r"\_").replace("%", r"\%").replace("±", r"$\pm$").replace(",", "{,}")
        )

    body = [" & ".join(map(escape, row)) + r" \\" for row in rows(cells)]
    head = " & ".join(map(escape, HEADER)) + r" \\"
    columns = "l" + "r" * (len(HEADER) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def comma_separated(runs: Iterable[Run]) -> str:
    """A line for each run: every key of its config, then of its result, errors as fractions."""
    records = []
    for run in runs:
        result = flatten({k: v for k, v in vars(run.summary).items() if v is not None})
        records.append({"run": run.name, **run.config, **result})
    fields = list(dict.fromkeys(key for record in records for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()
