import json
import math
import re

import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.report.report import write_report
from resjax.report.runs import read_runs
from resjax.runs import claims, disk, rundir
from tests.report.fabricate import begin_run, fail_run, write_run


def test_runs_that_are_done_failed_interrupted_and_at_work_are_told_apart(tmp_path):
    write_run(tmp_path, "a", 0.1)
    begin_run(tmp_path, "b", seed=1)
    fail_run(begin_run(tmp_path, "c", seed=2), "the training loss became nan")
    at_work = begin_run(tmp_path, "d", seed=3)
    rundir.write_progress(at_work, {"phase": "training"})
    (tmp_path / "report").mkdir()
    with claims.claimed(at_work):
        done, missing = read_runs(tmp_path)
    assert [run.name for run in done] == ["a"]
    assert [(run.name, run.state, run.reason) for run in missing] == [
        ("b", "interrupted", ""),
        ("c", "failed", "the training loss became nan"),
        ("d", "training", ""),
    ]


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
        read_runs(tmp_path)


@pytest.mark.slow
def test_a_run_whose_config_is_gone_is_told_and_in_no_table(tmp_path, capsys):
    for seed in (0, 1, 2):
        write_run(tmp_path, f"run{seed}", 0.1, seed=seed)
    (tmp_path / "run1" / "config.json").unlink()
    runs, [lost] = read_runs(tmp_path)
    assert [run.name for run in runs] == ["run0", "run2"]
    assert (lost.name, lost.state, lost.config) == ("run1", "without its config", {})
    assert main(["report", str(tmp_path)]) == 0
    assert (
        "not in the table: run1 (without its config: config.json is missing; "
        in capsys.readouterr().out
    )
    for name in ("table.md", "results.csv", "index.html"):
        assert "run1" in (tmp_path / "report" / name).read_text()
    assert f"resjax doctor {tmp_path / 'run1'}" in (tmp_path / "report/index.html").read_text()
    assert [missing.name for missing in read_runs(tmp_path / "run1")[1]] == ["run1"]


def test_a_result_of_a_later_version_is_read_and_one_that_lacks_a_field_refused(tmp_path):
    write_run(tmp_path, "a", 0.1)
    path = tmp_path / "a" / "result.json"
    content = disk.read_json(path)
    disk.write_json(path, content | {"invented_later": 0.1})
    assert read_runs(tmp_path)[0][0].summary.train_error == 0.1
    disk.write_json(path, {"train_error": 0.1})
    with pytest.raises(ConfigError, match=r"lacks multiply_adds, params.*run it again"):
        read_runs(tmp_path)


def test_a_run_of_an_older_layout_is_reported(tmp_path):
    """Without manifest and curve, with a key that is gone and without keys that came later."""
    for seed in (0, 1):
        directory = write_run(tmp_path, f"a{seed}", 0.1, model__depth=20, seed=seed)
        config = {"model.depth": 20, "seed": seed, "model.gone": 3}
        disk.write_json(directory / "config.json", config)
        (directory / "manifest.json").unlink()
        (directory / "metrics.jsonl").unlink()
    write_run(tmp_path, "deep", 0.3, model__depth=56)
    disk.write_json(tmp_path / "deep" / "manifest.json", {"data": "digits"})
    assert [run.examples("train") for run in read_runs(tmp_path)[0]] == [None] * 3
    report = write_report(tmp_path)
    assert len(report.runs) == 3
    assert "10.00" in (report.directory / "index.html").read_text()


def test_examples_are_those_that_errors_are_counted_over(tmp_path):
    write_run(tmp_path, "a", 0.1, eval__train_examples=100)
    run = read_runs(tmp_path)[0][0]
    assert (run.examples("train"), run.examples("test")) == (100, 360)


def test_metrics_that_are_not_finite_are_shown_and_leave_no_verdict(tmp_path):
    for depth, error in ((8, 0.1), (20, math.nan)):
        for seed in (0, 1):
            name = f"{depth}-{seed}"
            write_run(tmp_path, name, 0.1, model__depth=depth, seed=seed, model__shortcut="none")
            content = disk.read_json(tmp_path / name / "result.json")
            disk.write_json(tmp_path / name / "result.json", content | {"train_error": error})
            line = {"step": 4, "epoch": 4, "train_error": error, "test_error": math.nan}
            disk.append_line(tmp_path / name / "metrics.jsonl", line)
    report = write_report(tmp_path)
    assert report.sections[0].verdicts[0].line == (
        "plain: no verdict, plain 20 has no finite error"
    )
    assert "inf ± inf" in (report.directory / "table.md").read_text()
    page = (report.directory / "index.html").read_text()
    data = re.search(r'id="data">(.*?)</script>', page)[1]
    (train, test), _ = (
        [line["curves"]["train_error"]["y"], line["curves"]["test_error"]["y"]]
        for line in json.loads(data)["sections"][0]["cells"]
    )
    assert (train[-1], test[-1]) == (10, None)


def test_a_directory_without_finished_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run in .*; start with resjax train"):
        write_report(tmp_path)
    begin_run(tmp_path, "a")
    with pytest.raises(ConfigError, match=r"is done, 1 without a result; resjax status .* shows"):
        write_report(tmp_path)
