"""Tables in Markdown, LaTeX and CSV."""

import csv
import dataclasses
import html
import io
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from resjax.config import flatten
from resjax.config.naming import differing_keys
from resjax.config.text import printable
from resjax.report import tables
from resjax.report.degradation import joined
from resjax.report.runs import Missing, Run
from resjax.runs.ledger import DEFINITION
from resjax.runs.rundir import DONE

if TYPE_CHECKING:
    from resjax.report.report import Section


def markdown_document(sections: "Iterable[Section]", missing: Iterable[Missing]) -> str:
    """Formats every section: verdicts, errors, paired differences, published figures and cost."""
    parts = []
    for section in sections:
        of_errors, of_differences = tables.captions(section.table)
        parts += [
            f"## {markdown_text(section.table.title)}\n",
            *([f"{markdown_text(section.headline)}\n"] if len(section.table.depths) == 1 else []),
            *_listed([verdict.line for verdict in joined(section.verdicts)]),
            f"{of_errors}\n",
            markdown(*tables.errors(section.table.cells, tables.DETAILS).without_empty_columns()),
        ]
        differences = tables.paired_differences(*section.differences.values())
        if differences.rows:
            parts += [
                f"### Paired differences\n\n{of_differences}\n",
                markdown(*differences.without_empty_columns()),
            ]
        if section.replications:
            parts.append(markdown(*tables.references(section.replications)))
        parts += [f"### Cost\n\n{DEFINITION}\n", markdown(*tables.ledger(section.table))]
    if lost := [f"- {markdown_text(f'{run.name} ({run.state})')}\n" for run in missing]:
        parts += ["Without a result:\n", "".join(lost)]
    return "\n".join(parts)


def _listed(lines: Sequence[str]) -> list[str]:
    """A list in Markdown, if there are lines."""
    return ["".join(f"- {markdown_text(line)}\n" for line in lines)] if lines else []


def latex_document(sections: "Iterable[Section]", name: str) -> str:
    """Formats errors and paired differences of every section as tables, verdicts as comments.

    Labels are `tab:NAME-errors`, `tab:NAME-differences`, and with a number from the second section
    on; `name` is that of the sweep.
    """
    parts = ["% needs \\usepackage{booktabs}\n"]
    for number, section in enumerate(sections, start=1):
        table, slug = section.table, f"{_slug(name)}-{{}}{number if number > 1 else ''}"
        of_errors, of_differences = tables.captions(table)
        parts += [f"% {printable(verdict.line)}" for verdict in joined(section.verdicts)]
        parts.append(
            _floating(
                f"{of_errors} {tables.bold_caption(table)} Data: {table.title}.",
                slug.format("errors"),
                latex(
                    *tables.errors(table.cells, tables.PAPER).without_empty_columns(),
                    tables.bold_cells(table),
                ),
            )
        )
        differences = tables.paired_differences(*section.differences.values())
        if differences.rows:
            parts.append(
                _floating(
                    f"{of_differences} Data: {table.title}.",
                    slug.format("differences"),
                    latex(*differences.without_empty_columns()),
                )
            )
    return "\n".join(parts)


def _floating(caption: str, label: str, tabular: str) -> str:
    """A `table*` that floats over all columns of a page, with its caption above."""
    caption = " ".join(caption.split())
    lines = [
        r"\begin{table*}", r"\centering\small", rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{tab:{label}}}", tabular + r"\end{table*}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _slug(name: str) -> str:
    """A name as part of a label, which has letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "sweep"


def markdown(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """Formats a table as GitHub's Markdown does."""

    def line(values: Iterable[str]) -> str:
        return "| " + " | ".join(map(markdown_text, values)) + " |"

    rule = "|" + "".join("---|" if left else "---:|" for left in _left(header))
    return "\n".join([line(header), rule, *map(line, body)]) + "\n"


def _left(header: Sequence[str]) -> list[bool]:
    """Marks the columns that are aligned to the left: the first one, and those of text."""
    return [not place or name in tables.TEXT for place, name in enumerate(header)]


def markdown_text(text: str) -> str:
    """Escapes a text so that Markdown finds no HTML, emphasis, formula, link or column in it."""
    escaped = html.escape(printable(text), quote=False)
    return "".join(f"\\{sign}" if sign in r"\`*_[]|~#$" else sign for sign in escaped)


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "<": r"$<$", ">": r"$>$", "|": r"$|$", "`": r"\textasciigrave{}",
    # An option of the command before it, such as the end of a row, begins with one of these.
    "[": "{[}", "*": "{*}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
}  # fmt: skip


def latex(
    header: Sequence[str],
    body: Iterable[Sequence[str]],
    bold: Collection[tuple[int, str]] = (),
) -> str:
    """Formats a table as a `tabular` that needs the package booktabs.

    What the first column repeats is left out, and rows of different ones are set apart.

    Args:
      header: names of the columns.
      body: rows of text.
      bold: the cells in bold, (number of the row, name of the column).
    """

    def line(values: Iterable[str]) -> str:
        return " & ".join(values) + r" \\"

    def cell(row: int, column: str, value: str) -> str:
        text = latex_text(value)
        return rf"\textbf{{{text}}}" if (row, column) in bold else text

    columns = "".join("l" if left else "r" for left in _left(header))
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", line(map(latex_text, header))]
    lines.append(r"\midrule")
    rows = list(body)
    apart = len({row[0] for row in rows}) < len(rows)
    for number, row in enumerate(rows):
        repeated = number > 0 and row[0] == rows[number - 1][0]
        if apart and number and not repeated:
            lines.append(r"\addlinespace")
        shown = ("", *row[1:]) if repeated else row
        lines.append(line(cell(number, *pair) for pair in zip(header, shown, strict=True)))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def latex_text(text: str) -> str:
    """Escapes a text for LaTeX; a character that is not ASCII becomes a question mark.

    The signs of these tables, such as ±, are kept.
    """
    kept = (_LATEX.get(sign) or (sign if sign.isascii() else "?") for sign in printable(text))
    return _MINUS.sub("$-$", "".join(kept)).replace("--", "-{}-")


_MINUS = re.compile(r"(?<!\S)-(?=\s|\d|inf\b)")
"""Pattern of a hyphen that is a minus sign: that of a number, or between two networks."""


def records(runs: Iterable[Run], missing: Iterable[Missing] = ()) -> list[dict[str, Any]]:
    """Collects for each run its name, state, result, cost, and every key of its config.

    The keys in which runs differ come before the result. Errors are fractions; `selection` says
    which evaluation is the run's answer. Runs without a result have none, and `why` they failed;
    `resjax.runs.ledger` says what counts as cost.
    """
    every: list[Run | Missing] = [*runs, *missing]
    known = [run.keys for run in every if run.config]
    failed = any(run.reason for run in every if isinstance(run, Missing))
    varied = dict.fromkeys(["model.shortcut", "model.depth", "seed", *differing_keys(known)])
    return [
        {"run": run.name}
        | {"state": DONE if isinstance(run, Run) else run.state}
        | ({"why": getattr(run, "reason", "")} if failed else {})
        | {key: run.config[key] for key in varied if key in run.config}
        | _result(run)
        | ({} if run.ledger is None else dataclasses.asdict(run.ledger))
        | run.config
        for run in every
    ]


def _result(run: Run | Missing) -> dict[str, Any]:
    if isinstance(run, Missing):
        return {}
    return flatten({k: v for k, v in vars(run.summary).items() if v is not None})


def comma_separated(runs: Iterable[Run], missing: Iterable[Missing] = ()) -> str:
    """Formats the `records` of runs as CSV.

    A text that a spreadsheet would compute, as it begins with one of `=+-@`, has an apostrophe
    before it; numbers are as they are.
    """
    found = records(runs, missing)
    fields = list(dict.fromkeys(key for record in found for key in record))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_cell, fields))
    writer.writerows([_csv_cell(record.get(key, "")) for key in fields] for record in found)
    return text.getvalue()


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(tuple("=+-@")) else printable(value)
