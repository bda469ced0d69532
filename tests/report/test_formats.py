import csv
import io
import itertools
import re
import shutil
import subprocess

import pytest
import scipy.stats

from resjax.report import formats
from resjax.report.report import read_sweep, write_report
from resjax.report.runs import read_runs
from tests.report.fabricate import begin_run, fail_run, write_grid, write_run, write_sweep

NASTY = r"\a{b}_c^d~e $1% #2 & <i>x</i> | ±"


def parsed(text):
    """The nodes of a LaTeX text: the strictest reading of what these files may contain."""
    latexwalker = pytest.importorskip("pylatexenc.latexwalker")
    return latexwalker.LatexWalker(text, tolerant_parsing=False).get_latex_nodes()[0]


def environments(nodes, name):
    """The environments of a name among nodes; beside them there are comments and space alone."""
    found = [node for node in nodes if type(node).__name__ == "LatexEnvironmentNode"]
    others = [node for node in nodes if node not in found]
    assert all(node.environmentname == name for node in found)
    assert all(
        type(node).__name__ == "LatexCommentNode" or not node.latex_verbatim().strip()
        for node in others
    )
    return found


def shape(tabular):
    """The number of columns of a `tabular`, and of the cells in each of its rows."""
    (columns,) = [a.latex_verbatim() for a in tabular.nodeargd.argnlist if a is not None]
    body = "".join(child.latex_verbatim() for child in tabular.nodelist[1:])
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert body.count(rule) == 1
        body = body.replace(rule, "")
    rows = [row.strip("\n") for row in body.replace(r"\addlinespace", "").split(r"\\")]
    assert rows.pop() == ""
    return len(columns.strip("{}")), [row.count(" & ") + 1 for row in rows]


def tables_of(text):
    """The caption, the label and the shape of each `table*` of a document."""
    found = []
    for table in environments(parsed(text), "table*"):
        ((caption, label),) = re.findall(
            r"^\\caption\{(.*)\}\n\\label\{(.*)\}$", table.latex_verbatim(), re.MULTILINE
        )
        (tabular,) = [n for n in table.nodelist if type(n).__name__ == "LatexEnvironmentNode"]
        assert tabular.environmentname == "tabular"
        found.append((caption, label, shape(tabular)))
    return found


@pytest.mark.slow
def test_latex_parses_and_every_row_has_every_column(tmp_path):
    write_grid(tmp_path)
    written = write_report(tmp_path)
    (section,) = written.sections
    text = (written.directory / "table.tex").read_text()
    assert section.verdicts
    errors, differences = tables_of(text)
    for _, _, (columns, rows) in (errors, differences):
        assert set(rows) == {columns}
    assert errors[0].startswith("Errors of the final evaluation: mean $\\pm$ standard")
    assert errors[0].endswith(" Data: digits.")
    name = tmp_path.name.replace("_", "-")
    assert errors[1] == f"tab:{name}-errors"
    assert differences[1] == f"tab:{name}-differences"
    lines = text.splitlines()
    place = lines.index(r"\addlinespace")
    assert lines[place - 1].startswith(" & 56 & 3 & ")  # the name of a network once
    assert lines[place + 1].startswith("identity & 8 & 3 & ")
    first, second = text.split(r"\bottomrule")[:2]
    assert first.count(r"\addlinespace") == len(section.table.arms) - 1
    assert second.count(r"\addlinespace") == len({cell.depth for cell in section.table.cells}) - 1
    assert "train interval & " in text
    for verdict in section.verdicts:
        assert f"% {verdict.line}" in text.splitlines()


def test_a_minus_is_one_in_latex_and_words_begin_at_the_left():
    rows = [["8", "plain - cifar-net", "-0.56"], ["20", "plain - -information", "-inf"]]
    text = formats.latex(["depth", "pair", "test"], rows)
    assert r"\begin{tabular}{llr}" in text
    assert r"8 & plain $-$ cifar-net & $-$0.56 \\" in text
    assert r"20 & plain $-$ -information & $-$inf \\" in text


def test_latex_of_names_with_specials_parses():
    text = formats.latex(("a", "b"), [(NASTY, "1"), ("line\nbreak", "é")])
    (tabular,) = environments(parsed(text), "tabular")
    assert shape(tabular) == (2, [2, 2, 2])
    assert r"\textbackslash{}a\{b\}\_c\textasciicircum{}d\textasciitilde{}e \$1\% \#2 \&" in text


def bold(text):
    """The first cells of the rows of a LaTeX text, and which of their cells are in bold."""
    rows = re.findall(r"^(\w*) & (\d+) & (.*) \\\\$", text, re.MULTILINE)
    arms = itertools.accumulate((arm for arm, _, _ in rows), lambda last, arm: arm or last)
    return {
        (arm, int(depth)): [number for number, cell in enumerate(rest.split(" & "))
                            if cell.startswith(r"\textbf{")]
        for arm, (_, depth, rest) in zip(arms, rows, strict=True)
    }  # fmt: skip


def test_the_best_error_of_a_depth_is_bold_with_those_within_a_point_of_it(tmp_path):
    errors = {
        ("none", 8): [0.30, 0.31, 0.29, 0.30],
        ("identity", 8): [0.100, 0.121, 0.099, 0.110],
        ("projection", 8): [0.101, 0.119, 0.100, 0.111],  # as good as identity
        ("dropout", 8): [0.1, 0.9, 0.1, 0.1],  # far from it with one seed, so that p is large
        ("none", 20): [0.50, 0.51, 0.49, 0.50],
        ("identity", 20): [0.20, 0.21, 0.19, 0.20],
    }
    for other, alike in (("projection", True), ("none", False), ("dropout", False)):
        found = scipy.stats.ttest_rel(errors["identity", 8], errors[other, 8])
        assert (max(map(abs, found.confidence_interval())) < 0.01) == alike
    assert found.pvalue > 0.05
    write_sweep(tmp_path, errors)
    found = bold(formats.latex_document(read_sweep(tmp_path).sections, "sweep"))
    train, test = 1, 3  # after the number of seeds; the intervals are between them
    assert found == {
        ("plain", 8): [], ("identity", 8): [train, test], ("projection", 8): [train, test],
        ("dropout", 8): [], ("plain", 20): [], ("identity", 20): [train, test],
    }  # fmt: skip


def test_with_one_seed_the_lowest_error_of_a_depth_is_bold_and_what_equals_it(tmp_path):
    write_sweep(
        tmp_path,
        {("none", 8): [0.3], ("identity", 8): [0.1], ("projection", 8): [0.1], ("none", 20): [0.1]},
    )
    text = formats.latex_document(read_sweep(tmp_path).sections, "sweep")
    assert {cell for cell, columns in bold(text).items() if columns} == {
        ("identity", 8), ("projection", 8),
    }  # fmt: skip
    assert "In bold: the lowest error of each depth." in text


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1, 0.2], ("projection_all", 20): [0.1, 0.15]})
    text = (write_report(tmp_path).directory / "table.tex").read_text()
    text += formats.latex(("a", "b"), [(NASTY, "1")])
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
        f"{text}\\end{{document}}\n"
    )
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "paper.pdf").stat().st_size > 1000


def test_markdown_of_names_with_specials_has_every_column():
    lines = formats.markdown(("a", "b"), [("x|y <b>_", "1")]).splitlines()
    assert lines[2] == r"| x\|y &lt;b&gt;\_ | 1 |"


def test_csv_has_every_run_with_its_selection_and_state(tmp_path):
    write_run(tmp_path, "a", 0.25)
    write_run(tmp_path, "b", 0.5, model__depth=56, model__shortcut="none")
    fail_run(begin_run(tmp_path, "c", seed=3))
    rows = list(csv.DictReader(io.StringIO(formats.comma_separated(*read_runs(tmp_path)))))
    assert [(r["run"], r["state"], r["train_error"], r["selection"]) for r in rows] == [
        ("a", "done", "0.25", "final"), ("b", "done", "0.5", "final"), ("c", "failed", "", ""),
    ]  # fmt: skip
    assert [row["model.depth"] for row in rows] == ["20", "56", "20"]
    assert rows[2]["seed"] == "3"
    assert [row["why"] for row in rows] == ["", "", "the training loss became nan"]
    shown = ["run", "state", "why", "model.shortcut", "model.depth", "seed", "train_error"]
    assert list(rows[0])[: len(shown)] == shown  # before the many keys that all runs share


def test_the_table_of_pandas_has_the_columns_and_the_rows_of_results_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    write_run(tmp_path, "a", 0.25)
    write_run(tmp_path, "b", 0.5, model__depth=56, model__shortcut="none")
    fail_run(begin_run(tmp_path, "c", seed=3))
    (begin_run(tmp_path, "d", seed=4) / "config.json").unlink()
    read = read_sweep(tmp_path)
    written = pandas.read_csv(io.StringIO(formats.comma_separated(read.runs, read.missing)))
    table = read.table.reset_index()
    assert list(table.columns) == list(written.columns)
    assert list(table["run"]) == list(written["run"]) == ["a", "b", "d", "c"]
    numbers = ["model.depth", "train_error", "steps", "seconds.compile", "lost_seconds"]
    pandas.testing.assert_frame_equal(table[numbers], written[numbers], check_dtype=False)
