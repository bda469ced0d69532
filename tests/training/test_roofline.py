"""The estimated times of steps on devices that are not here."""

import json

import jax
import jax.numpy as jnp
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.models.build import preset
from resjax.ops.cost import kernels_of
from resjax.training.benchmark import on_made_up_images
from resjax.training.plan import make_plan
from resjax.training.roofline import DEVICES, KNOWN_SPEEDS, estimate


def resnet50(batch_size, dtype="bfloat16", **model):
    config, image_shape, classes = preset("resnet50")
    config.model.update({"dtype": dtype} | model)
    return make_plan(on_made_up_images(config, classes, image_shape, batch_size))


@pytest.mark.slow
@pytest.mark.parametrize("known", KNOWN_SPEEDS, ids=lambda own: f"{own.device} {own.dtype}")
def test_resnet50_is_within_a_factor_of_two_of_known_speeds(known):
    plan = resnet50(known.batch_size, known.dtype)
    found = estimate(plan, known.device).images_per_second
    assert known.images_per_second / 2 < found < 2 * known.images_per_second


@pytest.mark.slow
@pytest.mark.parametrize("unroll", ["1", "all"])
def test_the_arithmetic_of_a_step_is_three_times_that_of_the_forward_pass(unroll):
    """Without the gradient of the images, which nobody needs."""
    plan = resnet50(256, "float32", unroll=unroll)
    _, multiply_adds = plan.sizes
    stem = 112 * 112 * 7 * 7 * 3 * 64
    exact = 2 * (3 * multiply_adds - stem)  # for one image
    assert estimate(plan, "v3-8").flops == 256 / DEVICES["v3-8"].count * exact
    # A GPU fills up the first layer, and in bfloat16 adds products for moments.
    filled = estimate(resnet50(256, unroll=unroll), "a100").flops
    assert 1 < filled / (256 * exact) < 1.06


def kernels(function, *shapes):
    return kernels_of(jax.make_jaxpr(function)(*map(jnp.ones, shapes)).jaxpr)


def test_elementwise_work_is_one_pass_over_memory_whatever_its_length():
    shape = (64, 100)
    size = 4 * 64 * 100

    def moved(function):
        return [own.moved for own in kernels(function, shape, shape).elements()]

    assert moved(lambda x, y: jnp.tanh(x + y) * x - 1) == [3 * size]
    assert moved(lambda x, y: (x + y).sum()) == [2 * size + 4]
    # The sum of x is needed before the second pass over x.
    assert sorted(moved(lambda x, y: (x - x.sum()) * y)) == [size + 4, 3 * size + 4]


def test_sums_of_one_array_are_one_pass_over_it():
    [together] = kernels(lambda x: (x.sum(), jnp.square(x).sum()), (64, 100)).elements()
    assert together.moved == 4 * 64 * 100 + 4


def test_a_product_reads_its_operands_and_writes_its_result():
    [product] = kernels(jnp.matmul, (8, 16), (16, 32))
    assert (product.flops, product.dtype) == (2 * 8 * 16 * 32, "float32")
    assert product.moved == 4 * (8 * 16 + 16 * 32 + 8 * 32)


def test_a_loop_is_its_iterations():
    def loop(x, ws):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0]

    def straight(x, ws):
        for w in ws:
            x = jnp.tanh(x @ w)
        return x

    shapes = (8, 16), (5, 16, 16)

    def total(function):
        found = kernels(function, *shapes)
        return sum(own.flops * times for own, times in found.items())

    assert total(loop) == total(straight) == 5 * 2 * 8 * 16 * 16


def test_more_chips_share_out_a_batch(tiny):
    alone, slices = (estimate(make_plan(tiny), name) for name in ("a100", "v4-8"))
    assert slices.flops < alone.flops / (DEVICES["v4-8"].count - 0.5)


@pytest.mark.slow
def test_describe_says_what_an_estimate_is(capsys):
    words = ["describe", "cifar-resnet8", "--device=a100", "--config.train.batch_size=64"]
    assert main([*words, "--json"]) == 0
    estimates = json.loads(capsys.readouterr().out)["estimates"]
    assert estimates.keys() == {"bfloat16", "float32"}
    for own in estimates.values():
        assert own["step_seconds"] == pytest.approx(sum(own["seconds"].values()))
        assert own["images_per_second"] == pytest.approx(64 / own["step_seconds"])
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "estimate for NVIDIA A100 SXM 80 GB, 1 chip, steps of 64 images" in output
    assert "Not measured" in output
    assert main([*words, "--json", "--config.model.dtype=bfloat16"]) == 0
    assert json.loads(capsys.readouterr().out)["estimates"] == {"bfloat16": estimates["bfloat16"]}


@pytest.mark.slow
def test_unknown_devices_and_options_without_effect_are_refused(capsys, tmp_path):
    assert main(["describe", "resnet18", "--device=v9"]) == 2
    assert "unknown --device 'v9'; choose one of: a100, h100" in capsys.readouterr().err
    sweep = ["sweep", "--config=experiments/degradation.py", f"--workdir={tmp_path}"]
    assert main([*sweep, "--device=a100"]) == 2
    assert "--device=a100 is for --dry-run" in capsys.readouterr().err
    assert main([*sweep, "--dry-run", "--device=v9"]) == 2
    capsys.readouterr()
    assert main(["describe", "resnet18", "--device=v4-8", "--config.train.batch_size=3"]) == 2
    assert "3 images a step cannot be shared by the 4 chips of TPU v4-8; nearest: 4" in (
        capsys.readouterr().err
    )


def test_a_dtype_without_a_peak_is_refused(tiny):
    tiny.model.dtype = "float64"
    with jax.enable_x64(True), pytest.raises(ConfigError, match=r"unknown model\.dtype of a100"):
        estimate(make_plan(tiny), "a100")


def test_the_help_names_every_device(capsys):
    with pytest.raises(SystemExit):
        main(["describe", "--help"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "--device=" in line)
    assert all(name in line for name in DEVICES)


@pytest.mark.slow
def test_a_sweep_is_the_sum_of_the_steps_of_its_runs(capsys, tmp_path):
    words = ["sweep", "--config=experiments/degradation.py", f"--workdir={tmp_path}", "--dry-run",
             "--only=shortcut=none", "--only=depth=8", "--seeds=1", "--device=a100"]  # fmt: skip
    assert main([*words, "--json"]) == 0
    [run] = map(json.loads, capsys.readouterr().out.splitlines())
    assert 0 < run["seconds"] < 60
    assert main(words) == 0
    assert "one after another as estimated for a100" in capsys.readouterr().out
