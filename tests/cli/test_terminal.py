import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from resjax.cli.commands.train import print_plan
from resjax.cli.commands.weights import print_predictions, print_scores
from resjax.cli.main import main
from resjax.cli.terminal import live
from resjax.cli.terminal.board import Board
from resjax.cli.terminal.lines import plain_console, say, shortened, tell
from resjax.cli.terminal.live import Display
from resjax.cli.terminal.tables import literal
from resjax.config import default_config
from resjax.config.text import printable
from resjax.interop.predicting import Prediction
from resjax.interop.scoring import ClassScore, Scores
from resjax.models.summary import count_multiply_adds, count_parameters
from resjax.models.trace import variable_shapes
from resjax.runs import planned
from resjax.runs.summary import Outcome, Progress, Summary
from resjax.training.plan import make_plan
from tests.report.fabricate import fail_run, write_run

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

SUMMARY = Summary(0.5, 1.0, 0.25, 1.0, 10, 10, 10, {"compile": 1.0, "train": 2.0, "eval": 0.5})


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def shown(tmp_path, work):
    """The view of a sweep of runs with so much work, and their directories."""
    runs = {tmp_path / f"[red]{own}": float(own) for own in work}
    configs = dict.fromkeys(runs, default_config())
    planned.record(configs, lambda: runs)
    view = Display(configs)
    view.console = Console(file=io.StringIO(), markup=False, highlight=False, width=200)
    return view, list(runs)


def training(step, loss=1.5):
    return Progress("training", step, 100, step / 10, 10.0, loss)


def test_plain_lines_tell_the_run_the_epoch_the_loss_and_the_time_left(tmp_path, clock):
    view, runs = shown(tmp_path, (20, 60))
    with view:
        clock[0] = 15.0
        view.progressed(runs[0], training(1))  # of 15 s of compilation nothing can be told
        clock[0] = 30.0
        view.finished(Outcome(runs[0], SUMMARY))
        clock[0] = 45.0
        view.progressed(runs[1], training(50))  # 50 of 80 in 45 s: 27 s are left
        view.progressed(runs[1], training(51))  # too soon for another line
    lines = view.console.file.getvalue().splitlines()
    assert lines == [
        "1/2 [red]20: epoch 0.1/10 loss 1.500",
        "1/2 [red]20: error: train 50.00 %, test 25.00 %, 3.5 s in all",
        "2/2 [red]60: epoch 5.0/10 loss 1.500, 27 s left",
    ]


def test_the_time_left_of_the_only_run_leaves_out_compilation_and_what_is_done(tmp_path, clock):
    for name in ("config.json", "result.json"):
        path = tmp_path / "[red]60" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    view, runs = shown(tmp_path, (20, 60))
    view.started(runs[0])
    clock[0] = 100.0
    view.progressed(runs[0], training(10))
    clock[0] = 130.0
    view.progressed(runs[0], training(40))  # 30 steps in 30 s
    first, second = view.console.file.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith("1 min 00 s left")


@pytest.mark.parametrize(("epochs", "text"), [
    (10.0, "5.0/10"), (0.14, "5.0/0.1"), (2.5, "5.0/2.5"), (0.04, "5.0/0.0"),
])  # fmt: skip
def test_epochs_to_read(tmp_path, clock, epochs, text):
    view, runs = shown(tmp_path, (20,))
    clock[0] = 15.0
    view.progressed(runs[0], Progress("training", 50, 100, 5.0, epochs, None))
    assert view.console.file.getvalue() == f"1/1 [red]20: epoch {text}\n"


def test_endings_of_runs(tmp_path, clock):
    view, runs = shown(tmp_path, (20,))
    view.finished(Outcome(runs[0], SUMMARY, skipped=True))
    view.finished(Outcome(runs[0], None, "the loss became nan"))
    assert view.console.file.getvalue().splitlines() == [
        "1/1 [red]20: error: train 50.00 %, test 25.00 %, already done",
        "1/1 [red]20: failed: the loss became nan",
    ]


@pytest.mark.parametrize(("keys", "expected"), [
    ({}, "1 device (cpu) on 1 host: batches of 60, 60 on a device, BatchNorm over 60 examples"),
    ({"train.micro_batches": 3, "norm.examples": 10}, "3 x 20 on a device, BatchNorm over 10"),
    ({"norm.kind": "none"}, "60 on a device, no batch normalisation"),
])  # fmt: skip
def test_a_run_tells_first_on_what_it_will_run(tiny, capsys, keys, expected):
    tiny.train.batch_size = 60
    tiny.update_from_flattened_dict(keys)
    print_plan(make_plan(tiny))
    first, second, third = capsys.readouterr().err.splitlines()
    assert expected in first
    plan = make_plan(tiny)
    params = count_parameters(variable_shapes(plan.model, (8, 8, 1))["params"])
    multiply_adds = 3 * 60 * count_multiply_adds(plan.model, (8, 8, 1))
    assert second == (
        f"identity 8: {params:,} parameters, {multiply_adds:,} multiply-adds a step "
        "(forward and backward)"
    )
    assert third == "digits: 1,437 images of 8x8x1, resident: 0.1 MB on every device"


def test_on_other_hosts_nothing_is_shown(tmp_path, capsys):
    run = tmp_path / "run"
    with Display({run: default_config()}, silent=True) as view:
        view.started(run)
        view.finished(Outcome(run, SUMMARY))
    assert capsys.readouterr().err == ""


@pytest.fixture
def sweep(tmp_path):
    """Runs of three seeds with long names, one failed."""
    for shortcut, errors in (("none", (0.5, 0.41, 0.63)), ("projection_all", (0.1, 0.12, 0.19))):
        for depth in (8, 56):
            for seed, error in enumerate(errors):
                write_run(
                    tmp_path, f"{shortcut}-{depth}-seed{seed}-1cd5ab2a", error * depth / 56,
                    model__shortcut=shortcut, model__depth=depth, seed=seed,
                    model__stochastic_depth=0.25, norm__examples=8 if shortcut == "none" else 0,
                )  # fmt: skip
    fail_run(tmp_path / "none-8-seed0-1cd5ab2a", "the training loss became nan, " + 30 * "as said ")
    return tmp_path


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ["status"], ["report"], ["doctor"],
    ["sweep", "--dry-run", f"--config={EXPERIMENT}", "--sweep=shortcut", "--config.model.depth=8",
     "--axis=optim.learning_rate=0.01,0.015625", "--axis=train.duration=2 epochs,3 epochs",
     "--only=shortcut=projection_all"],
], ids=lambda words: words[0])  # fmt: skip
def test_a_terminal_of_80_columns_shows_every_number_whole(words, sweep, monkeypatch, capsys):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)  # figures take seconds
    words = [*words, *([f"--workdir={sweep}"] if words[0] == "sweep" else [str(sweep)])]
    main(words)
    elsewhere = capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    main(words)
    shown = plain(capsys.readouterr().out)
    lines = [line.rstrip() for line in shown.splitlines() if str(sweep) not in line]
    assert max(map(len, lines)) <= 80, shown
    for number in re.findall(r"\b\d[\d,]*\.?\d*\b", re.sub(r"\S*-\S*-\S*", "", elsewhere)):
        assert number in shown
    assert "…" not in shown


def test_in_a_narrow_terminal_names_are_broken_after_a_hyphen(sweep, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "55")
    main(["status", str(sweep)])
    shown = plain(capsys.readouterr().out)
    names = [path.name for path in sweep.iterdir()]
    starts = [line.split()[0] for line in shown.splitlines() if line.startswith("projection_all-")]
    assert len(starts) == 6
    assert all(any(name.startswith(start) for name in names) for start in starts)
    assert all(start.endswith("-") for start in starts), shown
    assert all(len(line.rstrip()) <= 55 for line in shown.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet152", "cifar-resnet1202"])
def test_the_parts_of_a_network_fit_into_80_columns(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["describe", name]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize("terminal", ["", "1"])
def test_long_names_of_classes_cut_no_number(terminal, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    name, other = "American Staffordshire terrier, pit bull terrier", "Staffordshire bullterrier"
    scores = (ClassScore(name, 10, 3, other), ClassScore(other, 1234, 1, 2 * name))
    print_scores(Scores(1244, 2, 0.9, None, 0.5, 0.1, True, scores), default_config().data)
    print_predictions([Prediction(Path("a.png"), ((2 * name, 0.875), (other, 0.125)))], False)
    shown = plain(capsys.readouterr().out)
    for number in ("90.00 %", " 10 ", "70.00", "1,234", "99.92", "87.50 %", "12.50 %"):
        assert number in shown
    assert "…" not in shown
    assert not re.search(r" \n", shown)


def test_the_live_board_shortens_names_and_nothing_else(sweep):
    board = Board(lambda: dict.fromkeys(sorted(sweep.iterdir()), 1.0))
    console = Console(file=io.StringIO(), width=66, force_terminal=True, color_system=None)
    console.print(board)
    *rows, line = plain(console.file.getvalue()).splitlines()
    assert line.rstrip() == "11 done, 1 failed"
    assert all(len(row) <= 66 for row in rows)
    assert all("…" not in row.split(" ", 1)[1] for row in rows)
    assert sum("…" in row for row in rows) == 6  # of projection_all; the others fit


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20) | st.sampled_from(
    ["[red]b[/red]", "[/]", ":cat:", "\x1b[2Ja", "a\rb", "\u202eab", "\\[bold]"]
)


@given(name=NAMES)
def test_what_a_name_holds_is_shown_and_not_obeyed(name):
    shown = printable(name)
    assert all(letter.isprintable() or letter.isspace() for letter in shown)
    assert not any(letter in shown for letter in "\n\r\t\x1b\u202e\u2028")
    console = Console(file=io.StringIO(), width=1000)  # with markup, as none here has
    table = Table(box=None, show_header=False, padding=0)
    table.add_row(literal(name))
    say(f"the class {name}", console=console)
    console.print(table)
    line, row = console.file.getvalue().split("\n")[:2]
    assert (line, row.rstrip()) == (f"the class {shown}", shown.rstrip())


def test_what_stderr_would_show_goes_nowhere_if_that_is_closed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    tell("run 1 of 2")
    say("run 1 of 2", console=plain_console(stderr=True))
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_a_dry_run_has_a_column_of_seconds_only_if_some_are_known(capsys):
    words = ["sweep", "--dry-run", f"--config={EXPERIMENT}", "--only=depth=8"]
    assert main(words) == 0
    assert "in all" not in capsys.readouterr().out
    assert main([*words, "--device=v4-8"]) == 0
    assert re.search("FLOP +train\n", capsys.readouterr().out)


@pytest.mark.parametrize("length", [201, 10_000, pytest.param(200_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("word", ["x", "x ", "é'", "\n", "[red]"])
def test_a_message_quotes_no_more_than_a_person_reads(length, word, capsys):
    text = (length * word)[:length]
    for option in ("--config.model.shortcut", "--config.train.duration", "--config.model.depth",
                   "--config.data.name", "--config.data.area", f"--config.{text}", "--workdir",
                   f"--{text}", "--seeds", "--axis", "--only", "--sweep", "--config"):  # fmt: skip
        code = main(["sweep", f"--config={EXPERIMENT}", "--dry-run", f"{option}={text}"])
        error = capsys.readouterr().err
        if code == 0:  # a directory may have such a name
            continue
        assert error.startswith("resjax: ")
        assert error.count("\n") == 1
        assert len(error) < 1100
        if " " not in text:
            assert len(error) < 700, error
            assert text not in error


def test_a_message_that_is_not_long_is_whole():
    path = "/" + 190 * "x"
    text = f"cannot read {path} ([red] is no number); take another"
    assert shortened(text) == text
    assert shortened(f"{200 * 'y'}; take another") == f"{200 * 'y'}; take another"
    assert shortened(f"'{201 * 'y'}'; take another") == f"'{199 * 'y'}...'; take another"
