"""Programs for GPUs and TPUs, which are lowered here and run nowhere."""

import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from resjax.config import default_config
from resjax.models.build import named_model
from resjax.ops.conv import conv
from resjax.ops.platform import traced_for
from resjax.training import platforms
from resjax.training.plan import make_plan
from tests.training import lowered

STYLES = ("jit", "pmap")
FORWARD = 53
"""Convolutions of ResNet-50."""

KEEP_THEIR_OPERANDS = {"resjax_norm_contract", "resjax_norm_expand"}
"""Primitives of ours, for XLA its own operations, so that a gradient keeps what they are given."""

OF_POOLING = {"resjax_pool_placed"}
"""The gradient of a maximum where its pixels are found, likewise XLA's own operations."""

COLLECTIVES = {"all_gather", "all_reduce", "all_to_all", "collective_permute", "reduce_scatter"}
CALLS_OF_THE_HOST = {"custom_call", "infeed", "outfeed", "send", "recv"}


@pytest.fixture(scope="module")
def programs(zygote):
    """{(platform, style): what is said of its training step}, on 8 devices."""
    process = zygote.start(
        "-m", "tests.training.lowered",
        environment={"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )  # fmt: skip
    output, errors = process.communicate(300)
    assert process.returncode == 0, errors
    found = map(json.loads, output.splitlines())
    return {(each["platform"], each["style"]): each for each in found}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("platform", lowered.PLATFORMS)
def test_a_training_step_of_resnet50_is_made_of_xlas_own_operations(programs, platform, style):
    program = programs[platform, style]
    executed, written = program["executed"], program["written"]
    # Every one has two gradients, but the images need none.
    assert executed["conv_general_dilated"] == 3 * FORWARD - 1
    ours = KEEP_THEIR_OPERANDS | (OF_POOLING if platform == "cuda" else set())
    assert {name for name in executed if name.startswith("resjax")} == ours
    # Matrices aside, only the images and the kernel that a GPU takes by blocks.
    transposed = {axes: times for axes, times in program["transposed"].items() if axes != "2"}
    assert transposed == ({"4": 4, "6": 3} if platform == "cuda" else {})
    assert program["dtypes"] == ["bf16"]
    # Images are [N, H, W, C] or, where the batch is summed over, [H, W, N, C]: a view for XLA.
    assert program["layouts"] == [
        "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]",
        "[b, 0, 1, f]x[0, 1, o, i]->[b, 0, 1, f]",
        "[f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f]",
    ]
    assert written.get("select_and_scatter", 0) == (platform == "tpu")  # a GPU adds in any order
    assert program["float64"] == 0
    assert not CALLS_OF_THE_HOST & written.keys()
    assert COLLECTIVES & written.keys() == {"all_reduce"}
    assert program["steps"] > 1
    if style == "jit":
        assert program["donated"] == program["leaves"]


@pytest.fixture(scope="module")
def on_a_pod(zygote):
    """What is said of the training step of ResNet-8, compiled for a slice of a TPU v4 pod."""
    library = os.environ.get("LIBTPU")
    if not library:
        pytest.skip("the compiler of TPUs is not named by the variable LIBTPU")
    process = zygote.start(
        "-m", "tests.training.compiled_for_tpus", "v4:4x4x4",
        environment={"TPU_LIBRARY_PATH": library},
    )  # fmt: skip
    output, errors = process.communicate(600)
    assert process.returncode == 0, errors
    return json.loads(output)


NORMS = 7
"""Normalisations of ResNet-8."""


@pytest.mark.slow
def test_the_compiler_of_tpus_makes_moments_a_part_of_convolutions(on_a_pod):
    forward = [name for name in on_a_pod["passes"] if "transpose" not in name]
    assert sum("conv_general_dilated" in name for name in forward) >= NORMS
    assert not [name for name in forward if re.search(r"norm\d/reduce", name)]
    assert on_a_pod["images"] == ["bf16"] * (3 * NORMS - 1)


@pytest.mark.slow
def test_on_a_tpu_the_images_of_a_set_are_read_where_they_lie(on_a_pod):
    assert set(on_a_pod["whole_sets"]) <= {"parameter", "get-tuple-element", "bitcast"}
    assert "parameter" in on_a_pod["whole_sets"]


@pytest.mark.slow
def test_on_a_pod_a_step_exchanges_sums_alone_and_once_for_each_norm_and_way(on_a_pod):
    assert (on_a_pod["devices"], on_a_pod["hosts"]) == (128, 16)
    operations = on_a_pod["operations"]
    kinds = {name.replace("_", "-") for name in COLLECTIVES}
    assert {name.removesuffix("-start") for name in operations} & kinds == {"all-reduce"}
    exchanged = operations["all-reduce"] + operations.get("all-reduce-start", 0)
    others = 4  # gradients, the loss, what is counted, and the statistics that a run keeps
    assert 2 * NORMS < exchanged <= 2 * NORMS + others
    assert not {"infeed", "outfeed", "send", "recv"} & operations.keys()
    assert on_a_pod["float64"] == 0


@pytest.mark.slow
def test_on_a_pod_the_state_is_donated(on_a_pod):
    # In memory, arrays are padded to whole tiles.
    assert on_a_pod["donated"] >= on_a_pod["state"]


@pytest.mark.slow
def test_on_an_h100_a_step_moves_no_more_memory_than_that_of_stock_flax():
    packages = os.environ.get("CUDA_COMPILER")
    if not packages:
        pytest.skip("the folder with the compiler of GPUs is not named by CUDA_COMPILER")
    path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    process = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.compiled", "h100", "--work=resnet18",
         "--batch=32", "--dtype=bfloat16", "--json"],
        capture_output=True, text=True, timeout=600, check=True,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    rows = {row["step"]: row for row in map(json.loads, process.stdout.splitlines())}
    ours, theirs = rows["resjax"], rows["stock Flax"]
    assert 0 < ours["GB moved"] <= theirs["GB moved"]


def test_a_convolution_is_the_one_of_jax_in_every_derivative():
    x, kernel = jnp.ones((2, 8, 8, 4)), jnp.ones((3, 3, 4, 4))

    def second(x, kernel):
        return jax.grad(lambda k: jax.jvp(lambda x: conv(x, k), (x,), (x,))[1].sum())(kernel)

    names = {}
    for platform in ("cpu", "gpu"):
        with traced_for(platform):
            traced = jax.make_jaxpr(lambda *operands: second(*operands))(x, kernel)
        names[platform] = lowered.executed(traced.jaxpr)
    assert "conv_general_dilated" in names["gpu"]
    assert not [name for name in names["gpu"] if name.startswith("resjax")]
    assert [name for name in names["cpu"] if name.startswith("resjax")]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_gradient_in_bfloat16_keeps_no_image_in_float32(platform):
    """By what the loop over the blocks of a stage keeps of each, for an image of 16x16x8."""
    model = named_model("cifar-resnet20", classes=10, width=8, dtype="bfloat16", unroll="1")
    images = jnp.ones((4, 16, 16, 3))

    def loss(variables):
        logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return logits.sum()

    with traced_for(platform):
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
        traced = jax.make_jaxpr(jax.grad(loss))(variables)
    loops = [each for each in traced.jaxpr.eqns if each.primitive.name == "scan"]
    shapes = [value.aval for loop in loops[: len(loops) // 2] for value in loop.outvars]
    blocks, kernel = 2, (3, 3)
    stacked = [each for each in shapes if each.shape[0] == blocks and each.shape[1:3] != kernel]
    smallest = blocks * len(images) * 4 * 4 * 32  # values of all images in the last stage
    kept = [(each.shape, each.dtype.name) for each in stacked if each.size >= smallest]
    assert len(loops) == 6
    assert kept
    assert {dtype for _, dtype in kept} <= {"bfloat16", "bool"}, kept


def test_a_policy_keeps_the_outputs_of_convolutions_where_they_are_those_of_jax():
    """What is computed again for a gradient can be chosen by the names of operations."""
    model = named_model("cifar-resnet8")
    images = jnp.ones((2, 32, 32, 3))

    def convolutions(keep):
        def loss(variables, images):
            return model.apply(variables, images, train=False).sum()

        def policy(primitive, *_, **__):
            return keep and primitive.name == "conv_general_dilated"

        with traced_for("gpu"):
            variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
            kept = jax.checkpoint(loss, policy=policy)
            traced = jax.make_jaxpr(jax.grad(kept, allow_int=True))(variables, images)
        return lowered.executed(traced.jaxpr)["conv_general_dilated"]

    assert convolutions(keep=True) < convolutions(keep=False)


@pytest.mark.parametrize("name", ["cpu", "gpu", "tpu"])
def test_what_is_left_open_is_chosen_by_platform(name):
    config = default_config()
    config.data.name = "fake:32x32x3:10:256"
    with traced_for(name):
        plan, chosen = make_plan(config), platforms.choices()
    assert plan.steps_per_call == chosen.steps_per_call
    assert plan.side_by_side == chosen.side_by_side
    assert bool(chosen.measured) == (name != "tpu")
