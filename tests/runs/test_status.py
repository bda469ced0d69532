import dataclasses
import itertools
import json
import re
import time

import pytest

from resjax.cli.main import main
from resjax.cli.terminal.board import MOST_ROWS, Board, shown, status_rows
from resjax.config import ConfigError
from resjax.config.text import clock, time_taken
from resjax.runs import claims, disk, doctor, rundir
from resjax.runs.estimate import seconds_of, work_of
from resjax.runs.journal import Journal
from resjax.runs.loop import train_and_evaluate
from resjax.runs.position import Position
from resjax.runs.status import Status, count_states, look, look_in, seconds_left
from resjax.training.plan import make_plan


def begun(tmp_path, tiny, name="run", events=("begun",)):
    """A run as a process leaves it that is at work, or was killed."""
    run = tmp_path / name
    run.mkdir()
    rundir.begin_run(run, tiny)
    for event in events:
        disk.append_line(run / "timing.jsonl", {"event": event, "at": time.time(), "step": 0})
    progress = {
        "at": time.time(), "begun_at": time.time() - 10, "begun_step": 0, "phase": "training",
        "step": 5, "steps": 20, "epoch": 0.5, "epochs": 2.0, "loss": 1.25, "note": None,
    }  # fmt: skip
    rundir.write_progress(run, progress)
    return run


def test_a_watch_of_json_is_refused(tmp_path, capsys):
    assert main(["status", "--json", "--watch", str(tmp_path / "nowhere")]) == 2
    assert "--watch has no effect with --json" in capsys.readouterr().err


def test_a_run_that_nobody_began_is_waiting(tmp_path):
    assert look(tmp_path / "run").state == "waiting"


def test_a_run_at_work_tells_its_phase_epoch_loss_and_time_left(tiny, tmp_path):
    run = begun(tmp_path, tiny)
    with claims.claimed(run):
        status = look(run)
    assert (status.state, status.step, status.steps, status.loss) == ("training", 5, 20, 1.25)
    assert status.seconds_left == pytest.approx(30, abs=1)  # 5 steps took 10 s, and 15 are left
    assert status.owner.startswith("process ")


def test_a_phase_is_seen_as_soon_as_it_begins(tiny, tmp_path):
    journal = Journal(make_plan(tiny), tmp_path, Position.start(), lambda progress: None)
    for phase in ("compiling", "training", "evaluating", "training"):
        journal.report_progress(phase, None)
        assert rundir.read_progress(tmp_path)["phase"] == phase


def test_a_run_whose_process_is_gone_is_interrupted_and_tells_how_often_it_went_on(
    tiny, tmp_path, capsys
):
    run = begun(tmp_path, tiny, events=("begun", "stopped", "begun", "saved", "begun"))
    status = look(run)
    assert (status.state, status.resumed, status.owner) == ("interrupted", 2, None)
    assert doctor.examine(run).state == status.state
    assert main(["status", str(tmp_path)]) == 0
    assert "\nrun interrupted (resumed 2x) " in capsys.readouterr().out


@pytest.mark.slow
def test_runs_that_ended_tell_how(tiny, tmp_path):
    summary = train_and_evaluate(tiny, tmp_path / "done")
    (begun(tmp_path, tiny, "failed") / "error.txt").write_text("it broke\n\nTraceback")
    done, failed = look_in(tmp_path)
    assert (done.state, done.train_error, done.step) == ("done", summary.train_error, 20)
    assert (failed.state, failed.why) == ("failed", "it broke")
    assert count_states([done.state, failed.state]) == "1 done, 1 failed"
    with pytest.raises(ConfigError, match=r"no run in .*; start with"):
        look_in(tmp_path / "nowhere")


def test_a_damaged_result_is_a_failure_with_the_remedy(tiny, tmp_path):
    run = begun(tmp_path, tiny)
    (run / "result.json").write_text("{")
    status = look(run)
    assert status.state == "failed"
    assert "resjax doctor" in status.why


@pytest.mark.parametrize("name", ["progress.json", "timing.jsonl"])
def test_what_a_damaged_file_does_not_tell_is_said_and_not_made_up(tiny, tmp_path, name, capsys):
    run = begun(tmp_path, tiny, events=("begun", "stopped", "begun"))
    path = run / name
    path.write_bytes(path.read_bytes().replace(b"step", b"stop", 1))
    status = look(run)
    assert status.state == "interrupted"
    assert status.why.startswith(f"cannot read {path} (its digest is not that of its content)")
    assert (status.step, status.resumed) == ((None, 1) if "progress" in name else (5, 0))
    (run / "error.txt").write_text("it broke")
    assert look(run).why.startswith("it broke; cannot" if "progress" in name else "it broke")
    assert main(["status", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "run: it broke" in shown
    assert shown.endswith("the cost of 1 run is not known\n")


def test_time_left_is_shared_by_those_at_work(tmp_path):
    done = Status(tmp_path / "a", "done", seconds=10.0)
    at_work = [
        Status(tmp_path / name, "training", step=5, steps=10, seconds_left=5.0, owner=name)
        for name in "bc"
    ]
    waiting = Status(tmp_path / "d", "waiting")
    work = {tmp_path / name: 1.0 for name in "abcd"}
    left = seconds_left([done, *at_work, waiting], work)
    assert left == pytest.approx(10.0)  # two halves and a whole at 0.1 a second, by two
    done = dataclasses.replace(done, seconds=5.0)  # its share of the 10 that two took together
    together = [dataclasses.replace(status, owner="p") for status in at_work]
    left = seconds_left([done, *together, waiting], work)
    assert left == pytest.approx(10.0)  # at 0.2 a second, by one
    assert seconds_left([waiting], work) is None
    assert seconds_left([done], work) == 0.0


@pytest.mark.slow
def test_what_nobody_works_on_has_no_time_left(tiny, tmp_path):
    """Also where runs that are done tell a speed; with somebody at work it has."""
    train_and_evaluate(tiny, tmp_path / "done")
    run = begun(tmp_path, tiny, "cut")
    board = Board(lambda: {tmp_path / "done": 1.0, run: 1.0})
    assert board.line(board.look()) == "1 done, 1 interrupted"
    with claims.claimed(run):
        assert board.line(board.look()).startswith("1 done, 1 training, ")


def test_a_watch_ends_though_some_weights_were_imported(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("resjax.cli.commands.status.time.sleep", pytest.fail)
    (begun(tmp_path, tiny, "from elsewhere") / "imported.json").write_text("{}")
    (begun(tmp_path, tiny, "failed") / "error.txt").write_text("it broke")
    assert main(["status", str(tmp_path), "--watch"]) == 0


def test_a_watch_shows_the_runs_that_begin_while_it_lasts(tiny, tmp_path, monkeypatch, capsys):
    def begin(name):
        begun(tmp_path, tiny, name)

    def fail(name):
        (tmp_path / name / "error.txt").write_text("it broke")

    begin("first")
    events = iter([(fail, "first"), (begin, "second"), (fail, "second")])
    monkeypatch.setattr("resjax.cli.commands.status.SECONDS_FOR_ANOTHER", 0.5)
    monkeypatch.setattr("resjax.cli.terminal.live.SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(
        "resjax.cli.commands.status.time.sleep",
        lambda _: [happens(name) for happens, name in itertools.islice(events, 1)],
    )
    assert main(["status", str(tmp_path), "--watch"]) == 0
    shown = capsys.readouterr().out
    assert "1/1 first: failed: it broke\n2/2 second: failed: it broke\n" in shown
    assert re.search("first +failed.*second +failed.*\n2 failed", shown, re.S)


def test_the_rows_that_fit_have_what_is_at_work_and_what_failed(tmp_path):
    states = ["done"] * 40 + ["training"] + ["waiting"] * 40
    states[3] = "failed"
    statuses = [
        Status(tmp_path / str(n), state, owner="p" if state == "training" else None)
        for n, state in enumerate(states)
    ]
    rows = shown(statuses)
    assert len(rows) == MOST_ROWS
    assert {"training", "failed", "done", "waiting"} == {status.state for status in rows}
    assert [int(status.directory.name) for status in rows] == sorted(
        int(status.directory.name) for status in rows
    )


def test_a_board_looks_at_what_has_ended_once(tiny, tmp_path, monkeypatch):
    train_and_evaluate(tiny, tmp_path / "done")
    work, looked = {tmp_path / "done": 1.0, tmp_path / "other": 1.0}, []
    board = Board(lambda: work)
    monkeypatch.setattr(
        "resjax.cli.terminal.board.look", lambda path: looked.append(path.name) or look(path)
    )
    for _ in range(3):
        board.look()
    assert looked == ["done", "other", "other", "other"]


@pytest.mark.parametrize(("seconds", "text"), [
    (0.4, "0 s"), (59, "59 s"), (125, "2 min 05 s"), (7500, "2 h 05 min"), (180_000, "2 d 2 h"),
])  # fmt: skip
def test_lengths_of_time_to_read(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0.0003, "0.3 ms"), (0.2, "0.2 s"), (9.94, "9.9 s"), (9.96, "10 s"), (125, "2 min 05 s"),
])  # fmt: skip
def test_short_times_that_were_taken_have_a_digit_more(seconds, text):
    assert time_taken(seconds) == text


def test_the_time_in_all_and_the_time_left_have_a_column_each(tmp_path):
    statuses = [
        Status(tmp_path / "done", "done", seconds=0.2),
        Status(tmp_path / "cut", "training", step=1, steps=2, seconds_left=75.0),
    ]
    table = status_rows(statuses, {}, None)
    columns = {str(column.header): [*map(str, column.cells)] for column in table.columns}
    assert columns["in all"] == ["0.2 s", ""]
    assert columns["left"] == ["", "1 min 15 s"]


def test_the_cost_of_a_grid_is_told_by_the_speed_of_what_is_done(tiny, tmp_path):
    deep = tiny.copy_and_resolve_references()
    deep.model.depth = 20
    work = work_of({tmp_path / "a": tiny, tmp_path / "b": deep})
    first, second = work.values()
    assert first.total == 3 * first.multiply_adds * 20 * 100
    done = Status(tmp_path / "a", "done", seconds=2.0)
    seconds = seconds_of([done, Status(tmp_path / "b", "waiting")], work)
    assert seconds[tmp_path / "b"] == pytest.approx(2.0 * second.total / first.total)


def test_status_and_dry_run_from_the_command_line(tiny, tmp_path, capsys):
    words = ["sweep", "--config=experiments/degradation.py", f"--workdir={tmp_path}",
             "--sweep=", "--axis", "model.shortcut=none,identity"]  # fmt: skip
    words = [word for word in words if word != "--sweep="] + ["--sweep=seed", "--seeds=1"]
    assert main([*words, "--dry-run", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["state"] for line in lines] == ["waiting", "waiting"]
    assert not any(tmp_path.iterdir())
    begun(tmp_path, tiny, "half")
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "interrupted"
    assert main(["status", str(tmp_path)]) == 0
    assert "1 interrupted" in capsys.readouterr().out


def test_status_tells_what_the_runs_have_cost(tiny, tmp_path, capsys):
    seconds = train_and_evaluate(tiny, tmp_path / "done").seconds
    begun(tmp_path, tiny, "early")  # by a version that did not note what counts
    assert main(["status", str(tmp_path), "--json"]) == 0
    done, early = map(json.loads, capsys.readouterr().out.splitlines())
    assert early["cost"] is None
    cost = done["cost"]
    assert cost["device_seconds"] == pytest.approx(seconds["train"] + seconds["eval"], abs=1e-5)
    assert cost["compile_seconds"] == pytest.approx(seconds["compile"], abs=1e-5)
    assert (cost["lost_seconds"], cost["interruptions"]) == (0.0, 0)
    assert main(["status", str(tmp_path)]) == 0
    *_, told, last = capsys.readouterr().out.splitlines()
    assert last.startswith("1 run left, and no process at work; run the command again")
    assert told == (
        f"compile {cost['compile_seconds']:,.1f} s, "
        f"train + eval {cost['device_seconds']:,.1f} device seconds; "
        "the cost of 1 run is not known"
    )


def test_a_run_that_goes_on_and_still_compiles_has_no_speed(tiny, tmp_path):
    with claims.claimed(tmp_path):
        rundir.begin_run(tmp_path, tiny)
        progress = {"at": 1.0, "phase": "compiling", "step": 36, "steps": 100}
        rundir.write_progress(tmp_path, progress)
        status = look(tmp_path)
    assert (status.state, status.step, status.seconds_left) == ("compiling", 36, None)
