import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import pytest

from resjax.cli.commands.bench import Measurements
from resjax.cli.main import main
from resjax.models.build import preset
from resjax.training import benchmark
from resjax.training.benchmark import (
    PASSES,
    compile_training,
    measure_training,
    training_memory,
)
from resjax.training.feeds import ResidentFeed
from resjax.training.parallel import Parallel
from resjax.training.plan import make_plan


class Program:
    """Stand-in for training steps whose calls take given seconds of its own clock."""

    def __init__(self, durations):
        self.now, self.durations = 0.0, iter(durations)

    def __call__(self, state):
        self.now += next(self.durations)
        return state

    def memory_analysis(self):
        names = ("argument", "temp", "output", "alias")
        return SimpleNamespace(**{f"{name}_size_in_bytes": 0 for name in names})

    def perf_counter(self):
        return self.now


@pytest.fixture
def measured(tiny, monkeypatch):
    """Measurement of 20 steps, called at once on two devices of one FLOP/s, in 10 to 20 s."""
    program, plan = Program([1, 1, 10, 20, 20, 20, 20]), make_plan(tiny)
    plan = dataclasses.replace(plan, steps_per_call=50, parallel=Parallel((*jax.devices(),) * 2))
    stand_ins = {
        "make_plan": lambda _: plan,
        "compile_training": lambda _: (program, (SimpleNamespace(params={}),), 0.0),
        "time": program,
        "_matrix_product_speed": lambda _: 1.0,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(benchmark, name, stand_in)
    return measure_training(tiny, seconds=0.0)


def test_a_call_is_divided_by_the_steps_that_it_takes(measured):
    assert measured.step_ms == pytest.approx(1e3 * 20 / 20)


def test_the_spread_lies_within_the_measured_times(measured):
    low, high = measured.step_ms_spread
    assert 1e3 * 10 / 20 <= low < high <= measured.step_ms


def test_the_peak_is_that_of_all_devices_whose_number_is_printed(measured, capsys):
    number = 2 * len(jax.devices())
    assert measured.peak_flops_per_second == number
    with Measurements(as_json=False) as table:
        table.add(measured)
    assert f" on {number} devices ({jax.devices()[0].device_kind}); " in capsys.readouterr().out


def test_the_table_says_of_what_its_quantiles_are(measured, capsys):
    with Measurements(as_json=False) as table:
        table.add(measured)
    above, below = capsys.readouterr().out.splitlines()[1:3]
    assert ("step ms, 10 %" in above, "to 90 % quantile" in below) == (True, True)


@pytest.mark.slow
def test_the_numbers_of_a_measurement_fit_each_other(tiny):
    told = []
    got = measure_training(tiny, seconds=0.1, tell=told.append)
    assert told == ["compiling", "measuring"]
    low, high = got.step_ms_spread
    assert 0 < low <= got.step_ms <= high
    assert got.images_per_second == pytest.approx(1e3 * got.batch_size / got.step_ms)
    flops = 2 * PASSES * got.multiply_adds * got.images_per_second
    assert got.flops_per_second == pytest.approx(flops)
    # State and data are held, and a step needs more than that.
    assert got.peak_memory_bytes > got.temporary_memory_bytes > 0
    assert got.peak_memory_bytes > 8 * got.params
    assert math.isclose(got.share_of_peak, got.flops_per_second / got.peak_flops_per_second)


def test_no_workers_read_ahead_once_a_step_to_measure_is_compiled(tiny, monkeypatch):
    closed = []
    monkeypatch.setattr(ResidentFeed, "close", lambda feed: closed.append(feed))
    step, arguments, _ = compile_training(make_plan(tiny))
    assert len(closed) == 1
    jax.block_until_ready(step(*arguments))  # which need it no more


@pytest.mark.slow
def test_bench_prints_a_row_or_a_line_for_each_depth(capsys, tmp_path):
    words = ["bench", "--config=experiments/speed.py", "--depths=8,14", "--seconds=0.05",
             "--config.model.width=2", "--config.train.batch_size=4"]  # fmt: skip
    assert main([*words, "--json", f"--trace={tmp_path}"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["depth"] for line in lines] == [8, 14]
    assert {"images_per_second", "step_ms", "compile_seconds", "peak_memory_bytes",
            "flops_per_second", "share_of_peak"} <= lines[0].keys()  # fmt: skip
    assert lines[0]["params"] < lines[1]["params"]
    assert {path.name for path in tmp_path.iterdir()} == {"depth-8", "depth-14"}
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "images" in table
    assert [row.split()[0] for row in table.splitlines()[-2:]] == ["8", "14"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--depths=8,x"], "'x' is not a positive number"),
        (["--depths=8,9"], "CIFAR depth 9 is not 6n+2"),
        (["--seconds=soon"], "'soon' is not a number of seconds, such as 5"),
    ],
)
def test_what_cannot_be_measured_is_refused(words, message, capsys):
    assert main(["bench", "--config=experiments/speed.py", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_describe_tells_the_memory_of_a_training_step(capsys):
    words = ["describe", "cifar-resnet20", "--memory", "--size=8", "--config.train.batch_size=2"]
    assert main([*words, "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["training_memory"]
    assert memory["computed_again"] > 0
    assert memory["kept"] > 0
    assert main(words) == 0
    assert "temporary memory of a training step of 2 images" in capsys.readouterr().out


@pytest.mark.slow
def test_computing_blocks_again_saves_most_of_the_memory_of_a_deep_net():
    config, image_shape, classes = preset("cifar-resnet1202")
    kept, again = (
        training_memory(config, classes, image_shape, 16, remat) for remat in (False, True)
    )
    # What has to stay, whatever is computed again: the input of every block, and all gradients.
    inputs = 4 * 16 * (199 * 32 * 32 * 16 + 199 * 16 * 16 * 32 + 199 * 8 * 8 * 64)
    assert inputs < again < 0.3 * kept
