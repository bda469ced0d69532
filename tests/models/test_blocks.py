"""What the parts of a block do, one by one."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import default_config
from resjax.models import shortcuts
from resjax.models.blocks import ORDERS, Block
from resjax.models.build import build_model
from resjax.models.features import features as features_of
from resjax.models.initialisers import INITIALISERS
from resjax.models.layers import Layer, convolution
from resjax.models.networks import cifar
from resjax.training.state import create_state
from tests.drawn import normal
from tests.models.compiled import quick

IMAGES = normal(7, (5, 8, 8, 3))


def features(model, variables, images, **options):
    return quick(lambda variables: features_of(model, variables, images, **options))(variables)


def built(norm=None, **keys):
    config = default_config()
    config.model.update({"depth": 20, "width": 4, "unroll": "1"} | keys)
    if jax.config.jax_enable_x64:
        config.model.dtype = "float64"
    config.norm.update(norm or {})
    model = build_model(config, 10)
    state = create_state(model, optax.identity(), 1, IMAGES.shape[1:])
    return model, {"params": state.params, "batch_stats": state.batch_stats}


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_preact_identity_nets_are_a_sum_and_the_gradient_has_its_one():
    """He et al. 2016, equations 4 and 5: x_L = x_l + sum F_i; dx_L/dx_l = 1 + d sum F / dx_l."""
    model, variables = built(order="preact", depth=26)
    stage = features(model, variables, IMAGES).blocks["stage1"]
    total = stage["shortcut"][1] + stage["branch"][1:].sum(0)
    np.testing.assert_allclose(stage["sum"][-1], total, rtol=1e-9, atol=1e-9)

    block = Block(model.spec.branch(0, False, model.gains), model.parts)
    rest = jax.tree.map(lambda leaf: leaf, variables["params"]["stage1"]["rest"])
    stats = variables["batch_stats"]["stage1"]["rest"]

    def run(x, whole):
        for i in range(3):
            pick = functools.partial(jax.tree.map, lambda leaf, i=i: leaf[i])
            x = block.apply({"params": pick(rest), "batch_stats": pick(stats)}, x, False)
        return x if whole else x - start

    start = stage["shortcut"][1]
    cotangent = normal(0, start.shape)
    (whole,) = jax.vjp(lambda x: run(x, True), start)[1](cotangent)
    (branches,) = jax.vjp(lambda x: run(x, True) - x, start)[1](cotangent)
    np.testing.assert_allclose(whole, cotangent + branches, rtol=1e-9, atol=1e-9)
    assert float(jnp.abs(branches).mean()) > 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_new_shortcut_is_one_class_and_one_line(monkeypatch):
    class Doubled(shortcuts.Shortcut):
        factor: float = 2.0

        def carry(self, x, train):
            return self.factor * x

    monkeypatch.setitem(shortcuts.SHORTCUTS, "doubled", Doubled)
    model, variables = built(shortcut="doubled", depth=8, name="mlp")
    terms = features(model, variables, IMAGES).blocks["stage1"]
    identity, _ = built(shortcut="identity", depth=8, name="mlp")
    expected = features(identity, variables, IMAGES).blocks["stage1"]
    np.testing.assert_allclose(terms["shortcut"][0], 2 * expected["shortcut"][0], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_residual_scale_and_skipinit():
    """De and Smith 2020: a learnable scalar at the end of each branch, initially zero."""
    model, variables = built(learn_residual_scale=True, residual_scale=0.0)
    assert variables["params"]["stage1"]["rest"]["residual_scale"].shape == (2,)
    blocks = features(model, variables, IMAGES).blocks
    for stage in blocks.values():
        np.testing.assert_array_equal(stage["branch"], 0)
    half, same = built(residual_scale=0.5)
    whole, _ = built()
    branch, expected = (features(m, same, IMAGES).blocks["stage1"]["branch"] for m in (half, whole))
    np.testing.assert_allclose(branch[0], 0.5 * expected[0], rtol=1e-9, atol=1e-9)


def test_zero_last_gamma_starts_every_block_as_the_identity():
    model, variables = built(zero_last_gamma=True)
    assert float(variables["params"]["stage2"]["rest"]["norm1"]["scale"].min()) == 1
    for stage in features(model, variables, IMAGES, train=True).blocks.values():
        np.testing.assert_array_equal(stage["branch"], 0)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_fixup_scales_the_branches_by_their_number():
    """Zhang et al. 2019: the last layer is zero, others are scaled by L^(-1 / (2m - 2))."""
    _, fixup = built(kernel_init="fixup", norm={"kind": "none"})
    _, he = built(norm={"kind": "none"})
    ours, theirs = (tree["params"]["stage2"]["rest"] for tree in (fixup, he))
    np.testing.assert_array_equal(ours["conv2"]["kernel"], 0)
    np.testing.assert_allclose(ours["conv1"]["kernel"], theirs["conv1"]["kernel"] * 9**-0.5, 1e-9)
    stem = [tree["params"]["stem"]["conv1"]["kernel"] for tree in (fixup, he)]
    np.testing.assert_array_equal(*stem)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_orthogonal_kernels_are_orthogonal():
    _, variables = built(kernel_init="orthogonal")
    kernel = variables["params"]["stage1"]["first"]["conv1"]["kernel"].reshape(-1, 4)
    np.testing.assert_allclose(kernel.T @ kernel, 2 * np.eye(4), atol=1e-9)


@pytest.mark.slow
def test_norm_after_the_activation_sees_no_negative_value():
    model, variables = built(norm={"position": "after"}, depth=8, shortcut="none")
    seen = []

    def observe(next_call, args, kwargs, context):
        if context.module.name == "norm1" and context.method_name == "__call__":
            seen.append(float(args[0].min()))
        return next_call(*args, **kwargs)

    with nn.intercept_methods(observe):
        model.apply(variables, IMAGES, train=False)
    assert len(seen) == 4
    assert min(seen) == 0


def test_without_normalisation_there_are_no_statistics():
    model, variables = built(norm={"kind": "none"}, depth=8)
    assert variables["batch_stats"] == {}
    assert "bias" in variables["params"]["stage1"]["first"]["conv1"]
    logits, _ = model.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(logits, model.apply(variables, IMAGES, train=False))


@pytest.mark.slow
def test_stochastic_depth_drops_branches_of_examples_with_a_linear_decay():
    """Huang et al. 2016, equation 4: the last of L blocks is dropped most; none in evaluation."""
    model, variables = built(stochastic_depth=0.6, depth=26)
    images = jnp.tile(IMAGES[:1], (400, 1, 1, 1))
    rngs = {"dropout": jax.random.key(0)}
    blocks = features(model, variables, images, train=True, rngs=rngs).blocks
    dropped = jnp.concatenate(
        [(stage["branch"] == 0).all((2, 3, 4)).mean(1) for stage in blocks.values()]
    )
    np.testing.assert_allclose(dropped, 0.6 * np.arange(1, 13) / 12, atol=0.09)
    whole = features(model, variables, IMAGES).blocks["stage3"]["branch"]
    assert not (whole == 0).all((2, 3, 4)).any()


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_kept_branch_is_divided_by_its_probability():
    block_model, variables = built(stochastic_depth=0.5, depth=8)
    block = Block(block_model.spec.branch(0, False, None), block_model.parts)
    x = jnp.ones((64, 4, 4, 4))
    tree = {kind: variables[kind]["stage1"]["first"] for kind in variables}

    def branch(drop, train):
        _, left = block.apply(tree, x, train, drop, mutable=["intermediates", "batch_stats"],
                              rngs={"dropout": jax.random.key(0)})  # fmt: skip
        return left["intermediates"]["shortcut"]["branch"]

    whole, some = branch(None, True), branch(jnp.float32(0.25), True)
    kept = ~(some == 0).all((1, 2, 3))
    assert 0.5 < kept.mean() < 0.95
    np.testing.assert_allclose(some[kept], whole[kept] / 0.75, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_dropout_on_the_shortcut_keeps_half_and_evaluation_scales():
    shortcut = shortcuts.Dropout(4, 1, None, None)
    x, zero = jnp.ones((50, 4, 4, 4)), jnp.zeros((50, 4, 4, 4))
    trained = shortcut.apply({}, x, zero, True, rngs={"dropout": jax.random.key(1)})
    assert set(np.unique(trained)) == {0, 1}
    assert float(trained.mean()) == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(shortcut.apply({}, x, zero, False), 0.5)


@pytest.mark.slow
def test_random_masks_belong_to_examples():
    from resjax.models.randomness import keep_mask

    whole = keep_mask(jax.random.key(0), 0.5, (8, 3, 3))
    np.testing.assert_array_equal(whole[:5], keep_mask(jax.random.key(0), 0.5, (5, 3, 3)))
    np.testing.assert_array_equal(whole[5:], keep_mask(jax.random.key(0), 0.5, (3, 3, 3), 5))


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
def test_arms_of_every_order_share_their_initial_values(order):
    reference = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(built(depth=8)[1]["params"])
    }
    shared = 0
    for path, leaf in jax.tree.leaves_with_path(built(depth=8, order=order)[1]["params"]):
        same = reference.get(jax.tree_util.keystr(path))
        if same is not None and same.shape == leaf.shape:
            np.testing.assert_array_equal(same, leaf)
            shared += "kernel" in jax.tree_util.keystr(path)
    assert shared == 8


def test_identity_pads_at_the_end_or_on_both_sides():
    x = normal(0, (2, 6, 6, 3))
    for pad, first in (("end", 0), ("both", 1)):
        shortcut = shortcuts.Identity(5, 2, None, None, identity_pad=pad)
        joined = shortcut.apply({}, x, jnp.zeros((2, 3, 3, 5)), False)
        np.testing.assert_array_equal(joined[..., first : first + 3], x[:, ::2, ::2])
        assert int((joined == 0).all((0, 1, 2)).sum()) == 2


def test_an_identity_that_changes_no_shape_is_one_addition():
    shortcut, x = shortcuts.Identity(3, 1, None, None), jnp.zeros((2, 6, 6, 3))
    traced = jax.make_jaxpr(lambda x, branch: shortcut.apply({}, x, branch, False))(x, x)
    assert [equation.primitive.name for equation in traced.eqns] == ["add"]


def test_identity_cannot_drop_channels():
    shortcut = shortcuts.Identity(2, 1, None, None)
    with pytest.raises(ValueError, match="from 3 to 2 channels; use a projection"):
        shortcut.apply({}, jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 2)), False)


def test_strided_convolution_is_centred_on_what_the_shortcut_keeps():
    """A 3x3 kernel with a one in its centre, stride 2, gives x[::2, ::2]; SAME would not."""
    x = normal(0, (1, 8, 8, 1))
    centre = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    output = convolution(Layer(1, 3, 2)).apply({"params": {"kernel": centre}}, x)
    np.testing.assert_array_equal(output, x[:, ::2, ::2])


def test_features_have_the_output_of_every_stage():
    config = default_config()
    config.model.update({"name": "imagenet", "depth": 18, "width": 4, "unroll": "1"})
    model = build_model(config, 10)
    images = jnp.zeros((1, 64, 64, 3))
    shapes = jax.eval_shape(
        lambda: features_of(model, model.init(jax.random.key(0), images, train=False), images)
    )
    assert {name: value.shape[1] for name, value in shapes.stages.items()} == {
        "stage1": 16, "stage2": 8, "stage3": 4, "stage4": 2,
    }  # fmt: skip
    assert shapes.pooled.shape == (1, 32)
    assert shapes.blocks["stage2"]["branch"].shape == (2, 1, 8, 8, 8)


def test_features_keep_stages_of_one_stride_apart():
    model, variables = built()
    model = model.clone(spec=dataclasses.replace(model.spec, strides=(1, 1, 2)))
    found = jax.eval_shape(lambda variables: features_of(model, variables, IMAGES), variables)
    assert list(found.stages) == list(found.blocks) == ["stage1", "stage2", "stage3"]
    sides = [value.shape[1] for value in found.stages.values()]
    assert sides == [8, 8, 4]


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_features_are_those_of_the_network():
    model, variables = built()
    got = features(model, variables, IMAGES)
    expected = quick(lambda v: model.apply(v, IMAGES, train=False))(variables)
    stage, head = got.blocks["stage1"], variables["params"]["head"]
    for ours, theirs in (
        (got.logits, expected),
        (stage["sum"], stage["shortcut"] + stage["branch"]),
        (nn.relu(stage["sum"][:-1]), stage["shortcut"][1:]),
        (got.pooled, got.stages["stage3"].mean((1, 2))),
        (got.logits, got.pooled @ head["kernel"] + head["bias"]),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    plain, plain_variables = built(shortcut="none")
    assert set(features(plain, plain_variables, IMAGES).blocks["stage1"]) == {"branch", "sum"}


@pytest.mark.slow
def test_features_cost_nothing_when_not_asked_for(monkeypatch):
    model, variables = built(depth=14)
    program = str(jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, IMAGES))
    monkeypatch.setattr(nn.Module, "sow", lambda *args, **kwargs: None)
    without = str(jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, IMAGES))
    assert program == without


def test_spec_counts_its_own_layers():
    spec = dataclasses.replace(cifar(20), stem="deep")
    assert spec.depth == 22


def test_gates_start_at_their_bias():
    _, variables = built(shortcut="exclusive_gate", gate_bias=-4.0, depth=8)
    for stage in ("stage1", "stage2", "stage3"):
        gate = variables["params"][stage]["first"]["shortcut"]["gate"]
        np.testing.assert_array_equal(gate["bias"], -4.0)


@pytest.mark.slow
def test_bfloat16_computes_in_bfloat16():
    model, variables = built(dtype="bfloat16", depth=8)
    seen = {}

    def observe(next_call, args, kwargs, context):
        output = next_call(*args, **kwargs)
        if context.method_name == "__call__":
            seen.setdefault(type(context.module).__name__, set()).add(output.dtype.name)
        return output

    with nn.intercept_methods(observe):
        model.apply(variables, IMAGES, train=False)
    assert seen["Convolution"] == seen["BatchNorm"] == seen["Block"] == {"bfloat16"}
    assert seen["Dense"] == {"float32"}


@pytest.mark.parametrize(
    ("kind", "variance"),
    [
        ("he_normal", 2 / (9 * 64)),
        pytest.param("he_normal_fan_in", 2 / (9 * 32), marks=pytest.mark.slow),
        pytest.param("lecun_normal", 1 / (9 * 32), marks=pytest.mark.slow),
    ],
)
def test_variances_of_the_initialisers(kind, variance):
    kernel = INITIALISERS[kind].draw(jax.random.key(0), (3, 3, 32, 64), jnp.float32)
    assert float(kernel.var()) == pytest.approx(variance, rel=0.05)
    assert float(kernel.mean()) == pytest.approx(0, abs=0.03 * variance**0.5)


@pytest.mark.parametrize("order", ORDERS)
def test_norm_after_activation_swaps_every_pair(order):
    def flat(order):
        return [step for steps in dataclasses.astuple(order) for step in steps]

    swapped = ORDERS[order].with_norm_after_activation()
    pairs = zip(dataclasses.astuple(ORDERS[order]), dataclasses.astuple(swapped), strict=True)
    assert all(after == before[::-1] for before, after in pairs)
    assert sorted(flat(swapped)) == sorted(flat(ORDERS[order]))
