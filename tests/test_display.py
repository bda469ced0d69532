import io

import pytest
from rich.console import Console

from resjax import live
from resjax.config import default_config
from resjax.display import print_plan
from resjax.live import Display
from resjax.models.summary import count_multiply_adds, count_parameters, variable_shapes
from resjax.sweeps.local import Outcome
from resjax.training.plan import prepare
from resjax.training.summary import Progress, Summary

SUMMARY = Summary(0.5, 1.0, 0.25, 1.0, 10, 10, 10, {"compile": 1.0, "train": 2.0, "eval": 0.5})


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    return now


def shown(tmp_path, depths):
    runs = {}
    for depth in depths:
        config = default_config()
        config.model.depth = depth
        runs[tmp_path / f"[red]{depth}"] = config
    view = Display(runs)
    view.console = Console(file=io.StringIO(), markup=False, highlight=False, width=200)
    return view, list(runs)


def training(step, loss=1.5):
    return Progress("training", step, 100, step / 10, 10.0, loss)


def test_plain_lines_tell_the_run_the_epoch_the_loss_and_the_time_left(tmp_path, clock):
    view, runs = shown(tmp_path, (20, 60))
    with view:
        view.started(runs[0])
        clock[0] = 30.0
        view.progressed(runs[0], training(50))  # half of 20 of 80 layers in 30 s: 210 s are left
        view.progressed(runs[0], training(51))  # too soon for another line
        view.finished(Outcome(runs[0], SUMMARY))
    lines = view.console.file.getvalue().splitlines()
    assert lines == [
        "1/2 [red]20: epoch 5.0/10 loss 1.500, 3 min 30 s left",
        "1/2 [red]20: error: train 50.00 %, test 25.00 %, 3.5 s",
    ]


def test_time_left_does_not_count_what_is_done(tmp_path, clock):
    for name in ("config.json", "result.json"):
        path = tmp_path / "[red]60" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    view, runs = shown(tmp_path, (20, 60))
    view.started(runs[0])
    clock[0] = 30.0
    view.progressed(runs[0], training(50))
    assert view.console.file.getvalue().endswith("30 s left\n")


def test_endings_of_runs(tmp_path, clock):
    view, runs = shown(tmp_path, (20,))
    view.finished(Outcome(runs[0], SUMMARY, skipped=True))
    view.finished(Outcome(runs[0], None, "the loss became nan"))
    assert view.console.file.getvalue().splitlines() == [
        "1/1 [red]20: error: train 50.00 %, test 25.00 %, done before",
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
    print_plan(prepare(tiny))
    first, second, third = capsys.readouterr().err.splitlines()
    assert expected in first
    plan = prepare(tiny)
    params = count_parameters(variable_shapes(plan.model, (8, 8, 1))["params"])
    multiply_adds = 3 * 60 * count_multiply_adds(plan.model, (8, 8, 1))
    assert second == (
        f"identity 8: {params:,} parameters, {multiply_adds:,} multiply-adds a step "
        "(forward and backward)"
    )
    assert third == "digits: 1,437 images of 8x8x1, resident: 0.1 MiB on every device"


def test_on_other_hosts_nothing_is_shown(tmp_path, capsys):
    run = tmp_path / "run"
    with Display({run: default_config()}, silent=True) as view:
        view.started(run)
        view.finished(Outcome(run, SUMMARY))
    assert capsys.readouterr().err == ""
