"""Runs of one shortcut, depth and seed are told apart by the keys in which they differ."""

import io
import json

import pytest
from rich.console import Console

from resjax.cli.main import main
from resjax.cli.terminal.board import Board
from resjax.cli.terminal.live import Display, Watch
from resjax.config import default_config
from resjax.runs import claims, planned, rundir
from resjax.runs.planned import work_in
from resjax.runs.summary import Outcome, Progress, Summary
from resjax.sweeps.grid import expand
from tests.report.fabricate import fail_run, write_run

SUMMARY = Summary(0.5, 1.0, 0.25, 1.0, 10, 10, 10, {"compile": 1.0, "train": 2.0, "eval": 0.5})

SWEEP = (
    "sweep", "--config=experiments/degradation.py", "--sweep=shortcut", "--config.model.depth=8",
    "--only=shortcut=none", "--axis=optim.learning_rate=0.01,0.1", "--axis=data.flip=True,False",
    "--dry-run",
)  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """The planned runs of two learning rates, {directory: config}; the second has the default."""
    axis = [{"optim.learning_rate": 0.01}, {"optim.learning_rate": 0.1}]
    runs = {tmp_path / name: run for name, run in expand(default_config(), [axis]).items()}
    planned.record(runs, lambda: dict.fromkeys(runs, 1.0))
    return runs


def told(capsys, *words):
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_dry_run_has_a_named_column_for_each_swept_key_and_no_blank_in_it(tmp_path, capsys):
    *lines, _ = told(capsys, *SWEEP, f"--workdir={tmp_path}")
    start = next(n for n, line in enumerate(lines) if line.startswith("run "))
    assert lines[start].split()[:4] == ["run", "data.flip", "optim.learning_rate", "state"]
    found = [row.split()[1:4] for row in lines[start + 1 :]]
    assert found == [
        [flip, rate, "waiting"] for rate in ("0.01", "0.1") for flip in ("True", "False")
    ]
    as_json = [json.loads(line)["settings"] for line in told(capsys, *SWEEP, "--json")]
    assert as_json[0] == {"data.flip": True, "optim.learning_rate": 0.01}


def test_a_terminal_without_room_has_the_keys_below_the_names(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "70")
    shown = "\n".join(told(capsys, *SWEEP, f"--workdir={tmp_path}"))
    for flip in ("True", "False"):
        for rate in ("0.01", "0.1"):
            assert f"\n  data.flip={flip}" in shown
            assert f"\n  optim.learning_rate={rate}" in shown


def test_status_tells_the_settings_also_of_runs_that_wait_or_lack_a_plan(runs, tmp_path, capsys):
    write_run(tmp_path, next(iter(runs)).name, 0.1, optim__learning_rate=0.01)
    heading, *rows = told(capsys, "status", tmp_path)[1:4]
    assert heading.split()[:3] == ["run", "optim.learning_rate", "state"]
    assert [row.split()[1:3] for row in rows] == [["0.01", "done"], ["0.1", "waiting"]]
    lines = told(capsys, "status", tmp_path, "--json")
    assert [json.loads(line)["settings"]["optim.learning_rate"] for line in lines] == [0.01, 0.1]
    for plan in tmp_path.glob(planned.FILES):
        plan.unlink()
    write_run(tmp_path, "other", 0.1)
    rows = told(capsys, "status", tmp_path)[2:4]
    assert sorted(row.split()[1] for row in rows) == ["0.01", "0.1"]


def test_runs_that_differ_by_name_alone_have_no_further_columns(tmp_path, capsys):
    for seed in (0, 1):
        write_run(tmp_path, f"run{seed}", 0.1, seed=seed, model__depth=8 + 12 * seed)
    assert "seed" not in told(capsys, "status", tmp_path)[1]


def test_lines_of_progress_and_of_endings_tell_the_settings(runs):
    first, second = runs
    with Display(runs) as view:
        view.console = Console(file=io.StringIO(), width=200)
        view.last_shown -= 60.0
        view.progressed(first, Progress("training", 1, 10, 0.5, 4.0, 1.5))
        view.finished(Outcome(second, SUMMARY))
    lines = view.console.file.getvalue().splitlines()
    assert lines[0].startswith(f"1/2 {first.name} optim.learning_rate=0.01: epoch 0.5/4")
    assert lines[1].startswith(f"2/2 {second.name} optim.learning_rate=0.1: error: train 50.00")


def test_a_watch_tells_the_settings_of_what_has_ended(runs, tmp_path):
    watch = Watch(Board(lambda: work_in(tmp_path)))
    watch.console = Console(file=io.StringIO(), width=200)
    first = next(iter(runs))
    fail_run(write_run(tmp_path, first.name, 0.1, optim__learning_rate=0.01))
    watch.looked -= 60.0
    watch.tell()
    said = watch.console.file.getvalue()
    assert said.startswith(f"1/2 {first.name} optim.learning_rate=0.01: failed: ")


def test_the_live_board_has_a_column_for_each_swept_key(runs, tmp_path):
    directory, config = next(iter(runs.items()))
    directory.mkdir()
    console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system=None)
    with claims.claimed(directory):
        rundir.begin_run(directory, config)
        console.print(Board(lambda: work_in(tmp_path)))
    above, heading, *rows = console.file.getvalue().splitlines()[:4]
    assert (above.strip(), heading.split()[:3]) == ("optim.", ["run", "learning_rate", "state"])
    assert [row.split()[1] for row in rows] == ["0.01", "0.1"]
