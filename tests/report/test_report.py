import csv
import json
import math
import statistics
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.config import ConfigError, default_config, flatten
from resjax.report import tables
from resjax.report.page import write_report
from resjax.report.stats import (
    DEGRADES,
    DOES_NOT,
    UNDECIDED,
    cells,
    degradation,
    protocols,
    read_runs,
)
from resjax.training import rundir

SHORTCUTS = ("none", "identity", "projection_all")


def write_run(workdir, name, error, **keys):
    """A finished run with a straight curve, as `train_and_evaluate` leaves it."""
    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in keys.items()})
    directory = workdir / name
    directory.mkdir(parents=True)
    rundir.begin_run(directory, config)
    rundir.write_json(directory / "manifest.json", {"data": {"name": "digits", "train": 1437}})
    for epoch in (1, 2, 3):
        rundir.append_line(
            directory / "metrics.jsonl",
            {"epoch": epoch, "train_error": 1 - epoch * (1 - error) / 3},
        )
    result = {
        "train_error": error, "train_loss": 2 * error, "test_error": error + 0.01, "test_loss": 0.5,
        "params": 1000, "multiply_adds": 10, "steps": 3,
        "seconds": {"compile": 1.0, "train": 2.0, "eval": 0.5},
    }  # fmt: skip
    rundir.write_result(directory, result)


def write_sweep(workdir, errors):
    """Runs of {(shortcut, depth): [error of each seed]}."""
    for (shortcut, depth), values in errors.items():
        for seed, error in enumerate(values):
            write_run(
                workdir, f"{shortcut}-{depth}-{seed}", error,
                model__shortcut=shortcut, model__depth=depth, seed=seed,
            )  # fmt: skip


def gaps(workdir):
    table = cells(read_runs(workdir)[0], SHORTCUTS)
    arms = {kind: [cell for cell in table if cell.shortcut == kind] for kind in SHORTCUTS}
    return {kind: degradation(arm) for kind, arm in arms.items() if arm}


def test_gap_is_paired_by_seed_and_its_interval_is_that_of_the_t_test(tmp_path):
    deep, middle, shallow = [0.50, 0.58, 0.61], [0.02, 0.05, 0.03], [0.04, 0.09, 0.11]
    write_sweep(tmp_path, {("none", 56): deep, ("none", 20): middle, ("none", 8): shallow})
    gap = gaps(tmp_path)["none"]
    differences = np.subtract(deep, middle)
    expected = scipy_stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert gap.best == 20
    assert gap.gap == pytest.approx(differences.mean())
    assert gap.interval == pytest.approx(tuple(expected))
    assert gap.verdict == DEGRADES


def test_the_numbers_of_a_verdict_are_of_the_seeds_that_both_depths_have(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.3, 0.6, 0.9], ("none", 20): [0.0, 0.5]})
    write_run(tmp_path, "other", 0.0, model__shortcut="none", model__depth=8, seed=9)
    gap = gaps(tmp_path)["none"]
    assert (gap.seeds, gap.best) == ((0, 1), 20)
    assert (gap.deepest_error, gap.best_error) == pytest.approx((0.45, 0.25))
    assert "+20.00 points (56 layers 45.00 %, 20 layers 25.00 %; 2 seeds" in tables.verdict(
        "none", gap
    )


def test_a_failed_run_leaves_no_verdict(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("none", 8): [0.0], ("identity", 20): [0.1]})
    write_run(tmp_path, "deep", 0.9, model__shortcut="none", model__depth=56)
    (tmp_path / "deep" / "result.json").unlink()
    (tmp_path / "deep" / "error.txt").write_text("the training loss became nan\n")
    report = write_report(tmp_path)
    assert report.sections[0].verdicts[0] == (False, "plain: no verdict, deep failed")
    assert [(run.name, run.state) for run in report.missing] == [("deep", rundir.FAILED)]


def test_equal_gaps_do_not_make_it_certain(tmp_path):
    write_sweep(tmp_path, {("none", 56): [1 / 1437] * 2, ("none", 20): [0.0] * 2})
    gap = gaps(tmp_path)["none"]
    assert gap.interval[0] < 0 < gap.interval[1]
    assert gap.verdict == DOES_NOT


def test_the_same_run_twice_is_refused(tmp_path):
    write_run(tmp_path, "a", 0.1)
    write_run(tmp_path, "b", 0.1)
    with pytest.raises(ConfigError, match=r"b and .*a hold the same run; remove one"):
        read_runs(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "metrics.jsonl", "result.json"])
@pytest.mark.parametrize("content", [b"[]\n", b"{\n", b"\xff\xfe\n", b"3\n"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    write_run(tmp_path, "a", 0.1)
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"cannot read .*{name}"):
        write_report(tmp_path)


def test_a_result_of_a_later_version_is_read_and_one_that_lacks_a_field_refused(tmp_path):
    write_run(tmp_path, "a", 0.1)
    path = tmp_path / "a" / "result.json"
    content = rundir.read_json(path)
    rundir.write_json(path, content | {"invented_later": 0.1})
    assert read_runs(tmp_path)[0][0].summary.train_error == 0.1
    rundir.write_json(path, {"train_error": 0.1})
    with pytest.raises(ConfigError, match=r"lacks multiply_adds, params.*run it again"):
        read_runs(tmp_path)


def test_an_interval_that_holds_zero_is_no_degradation(tmp_path):
    write_sweep(tmp_path, {("identity", 56): [0.01, 0.03], ("identity", 20): [0.02, 0.01]})
    gap = gaps(tmp_path)["identity"]
    assert gap.gap > 0
    assert gap.verdict == UNDECIDED


@pytest.mark.parametrize(
    ("examples", "verdict"), [(1, DOES_NOT), (3, DOES_NOT), (4, DEGRADES), (100, DEGRADES)]
)
def test_with_one_seed_a_gap_must_exceed_the_error_of_counting(tmp_path, examples, verdict):
    """Against a net without errors: sqrt(p / 1437) * 1.96 < p from 4 errors on."""
    write_sweep(tmp_path, {("none", 56): [examples / 1437], ("none", 20): [0.0]})
    gap = gaps(tmp_path)["none"]
    assert gap.interval is None
    assert gap.verdict == verdict


def test_no_verdict_without_two_depths_of_one_seed(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("identity", 20): [0.1]})
    write_run(tmp_path, "x", 0.3, model__shortcut="identity", model__depth=56, seed=9)
    assert gaps(tmp_path) == {"none": None, "identity": None}
    assert "no verdict" in tables.verdict("none", None)


def test_cells_have_mean_and_standard_deviation_over_seeds(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1, 0.2, 0.6], ("identity", 20): [0.1]})
    plain, identity = cells(read_runs(tmp_path)[0], SHORTCUTS)
    assert plain.mean("train_error") == pytest.approx(0.3)
    assert plain.spread("train_error") == pytest.approx(statistics.stdev([0.1, 0.2, 0.6]))
    assert identity.spread("train_error") is None
    row = tables.rows([plain])[0]
    assert row[:5] == ("plain", "20", "3", "30.00 ± 26.46", "0.6000 ± 0.5292")
    assert float(row[-1]) == 3.5


def test_a_loss_that_is_not_finite_is_shown_as_infinite(tmp_path):
    write_run(tmp_path, "a", 0.9)
    result = rundir.read_json(tmp_path / "a" / "result.json") | {"train_loss": math.nan}
    rundir.write_result(tmp_path / "a", result)
    assert tables.rows(cells(read_runs(tmp_path)[0], SHORTCUTS))[0][4] == "inf"


def test_files_of_a_report(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.6], ("none", 20): [0.1], ("projection_all", 20): [0.2]})
    write_run(tmp_path, "cut", 0.5, seed=7)
    (tmp_path / "cut" / "result.json").unlink()
    report = write_report(tmp_path)
    assert [(run.name, run.state) for run in report.missing] == [("cut", rundir.UNFINISHED)]
    names = {str(path.relative_to(tmp_path / "report")) for path in report.directory.rglob("*.*")}
    assert names == {
        "index.html", "table.md", "table.tex", "results.csv", "figures/training_error.png",
        "figures/training_error.svg", "figures/training_error.pdf",
    }  # fmt: skip
    with (report.directory / "results.csv").open() as file:
        records = list(csv.DictReader(file))
    assert {record["train_error"] for record in records} == {"0.6", "0.1", "0.2"}
    assert {record["model.depth"] for record in records} == {"56", "20"}
    assert r"projection\_all" in (report.directory / "table.tex").read_text()
    assert "| plain | 56 | 1 | 60.00 |" in (report.directory / "table.md").read_text()
    page = (report.directory / "index.html").read_text()
    HTMLParser().feed(page)
    assert "plain: degrades with depth, training error +50.00 points" in page
    assert "cut (unfinished)" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("http://purl.org", "").replace("https://matplotlib.org", "")


def test_the_same_runs_give_the_same_files(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1, 0.2], ("none", 8): [0.0, 0.1]})
    report = write_report(tmp_path).directory
    first = {path: path.read_bytes() for path in report.rglob("*.*")}
    write_report(tmp_path)
    assert {path: path.read_bytes() for path in report.rglob("*.*")} == first


def test_figure_has_a_panel_for_each_shortcut_and_a_line_for_each_depth(tmp_path):
    from resjax.report.figures import training_error

    write_sweep(tmp_path, {(kind, depth): [0.1, 0.3] for kind in SHORTCUTS for depth in (8, 20)})
    section = write_report(tmp_path).sections[0]
    figure = training_error(section.arms)
    assert [panel.get_title() for panel in figure.axes] == ["plain", "identity", "projection_all"]
    for panel in figure.axes:
        assert [line.get_label() for line in panel.get_lines()] == ["8 layers", "20 layers"]
        np.testing.assert_allclose(panel.get_lines()[0].get_ydata()[-1], 20)
    ET.parse(section.figure.with_suffix(".svg"))


def test_runs_of_two_protocols_get_separate_tables(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("none", 8): [0.2]})
    write_run(tmp_path, "long", 0.05, model__shortcut="none", train__duration="30 epochs")
    assert [len(group) for group in protocols(read_runs(tmp_path)[0])] == [2, 1]
    titles = [section.title for section in write_report(tmp_path).sections]
    assert titles == ["digits, train.duration=15 epochs", "digits, train.duration=30 epochs"]
    assert (tmp_path / "report" / "figures" / "training_error2.png").is_file()


def test_names_with_html_in_them_are_escaped(tmp_path):
    workdir = tmp_path / "<b>&"
    write_run(workdir, "a", 0.1)
    assert "&lt;b&gt;&amp;" in (write_report(workdir).directory / "index.html").read_text()


def test_a_directory_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no finished run in"):
        write_report(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(json.dumps(flatten(default_config())))
    with pytest.raises(ConfigError, match="1 without a result"):
        write_report(tmp_path)


def test_a_report_tells_the_errors_by_each_kind_of_statistics_where_runs_compared_them(tmp_path):
    for seed, running in enumerate((0.2, 0.4)):
        write_run(tmp_path, f"run{seed}", 0.1, model__depth=20, seed=seed, eval__precise_batches=8)
        path = tmp_path / f"run{seed}" / "result.json"
        errors = {"batch": 0.1, "running": running, "precise": 0.15}
        compared = {
            kind: {"train_error": error / 2, "test_error": error} for kind, error in errors.items()
        }
        rundir.write_json(path, rundir.read_json(path) | {"statistics": compared})
    report = write_report(tmp_path)
    line = (
        "identity 20: train / test error % by statistics, "
        "batch 5.00 / 10.00, running 15.00 / 30.00, precise 7.50 / 15.00"
    )
    assert report.sections[0].statistics == [line]
    assert line in (tmp_path / "report" / "index.html").read_text()
    with (tmp_path / "report" / "results.csv").open() as file:
        assert float(next(csv.DictReader(file))["statistics.precise.test_error"]) == 0.15
