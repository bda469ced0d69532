"""The tables of a report, as text."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from resjax.report import rounding
from resjax.report.arms import SELECTIONS, ArmTable, Cell
from resjax.report.best import best_cells
from resjax.report.pairs import Comparison
from resjax.report.reference.published import Published
from resjax.report.replication import Replication
from resjax.report.runs import Missing, Run
from resjax.runs.ledger import Ledger, known_total

SCREEN = ("network", "depth", "seeds", "train error %", "train loss", "test error %", "parameters",
          "train+eval (s)")  # fmt: skip
"""Columns of the table of errors on the screen."""

TIMED = ("train", "eval")
"""Seconds that are compared between networks; compile is in the tables of cost."""

TEXT = ("network", "pair", "source", "verdict")
"""Columns of words, which are aligned to the left."""

DETAILS = (
    "network", "depth", "seeds", "train error %", "train interval", "train median",
    "test error %", "test interval", "test median", "train loss",
)  # fmt: skip
"""Columns of the table of errors on the page and in Markdown; an interval is of the mean, in
percent."""

PAPER = ("network", "depth", "seeds", "train error %", "train interval", "test error %",
         "test interval")  # fmt: skip
"""Columns of the table of errors in LaTeX."""

DIFFERENCES = ("depth", "pair", "seeds", "train difference", "train interval", "train p (Holm)",
               "test difference", "test interval", "test p (Holm)")  # fmt: skip
"""Columns of the paired differences, in points of a percent."""

COSTS = ("network", "depth", "runs", "parameters", "multiply-adds", "compile (s)", "train (s)",
         "eval (s)", "in all (s)", "in all, all runs (s)")  # fmt: skip

LEDGER = ("network", "runs", "interruptions", "device seconds", "compile (s)", "lost (s)")
"""Columns of the cost of a network's runs, including those without a result."""

REFERENCE = ("network", "source", "published %", "ours %", "difference", "z", "verdict")


class TextTable(NamedTuple):
    """A table: the headings of its columns, and its rows, with a dash where there is nothing."""

    header: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def without_empty_columns(self) -> "TextTable":
        """Drops the columns that are dashes in all rows, such as the intervals of one seed."""
        kept = [
            n
            for n in range(len(self.header))
            if not self.rows or any(row[n] != "-" for row in self.rows)
        ]
        rows = [tuple(row[n] for n in kept) for row in self.rows]
        return TextTable(tuple(self.header[n] for n in kept), rows)


def errors(cells: Iterable[Cell], columns: tuple[str, ...]) -> TextTable:
    """A row for each cell: mean ± standard deviation over seeds, rounded to the latter."""
    texts = map(_error_texts, cells)
    return TextTable(columns, [tuple(text[name] for name in columns) for text in texts])


def _error_texts(cell: Cell) -> dict[str, str]:
    """The texts of a cell in all columns of the tables of errors."""
    row = {
        "network": cell.arm,
        "depth": str(cell.depth),
        "seeds": str(len(cell.runs)),
        "train loss": _sample_texts(cell, "train_loss", 1, rounding.DECIMALS_OF_A_LOSS)[0],
        "parameters": f"{cell.runs[0].summary.params:,}",
        "train+eval (s)": f"{cell.seconds(*TIMED):.1f}",
    }
    for split in ("train", "test"):
        texts = _sample_texts(cell, f"{split}_error", 100, rounding.DECIMALS_OF_A_PERCENT)
        for what, text in zip(("error %", "interval", "median"), texts, strict=True):
            row[f"{split} {what}"] = text
    return row


def _sample_texts(cell: Cell, measure: str, unit: float, otherwise: int) -> tuple[str, str, str]:
    """Mean with deviation, interval and median of a measure."""
    sample = cell.sample(measure)
    if sample is None:
        return "-", "-", "-"
    deviation = None if sample.deviation is None else unit * sample.deviation
    places = rounding.decimals(deviation, otherwise)
    ends = sample.interval and tuple(unit * end for end in sample.interval)
    return (
        rounding.with_deviation(unit * sample.mean, deviation, otherwise),
        rounding.interval(ends, otherwise),
        rounding.number(unit * sample.median, places) if sample.n > 1 else "-",
    )


def paired_differences(train: Sequence[Comparison], test: Sequence[Comparison]) -> TextTable:
    """A row for each pair of arms at a depth, given its two comparisons."""
    rows = [
        (
            str(pair.depth),
            f"{pair.first} - {pair.second}",
            str(pair.difference.n),
            *train_texts,
            *test_texts,
        )
        for pair, train_texts, test_texts in zip(
            train, _differences(train), _differences(test), strict=True
        )
    ]
    return TextTable(DIFFERENCES, rows)


def _differences(comparisons: Sequence[Comparison]) -> list[tuple[str, str, str]]:
    """Mean, interval and p of each comparison, all with the decimals of the narrowest interval."""
    samples = [comparison.difference for comparison in comparisons]
    ends = [_percent(found.interval) for found in samples]
    halves = [(high - low) / 2 for low, high in filter(None, ends)]
    places = max(map(rounding.decimals, halves), default=rounding.DECIMALS_OF_A_PERCENT)
    return [
        (
            rounding.number(100 * found.mean, places, sign=True),
            rounding.span(interval, places, sign=True),
            rounding.probability(comparison.p),
        )
        for found, interval, comparison in zip(samples, ends, comparisons, strict=True)
    ]


def _percent(ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return ends and (100 * ends[0], 100 * ends[1])


def costs(cells: Iterable[Cell]) -> TextTable:
    """A row for each cell: its size, the mean seconds of a run, and those of all its runs."""
    rows = [
        (
            cell.arm,
            str(cell.depth),
            str(len(cell.runs)),
            f"{cell.runs[0].summary.params:,}",
            f"{cell.runs[0].summary.multiply_adds:,}",
            *(f"{cell.seconds(what):,.1f}" for what in ("compile", "train", "eval")),
            f"{cell.seconds():,.1f}",
            f"{len(cell.runs) * cell.seconds():,.1f}",
        )
        for cell in cells
    ]
    return TextTable(COSTS, rows)


def ledger(table: ArmTable) -> TextTable:
    """A row for each arm, over all depths and seeds, and one for all of them."""
    runs: dict[str, list[Run | Missing]] = {}
    for arm in table.arms:
        runs[arm.name] = [run for cell in arm.cells for run in cell.runs]
    for name, run in table.missing:
        runs.setdefault(name, []).append(run)
    ledgers = {name: [run.ledger for run in own] for name, own in runs.items()}
    every = ("all", [ledger for own in ledgers.values() for ledger in own])
    rows = [
        (name, _known(own), *ledger_texts(known_total(own) if any(own) else None))
        for name, own in (*ledgers.items(), every)
    ]
    return TextTable(LEDGER, rows)


def _known(ledgers: list[Ledger | None]) -> str:
    """The number of runs, and of those whose cost is unknown."""
    unknown = ledgers.count(None)
    return str(len(ledgers)) + (f", {unknown} not known" if unknown else "")


def ledger_texts(ledger: Ledger | None) -> tuple[str, ...]:
    """The last columns of `LEDGER`; a dash for what is unknown."""
    if ledger is None:
        return ("-",) * 4
    seconds = (ledger.device_seconds, ledger.compile_seconds, ledger.lost_seconds)
    return (str(ledger.interruptions), *(f"{value:,.1f}" for value in seconds))


def references(replications: Iterable[Replication]) -> TextTable:
    """A row for each published figure; where recipes differ, the verdict says how."""
    rows = [
        (
            f"{row.cell.name}, {row.published.measure.replace('_', ' ')}",
            f"{row.published.source}, {row.published.where}",
            published_error(row.published),
            f"{100 * row.ours:.2f} ({_runs(row.published.statistic, len(row.cell.runs))})",
            f"{100 * row.difference:+.2f}",
            rounding.number(row.z, 2, sign=True),
            row.verdict
            or (f"no verdict, recipes differ: {row.differs}" if row.differs else _NO_SPREAD),
        )
        for row in replications
    ]
    return TextTable(REFERENCE, rows)


_NO_SPREAD = "no verdict, the spread over runs is not known; run more seeds"


def published_error(figure: Published) -> str:
    """Text such as "6.61 ± 0.16 (mean of 5)", in percent."""
    value = f"{100 * figure.error:.2f}"
    if figure.deviation is not None:
        value += f" ± {100 * figure.deviation:.2f}"
    return f"{value} ({_runs(figure.statistic, figure.runs)})"


def _runs(statistic: str, number: int) -> str:
    return "1 run" if number == 1 else f"{statistic} of {number}"


def bold_cells(table: ArmTable) -> set[tuple[int, str]]:
    """The cells of the best errors in `errors`, as (number of the row, name of the column)."""
    best = {measure: best_cells(table, measure) for measure in ("train_error", "test_error")}
    return {
        (number, f"{measure.replace('_', ' ')} %")
        for measure, cells in best.items()
        for number, cell in enumerate(table.cells)
        if (cell.arm, cell.depth) in cells
    }


def bold_caption(table: ArmTable) -> str:
    """The part of a caption that explains what is bold; empty if there is nothing to compare."""
    if len(table.arms) == 1:
        return ""
    if {len(cell.runs) for cell in table.cells} == {1}:
        return "In bold: the lowest error of each depth."
    return (
        "In bold: the lowest error of each depth, and those that are within a point of it (by the "
        "95 % interval of the difference)."
    )


def captions(table: ArmTable) -> tuple[str, str]:
    """Captions of a table's errors and of its differences."""
    seeds = {len(cell.runs) for cell in table.cells}
    of = SELECTIONS.get(table.selection, table.selection)
    if seeds == {1}:
        return (
            f"Errors of the {of}; one seed, so no intervals.",
            "First less second, in points of error; one seed, so no intervals.",
        )
    return (
        f"Errors of the {of}: mean ± standard deviation over seeds, and 95 % interval of the mean.",
        "First less second, in points of error, paired by seed, with 95 % intervals; p of the "
        "paired t test, corrected over all pairs and depths (Holm).",
    )
