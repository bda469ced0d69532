"""Runs that failed are told once for each reason, with the remedy."""

import pytest

from resjax.cli.main import main
from resjax.exits import EXIT_FAILED
from resjax.report import report
from resjax.runs import rundir
from resjax.sweeps.grid import experiment_runs
from tests.report.fabricate import fail_run, write_run

WHY = "the training loss became nan between steps 1 and 23; lower optim.learning_rate"

EXPERIMENT = "experiments/degradation.py"

SWEEP = ("sweep", f"--config={EXPERIMENT}", "--sweep=shortcut", "--config.model.depth=8")


@pytest.mark.parametrize("jobs", ["--jobs=1", pytest.param("--jobs=2", marks=pytest.mark.slow)])
def test_a_sweep_ends_with_the_number_of_failures_their_place_and_the_remedy(
    jobs, tmp_path, capsys
):
    only = ["shortcut=none,identity"]
    settings = {"model.depth": 8}
    runs = experiment_runs(EXPERIMENT, tmp_path, axes="shortcut", only=only, settings=settings)
    for directory, config in runs.items():
        directory.mkdir()
        rundir.begin_run(directory, config)
        fail_run(directory, WHY)
    words = [*SWEEP, f"--only={only[0]}", f"--workdir={tmp_path}", jobs]
    assert main(words) == EXIT_FAILED
    error = capsys.readouterr().err
    assert "not finished" not in error
    last = error.splitlines()[-1]
    assert last == f"2 runs failed; {tmp_path}/RUN/error.txt says why; --retry tries again"


def test_status_says_equal_reasons_once(tmp_path, capsys):
    for name in "abcde":
        fail_run(write_run(tmp_path, name, 0.1), f"{WHY}\n\nTraceback")
    fail_run(write_run(tmp_path, "other", 0.1), "the disk is full")
    assert main(["status", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"\na, b, c and 2 more: {WHY}\nother: the disk is full\n" in shown
    assert shown.count(WHY) == 1


def test_a_report_says_why_runs_are_missing_once_for_each_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "MOST_DRAWN", 0)  # figures take seconds
    write_run(tmp_path, "done", 0.1, seed=3)
    for seed, name in enumerate("ab"):
        directory = write_run(tmp_path, name, 0.1, seed=seed)
        fail_run(directory, f"{WHY}\n\nTraceback")
    assert main(["report", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert f"\nnot in the table: a, b (failed: {WHY})\n" in shown
    assert "Traceback" not in shown
