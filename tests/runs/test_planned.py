"""What a sweep plans is recorded in its directory, for those who look at it from outside."""

import dataclasses
import json
import re
import shutil
import time
import types
from urllib.parse import unquote

import pytest

from resjax.buckets.places import Copy
from resjax.cli.commands import status
from resjax.cli.main import main
from resjax.cli.terminal.board import MOST_ROWS, Board
from resjax.config import default_config
from resjax.config.addresses import Address
from resjax.config.text import clock
from resjax.exits import EXIT_INTERRUPTED
from resjax.report.report import read_sweep
from resjax.runs import claims, disk, doctor, planned, rundir
from resjax.runs.estimate import total_work
from resjax.runs.planned import planned_in, planned_work, work_in
from resjax.runs.plans import Plans
from resjax.runs.scratch import workplace
from resjax.runs.status import Status
from tests.buckets.fixtures import uploaded
from tests.report.fabricate import begin_run, fail_run, write_run

SWEEP = (
    "-m", "resjax", "sweep", "--config=experiments/degradation.py", "--sweep=shortcut",
    "--config.model.width=2", "--config.model.depth=8", "--config.eval.every=30 steps",
    "--config.checkpoint.seconds=0.2", "--jobs=1",
)  # fmt: skip


def grid(workdir, *names, work=8.0):
    return {workdir / name: work for name in names}


def record(work):
    planned.record(dict.fromkeys(work, default_config()), lambda: work)


def files(workdir):
    return {path: path.stat().st_mtime_ns for path in workdir.glob(planned.FILES)}


def told(capsys, *words):
    """What a command prints to stdout; it must succeed."""
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


# ------------------------------------------------------------------------------------ the record


def test_sweeps_that_share_a_directory_have_a_plan_each_and_all_count(tmp_path):
    record(grid(tmp_path, "b", "a"))
    first = files(tmp_path)
    record(grid(tmp_path, "b", "a"))
    assert files(tmp_path) == first
    record(grid(tmp_path, "a", "c") | grid(tmp_path, "d", work=20.0))
    assert len(files(tmp_path)) == 2
    assert files(tmp_path).items() > first.items()
    assert planned_in(tmp_path) == grid(tmp_path, *"abc") | grid(tmp_path, "d", work=20.0)


def test_fewer_runs_take_none_back_until_their_plan_is_removed(tmp_path, capsys):
    record(grid(tmp_path, "a", "b", "c"))
    record(grid(tmp_path, "a"))
    write_run(tmp_path, "a", 0.1)
    said = told(capsys, "status", tmp_path)
    assert "\n1 done, 2 waiting\n" in said
    assert f"remove {tmp_path / 'planned'} to forget" in " ".join(said.split())
    shutil.rmtree(tmp_path / "planned")
    assert "\n1 done\n" in told(capsys, "status", tmp_path)


def test_what_has_ended_is_not_planned(tmp_path):
    write_run(tmp_path, "a", 0.1)
    fail_run(begin_run(tmp_path, "b"))
    record(grid(tmp_path, "a", "b"))
    assert not (tmp_path / "planned").exists()


def test_a_damaged_plan_is_left_out_until_its_sweep_writes_it_again(tmp_path):
    runs = grid(tmp_path, "a", "b")
    record(runs)
    [path] = files(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"a"', b'"x"'))
    assert planned_in(tmp_path) == {}
    record(runs)
    assert path.read_bytes() == whole


def test_a_board_from_outside_weighs_and_orders_the_runs_as_that_of_the_sweep(tmp_path):
    runs = grid(tmp_path, "z", work=56.0) | grid(tmp_path, "a", "m")
    record(runs)
    begin_run(tmp_path, "m")
    assert list(work_in(tmp_path).items()) == list(planned_work(runs).items()) == [*runs.items()]
    begin_run(tmp_path, "another")
    assert work_in(tmp_path)[tmp_path / "another"] == 8.0  # the median


def test_the_work_of_a_plan_that_is_there_is_not_computed_again(tmp_path):
    runs = grid(tmp_path, "a", "b")
    record(runs)
    planned.record(dict.fromkeys(runs, default_config()), pytest.fail)


def test_runs_of_a_plan_of_an_earlier_version_are_shown_and_their_work_is_unknown(tmp_path):
    (tmp_path / "planned").mkdir()
    disk.write_json(tmp_path / "planned" / "0.json", {"runs": {"a": 20, "b": 8}})
    unknown = grid(tmp_path, "a", "b", work=1.0)
    assert work_in(tmp_path) == planned_work(unknown) == unknown
    record(grid(tmp_path, "b", "c", work=3e9))  # between two of that in the order of their names
    (tmp_path / "planned" / "z.json").write_bytes((tmp_path / "planned" / "0.json").read_bytes())
    known = grid(tmp_path, "b", "c", work=3e9)
    assert planned_in(tmp_path) == grid(tmp_path, "a", work=None) | known
    assert work_in(tmp_path) == grid(tmp_path, *"abc", work=3e9)


def test_the_time_left_of_runs_of_other_widths_and_durations_is_that_of_their_work(tmp_path):
    runs = {tmp_path / name: default_config() for name in "abc"}
    for config, width, steps in zip(runs.values(), (16, 32, 16), (10, 10, 40), strict=True):
        config.model.width, config.train.duration = width, f"{steps} steps"
    planned.record(runs, lambda: total_work(runs, Plans()))
    board = Board(lambda: work_in(tmp_path))
    first, wide, long = board.work.values()
    assert long == 4 * first
    assert wide / first == pytest.approx(4, rel=0.1)
    done = Status(tmp_path / "a", "done", seconds=60.0)
    training = Status(tmp_path / "b", "training", step=0, steps=10, owner="p")
    waiting = Status(tmp_path / "c", "waiting")
    left = 60 * (wide + long) / first
    assert f", {clock(left)} left" in board.line([done, training, waiting])


def test_a_run_that_was_removed_is_waiting_again_only_if_it_is_planned(tmp_path, capsys):
    record(grid(tmp_path, "a", "b"))
    for name in ("a", "other"):
        shutil.rmtree(begin_run(tmp_path, name))
    states = [json.loads(line) for line in told(capsys, "status", "--json", tmp_path).splitlines()]
    assert [(each["directory"], each["state"]) for each in states] == [
        (str(tmp_path / name), "waiting") for name in "ab"
    ]


def test_a_plan_is_no_run(tmp_path):
    record(grid(tmp_path, "a", "b"))
    run = write_run(tmp_path, "a", 0.1)
    assert rundir.runs_in(tmp_path) == [run]
    assert [finding.directory for finding in doctor.examine_all(tmp_path)] == [run]
    assert [each.name for each in read_sweep(tmp_path).runs] == ["a"]
    assert read_sweep(tmp_path).missing == []


def test_a_run_has_no_plan(tmp_path):
    record(grid(tmp_path / "run", "a"))
    run = begin_run(tmp_path / "other", "run")
    shutil.copytree(tmp_path / "run" / "planned", run / "planned")
    assert work_in(run) == {run: 1.0}


# -------------------------------------------------------------------------------------- commands


def test_few_runs_that_wait_have_rows_and_many_a_line(tmp_path, capsys):
    record(grid(tmp_path, *(f"run{n}" for n in range(MOST_ROWS - 1))))
    write_run(tmp_path, "first", 0.1)
    said = told(capsys, "status", tmp_path)
    assert len(re.findall(r"^run\d+ +waiting$", said, re.MULTILINE)) == MOST_ROWS - 1
    assert f"\n1 done, {MOST_ROWS - 1} waiting\n" in said
    record(grid(tmp_path, *(f"more{n}" for n in range(500))))
    said = told(capsys, "status", tmp_path)
    assert f" and {500 + MOST_ROWS - 2} more\n1 done, {500 + MOST_ROWS - 1} waiting\n" in said
    assert len(said.splitlines()) < 8


def test_what_is_at_work_is_not_said_to_be_left_alone(tmp_path, capsys):
    record(grid(tmp_path, "a", "b"))
    run = begin_run(tmp_path, "a")
    assert "2 runs left, and no process at work" in told(capsys, "status", tmp_path)
    with claims.claimed(run):
        assert "left" not in told(capsys, "status", tmp_path)


def test_a_run_of_no_plan_has_a_command_of_its_own(tmp_path, capsys):
    record(grid(tmp_path, "a", "b"))
    begin_run(tmp_path, "alone")
    said = told(capsys, "status", tmp_path)
    assert (
        "3 runs left, and no process at work; run the sweep again, and the command that began 1 run"
        in said
    )


def test_a_report_says_how_many_runs_are_waiting(tmp_path, capsys):
    record(grid(tmp_path, "a", "b", "c"))
    write_run(tmp_path, "a", 0.1)
    assert "not in the table: 2 planned runs (waiting)\n" in told(capsys, "report", tmp_path)


def test_a_watch_ends_with_the_last_planned_run(tmp_path, capsys, monkeypatch):
    """No other is waited for."""
    record(grid(tmp_path, "a", "b"))
    runs = iter(["a", "b"])
    with claims.claimed(tmp_path):  # a process is at work, whatever the runs say
        monkeypatch.setattr(status.time, "sleep", lambda _: write_run(tmp_path, next(runs), 0.1))
        said = told(capsys, "status", "--watch", tmp_path)
    assert next(runs, None) is None
    assert "\n2 done\n" in said


@pytest.fixture
def looks(monkeypatch):
    """The number `taken` of the looks of a watch, one a second; `then` is called with it.

    A watch that does not end by itself is ended after ten minutes, as by Ctrl-C.
    """
    looks, now = types.SimpleNamespace(taken=0, then=lambda taken: None), time.monotonic()

    def look(_):
        looks.taken += 1
        looks.then(looks.taken)
        if looks.taken == 600:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", look)
    monkeypatch.setattr(status.time, "monotonic", lambda: now + looks.taken)
    return looks


IN_A_QUEUE = "no process at work yet, and {} waiting; the watch goes on, and Ctrl-C ends it"


def test_a_watch_of_what_nobody_trains_ends_and_says_so(tmp_path, capsys, looks):
    record(grid(tmp_path, "a", "b"))
    begin_run(tmp_path, "a")
    assert "2 runs left, and no process at work" in told(capsys, "status", "--watch", tmp_path)
    assert looks.taken == pytest.approx(status.SECONDS_FOR_ANOTHER, abs=2)


@pytest.mark.parametrize("below", ["", "a"])
def test_a_watch_of_an_interrupted_run_without_a_plan_ends_and_says_how_to_go_on(
    tmp_path, capsys, looks, below
):
    begin_run(tmp_path, "a")
    last = told(capsys, "status", "--watch", tmp_path / below).splitlines()[-1]
    assert last == ("1 run left, and no process at work; run the command again that began it")
    assert looks.taken == pytest.approx(status.SECONDS_FOR_ANOTHER, abs=2)


def test_a_watch_lasts_while_a_sweep_waits_in_a_queue_and_says_so_once(tmp_path, capsys, looks):
    record(grid(tmp_path, "a", "b", "c"))
    write_run(tmp_path, "a", 0.1)  # that of a narrower grid before

    def train(taken):
        if taken == 200:
            write_run(tmp_path, "b", 0.1)
            write_run(tmp_path, "c", 0.1)

    looks.then = train
    said = told(capsys, "status", "--watch", tmp_path)
    assert said.count(IN_A_QUEUE.format("2 runs")) == 1
    assert "\n3 done\n" in said
    assert looks.taken == 200


def test_a_watch_lasts_for_a_queue_though_a_sweep_beside_it_was_killed(tmp_path, capsys, looks):
    record(grid(tmp_path, "killed", "next"))
    begin_run(tmp_path, "killed")
    record(grid(tmp_path, "queued"))
    assert main(["status", "--watch", str(tmp_path)]) == EXIT_INTERRUPTED
    assert capsys.readouterr().out.count(IN_A_QUEUE.format("1 run")) == 1


def test_the_time_left_is_that_of_the_sweeps_at_work(tmp_path):
    record(grid(tmp_path, "a", "b"))
    record(grid(tmp_path, "given up", "too"))
    board = Board(lambda: work_in(tmp_path), lambda: planned.plans_in(tmp_path))
    done = Status(tmp_path / "a", "done", seconds=60.0)
    training = Status(tmp_path / "b", "training", step=0, steps=10, owner="p", seconds_left=60.0)
    others = [Status(tmp_path / name, "waiting") for name in ("given up", "too")]
    text = board.line([done, training, *others])
    assert text == (
        "1 done, 1 training, 2 waiting, 1 min 00 s left without 2 runs of no sweep at work"
    )
    begun = dataclasses.replace(others[0], state="training", owner="q")
    text = board.line([done, training, begun, others[1]])
    assert text == "1 done, 2 training, 1 waiting, 1 min 30 s left"  # three runs by two processes


@pytest.mark.slow
def test_a_sweep_that_is_killed_leaves_word_of_what_is_waiting_and_goes_on(zygote, tmp_path):
    words = [*SWEEP, f"--workdir={tmp_path}", "--config.train.duration=90 steps"]
    process = zygote.start(*words)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/*/checkpoint.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    before = files(tmp_path)

    def states():
        said = zygote.run("-m", "resjax", "status", "--json", tmp_path).stdout
        return [json.loads(line)["state"] for line in said.splitlines()]

    assert states()[-1] == "waiting"
    assert len(states()) == 4
    assert zygote.run(*words).returncode == 0
    assert states() == 4 * ["done"]
    assert files(tmp_path) == before
    watched = zygote.run("-m", "resjax", "status", "--watch", tmp_path)
    assert "4 done" in watched.stdout


# --------------------------------------------------------------------------------------- buckets


@pytest.mark.usefixtures("copies")
def test_a_bucket_has_the_plan_once_whoever_plans_it(bucket, fresh, tmp_path, capsys):
    address = Address.of(bucket.address(fresh))
    for machine in ("here", "there"):
        place = workplace(address, tmp_path / machine)
        bucket.faults.seen.clear()
        record(grid(place, "a", "b"))
        asked = [(how, unquote(path)) for how, path in bucket.faults.seen]
        puts = [path for how, path in asked if how in ("PUT", "POST")]
        assert len(puts) == (machine == "here"), asked
    uploaded(write_run(tmp_path, "a", 0.1), f"{address}/a")
    assert "\n1 done, 1 waiting\n" in (said := told(capsys, "status", address))
    assert f"remove {address}/planned to forget" in " ".join(said.split())
    states = [json.loads(line) for line in told(capsys, "status", "--json", address).splitlines()]
    assert [(each["directory"], each["state"]) for each in states] == [
        (f"{address}/a", "done"), (f"{address}/b", "waiting"),
    ]  # fmt: skip
    assert "not in the table: 1 planned run (waiting)\n" in told(capsys, "report", address)


@pytest.mark.usefixtures("copies")
def test_a_damaged_plan_in_a_bucket_is_written_again(one_bucket, fresh, tmp_path):
    address = Address.of(one_bucket.address(fresh))
    record(grid(workplace(address, tmp_path / "here"), "a"))
    [path] = files(workplace(address, tmp_path / "here"))
    copy = Copy(address)
    copy.store.put(f"planned/{path.name}", b"{")
    record(grid(workplace(address, tmp_path / "there"), "a"))
    assert copy.store.get(f"planned/{path.name}")[0] == path.read_bytes()


@pytest.mark.usefixtures("copies")
def test_a_watch_of_a_bucket_ends_with_the_last_planned_run(
    one_bucket, fresh, tmp_path, capsys, monkeypatch
):
    address = Address.of(one_bucket.address(fresh))
    record(grid(workplace(address, tmp_path / "scratch"), "a"))
    refresh, looks = Copy.refresh, []

    def ended_at_last(copy, *choices):
        looks.append(copy)
        if len(looks) == 3:
            uploaded(write_run(tmp_path, "a", 0.1), f"{address}/a")
        return refresh(copy, *choices)

    monkeypatch.setattr(status, "SECONDS_BETWEEN_LISTINGS", 0.0)
    monkeypatch.setattr(status.time, "sleep", lambda _: None)
    monkeypatch.setattr(Copy, "refresh", ended_at_last)
    assert "\n1 done\n" in told(capsys, "status", "--watch", address)
    assert len(looks) == 3
