import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.models.blocks import BasicBlock
from resjax.models.norm import BatchNorm
from resjax.models.resnet import ResNet, cifar_spec, conv
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.summary import count_multiply_adds, count_parameters
from resjax.training.state import create_state


def shapes(depth, shortcut, width=16, size=32, channels=3, classes=10):
    model = ResNet(cifar_spec(depth, width), classes, shortcut, unroll=1)
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)


def initialised(depth, shortcut, **kwargs):
    model = ResNet(cifar_spec(depth, 4), 10, shortcut, **kwargs)
    state = create_state(model, optax.identity(), 3, (8, 8, 1))
    return model, {"params": state.params, "batch_stats": state.batch_stats}


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.mark.parametrize("n", [1, 2, 3, 9, 18, 200])
def test_parameters_equal_the_closed_form(n):
    """Each 3x3 convolution has 9 c_in c_out weights, each BatchNorm 2c; widths 16, 32, 64."""
    plain = 269_722 + 97_216 * (n - 3)
    counts = {kind: count_parameters(shapes(6 * n + 2, kind)["params"]) for kind in SHORTCUTS}
    assert counts["none"] == plain
    assert counts["identity"] == plain
    # 1x1 kernels 16 to 32 and 32 to 64, and their BatchNorms.
    assert counts["projection"] == plain + 16 * 32 + 32 * 64 + 2 * (32 + 64)
    # One in each of the n blocks of a stage; only the first ones change the width.
    squares = n * 16**2 + (n - 1) * (32**2 + 64**2) + 16 * 32 + 32 * 64
    assert counts["projection_all"] == plain + squares + 2 * n * (16 + 32 + 64)


@pytest.mark.parametrize(
    ("depth", "shortcut", "params", "batch_stats", "multiply_adds"),
    [
        (20, "none", 269_722, 1_376, 40_551_040),
        (20, "identity", 269_722, 1_376, 40_551_040),
        (20, "projection", 272_474, 1_568, 40_813_184),
        (20, "projection_all", 283_962, 2_048, 42_648_192),
        (56, "identity", 853_018, 4_064, 125_485_696),
        (56, "projection_all", 900_858, 6_080, 132_301_440),
        (110, "identity", 1_727_962, 8_096, 252_887_680),
        (110, "projection", 1_730_714, 8_288, 253_149_824),
    ],
)
def test_counts_of_the_cifar_networks(depth, shortcut, params, batch_stats, multiply_adds):
    """Counted by hand from the architecture of He et al. 2015, section 4.2, at 32x32x3."""
    variables = shapes(depth, shortcut)
    assert count_parameters(variables["params"]) == params
    assert count_parameters(variables["batch_stats"]) == batch_stats
    model = ResNet(cifar_spec(depth), 10, shortcut)
    assert count_multiply_adds(model, (32, 32, 3)) == multiply_adds


def test_layers_that_arms_share_start_bit_equal():
    values = {kind: leaves(initialised(20, kind)[1]["params"]) for kind in SHORTCUTS}
    assert values["none"].keys() == values["identity"].keys()
    for kind in SHORTCUTS:
        for path, value in values["none"].items():
            np.testing.assert_array_equal(value, values[kind][path], err_msg=f"{kind} {path}")


def test_initial_kernels_have_the_variance_of_he():
    kernel = initialised(8, "none")[1]["params"]["stage3"]["first"]["conv2"]["kernel"]
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 16)), rel=0.05)


def test_a_stage_is_its_first_block_and_the_stacked_rest():
    stage = shapes(20, "projection_all")["params"]["stage2"]
    assert stage["first"]["conv1"]["kernel"].shape == (3, 3, 16, 32)
    assert stage["rest"]["conv1"]["kernel"].shape == (2, 3, 3, 32, 32)
    assert stage["rest"]["shortcut"]["conv"]["kernel"].shape == (2, 1, 1, 32, 32)


def test_unrolled_equals_scanned():
    with jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(1), (6, 8, 8, 1), jnp.float64)
        results = []
        for unroll in (1, 999):
            model, variables = initialised(20, "projection", unroll=unroll, dtype=jnp.float64)

            def loss(params, model=model, variables=variables):
                logits, new = model.apply(
                    variables | {"params": params}, images, train=True, mutable=["batch_stats"]
                )
                return jnp.square(logits).sum(), new

            results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"]))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-9), *results)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("zeroed", ["conv2", "norm2"])
def test_zeroed_branch_is_the_identity_with_a_shortcut_and_constant_without(train, zeroed):
    """He et al. 2015, section 3.1: if identity is optimal, it is easy to drive F to zero."""
    x = jax.nn.relu(jax.random.normal(jax.random.key(0), (4, 6, 6, 4)))
    for shortcut, expected in (("identity", x), ("projection", x), ("none", jnp.zeros_like(x))):
        block = BasicBlock(4, 1, conv, BatchNorm, jax.nn.relu, SHORTCUTS[shortcut])
        variables = block.init(jax.random.key(1), x, train=False)
        params = variables["params"]
        leaf = {"conv2": "kernel", "norm2": "scale"}[zeroed]
        params[zeroed][leaf] = jnp.zeros_like(params[zeroed][leaf])
        output, _ = block.apply(variables, x, train=train, mutable=["batch_stats"])
        np.testing.assert_array_equal(output, expected)


def test_plain_net_with_a_zeroed_block_ignores_its_input():
    images = jax.random.normal(jax.random.key(0), (5, 8, 8, 1))
    for shortcut, constant in (("none", True), ("identity", False)):
        model, variables = initialised(20, shortcut)
        params = variables["params"]["stage2"]["rest"]["norm2"]
        params["scale"] = params["scale"].at[1].set(0)
        logits = model.apply(variables, images, train=False)
        assert (float(jnp.ptp(logits, axis=0).max()) == 0) is constant


def test_shortcut_a_subsamples_and_appends_zero_channels():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3))
    shortcut = SHORTCUTS["identity"](channels=5, stride=2, conv=None, norm=None)
    joined = shortcut.apply({}, x, jnp.zeros((2, 3, 3, 5)), train=False)
    np.testing.assert_array_equal(joined[..., :3], x[:, ::2, ::2])
    np.testing.assert_array_equal(joined[..., 3:], 0)


def test_identity_cannot_drop_channels():
    shortcut = SHORTCUTS["identity"](channels=2, stride=1, conv=None, norm=None)
    with pytest.raises(ValueError, match="from 3 to 2 channels"):
        shortcut.apply({}, jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 2)), train=False)


def test_strided_convolution_is_centred_on_what_the_shortcut_keeps():
    """A 3x3 kernel with a one in its centre, stride 2, gives x[::2, ::2]; SAME would not."""
    x = jax.random.normal(jax.random.key(0), (1, 8, 8, 1))
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    output = conv(1, 3, 2).apply({"params": {"kernel": centre}}, x)
    np.testing.assert_array_equal(output, x[:, ::2, ::2])


@pytest.mark.parametrize(
    ("depth", "message"),
    [(57, "57 is not 6n+2; nearest: 56, 62"), (2, "nearest: 8"), (-4, "nearest: 8")],
)
def test_impossible_depth_names_its_neighbours(depth, message):
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        cifar_spec(depth)


def test_logits_have_float32_whatever_the_computation():
    model, variables = initialised(8, "identity", dtype=jnp.bfloat16)
    logits, new = model.apply(
        variables, jnp.ones((2, 8, 8, 1)), train=True, mutable=["batch_stats"]
    )
    kinds = {leaf.dtype for leaf in jax.tree.leaves((logits, variables, new))}
    assert kinds == {jnp.dtype("float32")}
