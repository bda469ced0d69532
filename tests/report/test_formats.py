import csv
import io
import shutil
import subprocess

import pytest

from resjax.report import formats
from resjax.report.report import write_report
from resjax.report.runs import read_runs
from tests.report.fabricate import begin_run, fail_run, write_grid, write_run, write_sweep

NASTY = r"\a{b}_c^d~e $1% #2 & <i>x</i> | ±"


def tables_of(text):
    """The rows of each `tabular`: the strictest reading of what these files may contain."""
    pylatexenc = pytest.importorskip("pylatexenc.latexwalker")
    nodes, _, _ = pylatexenc.LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    found = []
    for node in nodes:
        if node.isNodeType(pylatexenc.LatexEnvironmentNode):
            assert node.environmentname == "tabular"
            (columns,) = [a.latex_verbatim() for a in node.nodeargd.argnlist if a is not None]
            body = "".join(child.latex_verbatim() for child in node.nodelist[1:])
            for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
                assert body.count(rule) == 1
                body = body.replace(rule, "")
            rows = [row.strip() for row in body.split(r"\\")]
            assert rows.pop() == ""
            found.append((len(columns.strip("{}")), [row.count(" & ") + 1 for row in rows]))
        else:
            assert node.isNodeType(pylatexenc.LatexCommentNode) or not node.latex_verbatim().strip()
    return found


@pytest.mark.slow
def test_latex_parses_and_every_row_has_every_column(tmp_path):
    write_grid(tmp_path)
    written = write_report(tmp_path)
    (section,) = written.sections
    text = (written.directory / "table.tex").read_text()
    assert section.verdicts
    for columns, rows in tables_of(text):
        assert set(rows) == {columns}
    assert len(tables_of(text)) == 2
    assert r"projection\_all & 56 & 3 & 9.6 $\pm$ 0.9 &" in text
    assert "train interval & " in text
    for verdict in section.verdicts:
        assert f"% {verdict.line}" in text.splitlines()


def test_a_minus_is_one_in_latex_and_words_begin_at_the_left():
    text = formats.latex(["depth", "pair", "test"], [["8", "plain - cifar-net", "-0.56"]])
    assert r"\begin{tabular}{llr}" in text
    assert r"8 & plain $-$ cifar-net & $-$0.56 \\" in text


def test_latex_of_names_with_specials_parses():
    text = formats.latex(("a", "b"), [(NASTY, "1"), ("line\nbreak", "é")])
    assert tables_of(text) == [(2, [2, 2, 2])]
    assert r"\textbackslash{}a\{b\}\_c\textasciicircum{}d\textasciitilde{}e \$1\% \#2 \&" in text


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
