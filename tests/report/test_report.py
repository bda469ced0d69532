import csv
import errno
import json
import os
import re
import subprocess
import sys
import tempfile
from html.parser import HTMLParser

import pytest

from resjax.cli.main import main
from resjax.report import report, tables
from resjax.report.formats import records
from resjax.report.report import write_report
from resjax.report.runs import read_runs
from resjax.runs import disk
from resjax.runs.claims import claimed
from resjax.runs.ledger import TIMES
from tests.report.fabricate import begin_run, fail_run, note, write_run, write_sweep

VOID = {"meta", "link", "br", "wbr", "line", "circle", "input"}


class Strict(HTMLParser):
    """Refuses elements that are not closed in order; collects links and ids."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        for name in ("href", "src"):
            self.links += [attributes[name]] if name in attributes else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass


def page_of(written):
    text = (written.directory / "index.html").read_text()
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return text, parser


def test_files_of_a_report(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.6], ("none", 20): [0.1], ("projection_all", 20): [0.2]})
    begin_run(tmp_path, "cut", seed=7)
    fail_run(begin_run(tmp_path, "lost", seed=8), "the training loss became nan")
    written = write_report(tmp_path)
    names = {str(path.relative_to(tmp_path / "report")) for path in written.directory.rglob("*.*")}
    drawn = ("training_error", "test_error", "error_by_depth")
    assert names == {
        "index.html", "table.md", "table.tex", "results.csv",
        *(f"figures/{name}.{kind}" for name in drawn for kind in ("png", "svg", "pdf")),
    }  # fmt: skip
    assert "| plain | 56 | 1 | 60.00 |" in (written.directory / "table.md").read_text()
    assert "- cut (interrupted)" in (written.directory / "table.md").read_text()
    page, parser = page_of(written)
    assert "Plain is undecided" in page
    assert '<strong class="bad">1</strong> interrupted' in page
    assert "training error +50.00 points" in page
    assert "one seed, so no interval" in page
    assert "the training loss became nan" in page
    for link in parser.links:
        if not link.startswith(("#", "data:")):
            assert (written.directory / link).exists(), link
    for link in [link for link in parser.links if link.startswith("#")]:
        assert link[1:] in parser.ids


@pytest.mark.slow
def test_the_same_runs_give_the_same_files(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1, 0.2], ("none", 8): [0.0, 0.1]})
    directory = write_report(tmp_path).directory
    first = {path: path.read_bytes() for path in directory.rglob("*.*")}
    write_report(tmp_path)
    assert {path: path.read_bytes() for path in directory.rglob("*.*")} == first


@pytest.mark.slow
def test_a_figure_of_an_earlier_report_does_not_stay(tmp_path):
    write_run(tmp_path, "a", 0.1)
    write_run(tmp_path, "b", 0.1, data__name="shapes")
    write_report(tmp_path)
    assert (tmp_path / "report" / "figures" / "training_error2.png").is_file()
    (tmp_path / "b" / "config.json").unlink()
    own = tmp_path / "report" / "figures" / ".ipynb_checkpoints" / "mine.png"
    own.parent.mkdir()
    own.touch()
    write_report(tmp_path)
    assert not (tmp_path / "report" / "figures" / "training_error2.png").exists()
    assert own.exists()


@pytest.mark.slow
def test_runs_on_two_data_sets_get_separate_tables(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("none", 8): [0.2]})
    write_run(tmp_path, "long", 0.05, model__shortcut="none", train__duration="30 epochs")
    write_run(tmp_path, "other", 0.05, model__shortcut="none", data__name="shapes")
    written = write_report(tmp_path)
    titles = [section.table.title for section in written.sections]
    assert titles == ["digits, plain", "shapes"]
    page, _ = page_of(written)
    for title in titles:
        assert title in page
    assert len(json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["sections"]) == 2


def test_only_the_largest_of_very_many_tables_have_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_DRAWN", 1)
    write_sweep(tmp_path, {("none", 8): [0.1, 0.2]})
    write_run(tmp_path, "other", 0.1, data__name="shapes")
    written = write_report(tmp_path)
    assert [len(section.figures) for section in written.sections] == [3, 0]
    page, _ = page_of(written)
    assert "Figures are drawn of the largest tables only." in page


def test_the_data_of_the_charts_are_means_and_ranges_over_seeds(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1, 0.4], ("identity", 8): [0.2]})
    page, _ = page_of(write_report(tmp_path))
    (section,) = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])["sections"]
    plain, identity = section["cells"]
    assert plain["curves"]["epochs"] == [1, 2, 3]
    train = plain["curves"]["train_error"]
    assert (train["y"][-1], train["low"][-1], train["high"][-1]) == (25, 10, 40)
    assert "low" not in identity["curves"]["train_error"]
    assert (plain["seeds"], plain["ends"]["test_error"][0]) == (2, 26)
    assert plain["ends"]["train_loss"][0] == 0.5  # twice the error, which is in percent
    assert (plain["params"], plain["multiply_adds"], plain["seconds"]) == (1000, 10, 2)


def test_names_with_html_in_them_are_escaped(tmp_path):
    workdir = tmp_path / "<b>&</script>"
    data = "fake:</script><script>alert(1)"
    directory = write_run(workdir, "<i>run", 0.1, data__name=data)
    write_run(workdir, "b", 0.1, data__name=data, model__activation="</script><script>alert(2)")
    manifest = disk.read_json(directory / "manifest.json")
    disk.write_json(directory / "manifest.json", manifest | {"<u>": "<s>"})
    page, _ = page_of(write_report(workdir))
    for wrong in ("<i>run", "<script>alert", "<u>", "<s>", "<b>&"):
        assert wrong not in page
    assert "&lt;i&gt;run" in page
    assert 'href="../%3Ci%3Erun/"' in page


@pytest.mark.slow
def test_costs_add_up_from_runs_to_networks_to_all_and_those_without_a_result_are_in_them(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1, 0.2], ("identity", 8): [0.1]})
    lost = fail_run(begin_run(tmp_path, "lost", model__shortcut="none", model__depth=20))
    note(lost, "stopped", 0.0, compile=1.5, train=4.0)
    note(lost, "begun", 0.0, devices=8)
    note(lost, "evaluated", 10.0, train=10.0)
    (table,) = (section.table for section in write_report(tmp_path).sections)
    header, rows = tables.ledger(table)
    # A run that is done has 1 s of compilation, 2 s of training and 0.5 s of evaluation.
    assert rows == [
        ("plain", "3", "1", "89.0", "3.5", "5.5"),
        ("identity", "1", "0", "2.5", "1.0", "0.0"),
        ("all", "4", "1", "91.5", "4.5", "5.5"),
    ]
    page, _ = page_of(write_report(tmp_path))
    assert (
        "In all: 91.5 device seconds, 4.5 s of compilation; 5.5 s lost to 1 interruption." in page
    )
    with (tmp_path / "report" / "results.csv").open() as file:
        written = list(csv.DictReader(file))
    assert sum(float(row["device_seconds"]) for row in written) == 91.5
    assert sum(float(row["lost_seconds"]) for row in written) == 5.5
    assert f"| {' | '.join(header)} |" in (tmp_path / "report" / "table.md").read_text()


def test_networks_are_compared_by_train_and_eval_and_their_cost_has_compile_and_in_all(tmp_path):
    write_run(tmp_path, "a", 0.1)  # 1 s of compilation, 2 s of training and 0.5 s of evaluation
    ((cell,),) = (section.table.cells for section in write_report(tmp_path).sections)
    (row,) = tables.errors([cell], tables.SCREEN).rows
    assert dict(zip(tables.SCREEN, row, strict=True))["train+eval (s)"] == "2.5"
    (cost,) = tables.costs([cell]).rows
    assert cost[tables.COSTS.index("compile (s)")] == "1.0"
    assert cost[tables.COSTS.index("in all (s)")] == "3.5"
    assert {f"{name} (s)" for name in TIMES} <= set(tables.COSTS)
    (record,) = records(cell.runs)
    assert {key for key in record if key.startswith("seconds.")} == {
        f"seconds.{name}" for name in TIMES if name != "in all"
    }


def test_differences_of_a_table_have_the_decimals_of_the_narrowest_interval(tmp_path):
    errors = {("none", 8): [0.1, 0.9], ("identity", 8): [0.4, 0.2], ("none", 20): [0.5, 0.6],
              ("identity", 20): [0.1001, 0.2002]}  # fmt: skip
    write_sweep(tmp_path, errors)
    (section,) = write_report(tmp_path).sections
    rows = tables.paired_differences(*section.differences.values()).rows
    assert len(rows) == 2

    def decimals(*columns):
        texts = [text for row in rows for cell in columns for text in row[cell].split(" to ")]
        return {len(text.partition(".")[2]) for text in texts}

    # Of the pair at depth 20: the other's interval is as wide as an error can be.
    assert decimals(3, 4) == {2}  # half of it is 0.06 points in training
    assert decimals(6, 7) == {1}  # and more in the test, of fewer examples


def test_of_one_seed_there_are_no_columns_of_dashes(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("identity", 20): [0.2]})
    directory = write_report(tmp_path).directory
    written = (directory / "table.md").read_text()
    assert "| network | depth | seeds | train error % | test error % | train loss |" in written
    assert "interval |" not in written
    assert "interval &" not in (directory / "table.tex").read_text()
    table = tables.TextTable(("a", "b", "c"), [("1", "-", "-"), ("2", "-", "3")])
    assert table.without_empty_columns() == (("a", "c"), [("1", "-"), ("2", "3")])


def test_a_cost_that_is_not_known_is_a_dash(tmp_path):
    write_run(tmp_path, "old", 0.1)
    (tmp_path / "old" / "timing.jsonl").unlink()
    (run,), _ = read_runs(tmp_path)
    assert tables.ledger_texts(run.ledger) == ("-",) * 4
    write_run(tmp_path, "new", 0.1, seed=1)
    ((table,),) = ([section.table] for section in write_report(tmp_path).sections)
    assert {row[1] for row in tables.ledger(table).rows} == {"2, 1 not known"}
    page, _ = page_of(write_report(tmp_path))
    assert "s of compilation; the cost of 1 run is not known." in page


@pytest.mark.slow
def test_a_backend_that_a_notebook_handed_on_is_not_needed(tmp_path):
    """Not of a report, nor of an experiment that draws; what is not there is an error when set."""
    write_run(tmp_path / "runs", "alone", 0.1)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import matplotlib.pyplot\nfrom resjax.config import default_config as get_config\n"
    )
    for words in (["report", tmp_path / "runs"], ["sweep", f"--config={mine}", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-m", "resjax", *map(str, words)],
            env=os.environ | {"MPLBACKEND": "of-a-notebook"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (tmp_path / "runs/report/figures/test_error.png").exists()


def test_a_run_of_its_own_has_a_report(tmp_path):
    write_run(tmp_path, "alone", 0.1)
    written = write_report(tmp_path / "alone")
    _, parser = page_of(written)
    assert "../" in parser.links
    assert [run.name for run in written.runs] == ["alone"]


def test_a_report_that_another_process_is_writing_is_printed_by_this_one_too(tmp_path, capsys):
    write_run(tmp_path, "run", 0.125)
    with claimed(tmp_path):
        assert main(["report", str(tmp_path)]) == 0
    printed, told = capsys.readouterr()
    assert "12.50" in printed
    assert told.startswith(f"another process is writing {tmp_path}/report")


def test_a_manifest_tells_what_differs_between_runs(tmp_path):
    for seed, version in enumerate(("0.10.0", "0.10.2", "0.10.2")):
        directory = write_run(tmp_path, f"a{seed}", 0.1, seed=seed)
        manifest = disk.read_json(directory / "manifest.json")
        disk.write_json(directory / "manifest.json", manifest | {"versions": {"jax": version}})
    page, _ = page_of(write_report(tmp_path))
    assert "0.10.0 (1 of 3 runs)<br>0.10.2 (2 of 3 runs)" in page
    assert "f00d" in page


def test_a_report_tells_the_errors_by_each_kind_of_statistics_where_runs_compared_them(tmp_path):
    for seed, running in enumerate((0.2, 0.4)):
        write_run(tmp_path, f"run{seed}", 0.1, model__depth=20, seed=seed, eval__precise_batches=8)
        path = tmp_path / f"run{seed}" / "result.json"
        errors = {"batch": 0.1, "running": running, "precise": 0.15}
        compared = {
            kind: {"train_error": error / 2, "test_error": error} for kind, error in errors.items()
        }
        disk.write_json(path, disk.read_json(path) | {"statistics": compared})
    written = write_report(tmp_path)
    line = (
        "identity 20: train / test error % by statistics, "
        "batch 5.00 / 10.00, running 15.00 / 30.00, precise 7.50 / 15.00"
    )
    assert written.sections[0].notes == [line]
    assert line in (tmp_path / "report" / "index.html").read_text()
    with (tmp_path / "report" / "results.csv").open() as file:
        assert float(next(csv.DictReader(file))["statistics.precise.test_error"]) == 0.15


def test_a_directory_that_cannot_be_written_to_is_refused_in_a_line(tmp_path, monkeypatch, capsys):
    write_sweep(tmp_path, {("none", 8): [0.1]})

    def refused(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    assert main(["report", str(tmp_path)]) == 2
    assert f"cannot write to {tmp_path}: Permission denied" in capsys.readouterr().err
    assert not (tmp_path / "report").exists()
