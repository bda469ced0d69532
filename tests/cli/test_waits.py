"""Whoever waits for a compiler is told for what, and for how long."""

import io
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from resjax.cli.terminal import waits as terminal
from resjax.cli.terminal.board import Board
from resjax.cli.terminal.live import Display, Watch
from resjax.config import default_config
from resjax.ops import native
from resjax.runs import claims, planned, rundir
from resjax.runs.summary import Outcome, Progress, Summary
from resjax.training.programs import program
from resjax.waits import current, waiting
from tests.report.fabricate import begin_run, write_run

SUMMARY = Summary(0.5, 1.0, 0.25, 1.0, 10, 10, 10, {"compile": 1.0, "train": 2.0, "eval": 0.5})


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def wait_display(**console):
    display = terminal.WaitDisplay()
    display.console = Console(file=io.StringIO(), width=120, color_system=None, **console)
    return display, display.console.file


def test_a_line_tells_what_is_waited_for_every_15_s_where_there_is_no_terminal(clock):
    display, told = wait_display()
    with waiting("1/2 plain-8"):
        clock[0] = 10.0
        with waiting("compiling train steps"):
            for clock[0] in (14.0, 16.0, 20.0, 33.0):
                display.look()
    assert told.getvalue().splitlines() == [
        "1/2 plain-8: compiling train steps, 6 s of 16 s",
        "1/2 plain-8: compiling train steps, 23 s of 33 s",
    ]  # fmt: skip
    clock[0] = 60.0
    display.look()  # it is over
    with waiting("compiling"):
        clock[0] = 70.0
        display.look()  # 10 s after
    assert len(told.getvalue().splitlines()) == 2


def test_a_spinner_shows_it_in_a_terminal_until_it_is_over(monkeypatch):
    monkeypatch.setattr(terminal, "SECONDS_UNTIL_SHOWN", 0.1)
    display, told = wait_display(force_terminal=True)
    with waiting("building"):
        display.look()  # too early
        assert not told.getvalue()
        time.sleep(terminal.SECONDS_UNTIL_SHOWN)
        display.look()
        assert "building, 0 s" in told.getvalue()
    display.look()
    assert display.spinner is None
    assert "\x1b[2K" in told.getvalue().rpartition("0 s")[2]  # the line is cleared


def test_the_spinner_is_gone_before_anything_else_is_printed_to_wherever(monkeypatch, capsys):
    told = io.StringIO()
    monkeypatch.setattr(terminal, "SECONDS_UNTIL_SHOWN", 0.0)
    monkeypatch.setattr(
        terminal,
        "plain_console",
        lambda **_: Console(file=told, force_terminal=True, width=80),
    )
    with terminal.shown_waits():
        with waiting("building"):
            deadline = time.monotonic() + 30
            while "building" not in told.getvalue():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            print("to a file")
        assert "\x1b[2K" in told.getvalue().rpartition("building")[2]
    assert capsys.readouterr().out == "to a file\n"
    assert "to a file" not in told.getvalue()


def test_while_the_next_run_compiles_the_lines_count_its_seconds_and_the_time_left(tmp_path, clock):
    runs = {tmp_path / "20": 20.0, tmp_path / "60": 60.0}
    configs = dict.fromkeys(runs, default_config())
    planned.record(configs, lambda: runs)
    view = Display(configs)
    view.console = Console(file=io.StringIO(), width=120)
    display, _ = wait_display()
    first, second = runs
    with view:
        view.started(first)
        clock[0] = 20.0
        view.finished(Outcome(first, SUMMARY))  # a third of the work of the other
        view.started(second)
        view.progressed(second, Progress("compiling", 0, 10, 0.0, 1.0, None))
        for clock[0] in (30.0, 36.0, 52.0):
            display.look()
        view.progressed(second, Progress("training", 1, 10, 0.1, 1.0, 1.0))
        assert not current()
    lines = view.console.file.getvalue().splitlines()
    assert [line for line in lines if "2/2 60: starting" in line] == [
        "2/2 60: starting, 10 s, 50 s left",
        "2/2 60: starting, 32 s, 28 s left",
    ]


def test_a_board_shows_the_wait_and_its_time_left_counts_on(tmp_path, clock, monkeypatch):
    write_run(tmp_path, "8", 0.1)  # 3.5 s in all
    begin_run(tmp_path, "20")
    monkeypatch.setattr(claims, "owner", lambda run: "this process")
    rundir.write_progress(
        tmp_path / "20",
        {"phase": "compiling", "at": time.time() - 40, "step": 0, "steps": 9, "epoch": 0,
         "epochs": 1, "loss": None},
    )  # fmt: skip
    board = Board(lambda: {tmp_path / "8": 1.0, tmp_path / "20": 20.0})

    def drawn():
        console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
        console.print(board)
        return console.file.getvalue()

    with waiting("2/2 20"), waiting("compiling eval step"):
        first = drawn()
        clock[0] = 30.0
        second = drawn()
    assert "compiling 40 s" in first
    assert "1 min 10 s left" in first
    assert "40 s left" in second
    assert "2/2 20: compiling eval step, 30 s" in second


def test_a_line_about_all_runs_names_those_that_other_processes_compile_for_long(
    tmp_path, clock, monkeypatch
):
    write_run(tmp_path, "8", 0.1)
    begin_run(tmp_path, "20")
    monkeypatch.setattr(claims, "owner", lambda run: "another")
    progress = {"phase": "compiling", "at": time.time() - 40, "step": 0, "steps": 9, "epoch": 0,
                "epochs": 1, "loss": None}  # fmt: skip
    rundir.write_progress(tmp_path / "20", progress)
    watch = Watch(Board(lambda: {tmp_path / "20": 1.0}))
    watch.console = Console(file=io.StringIO(), width=120)
    clock[0] = 11.0
    watch.tell()
    assert watch.console.file.getvalue() == "1 compiling (compiling: 20 for 40 s)\n"


def test_programs_and_kernels_tell_that_they_are_being_built(monkeypatch, tmp_path):
    seen = []

    def train_steps():
        pass

    def see(*_, **__):
        seen.extend(wait.what for wait in current())
        return SimpleNamespace(compile=lambda: None)

    program(train_steps, (), (), lambda function: SimpleNamespace(lower=see))
    monkeypatch.setattr(native, "_library", lambda compiler: (tmp_path / "native" / "x.so", []))
    monkeypatch.setattr(native, "_compile", see)
    native._build(("c++",))
    assert seen == ["compiling train steps", "building CPU kernels, once on a machine"]
    assert not current()
