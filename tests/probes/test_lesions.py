"""Deleted and swapped blocks, and the loss around a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.models.grow import grow
from resjax.probes.lesions import lesions
from resjax.probes.surface import direction, surface
from resjax.training.losses import cross_entropy
from resjax.training.metrics import measure
from tests.models.compiled import quick
from tests.probes.networks import BATCH, IMAGES, built, of_blocks, probed


def predictions(model, variables):
    logits = jax.jit(model.apply, static_argnames="train")(variables, IMAGES, train=False)
    return jnp.argmax(logits, -1)


def changed(params, model, number, change):
    """The parameters with `change(block)` in the place of a block's."""
    stages = np.cumsum([0, *model.spec.stages])
    stage = int(np.searchsorted(stages, number, side="right"))
    name, place = f"stage{stage}", number - stages[stage - 1]
    tree = params[name]
    if place == 0:
        return {**params, name: {**tree, "first": change(tree["first"])}}
    block = change(jax.tree.map(lambda leaf: leaf[place - 1], tree["rest"]))
    rest = jax.tree.map(lambda leaf, new: leaf.at[place - 1].set(new), tree["rest"], block)
    return {**params, name: {**tree, "rest": rest}}


@pytest.mark.slow
def test_a_deleted_block_is_one_whose_branch_is_zero():
    model, variables = built(depth=11, block="single")
    labels = predictions(model, variables)
    found = probed(lesions, model, variables, BATCH._replace(labels=labels))
    assert found["whole"] == 0

    def silenced(block):
        return {**block, "norm1": jax.tree.map(jnp.zeros_like, block["norm1"])}

    for number in range(9):
        params = changed(variables["params"], model, number, silenced)
        wrong = predictions(model, {**variables, "params": params}) != labels
        assert found["deleted"][number] == pytest.approx(wrong.mean())
    assert len(set(found["deleted"])) > 2


@pytest.mark.slow
def test_a_swap_exchanges_neighbours_of_one_shape():
    model, variables = built(depth=7, name="mlp", block="single", shortcut="none")
    labels = predictions(model, variables)
    found = probed(lesions, model, variables, BATCH._replace(labels=labels))["swapped"]
    np.testing.assert_array_equal(np.isfinite(found), [False, True, True, True, False])
    trees = {kind: of_blocks(tree, model) for kind, tree in variables.items()}
    for number in (1, 3):
        other = dict(variables)
        for kind, tree in variables.items():
            first, second = trees[kind][number], trees[kind][number + 1]
            tree = changed(tree, model, number, lambda _, new=second: new)
            other[kind] = changed(tree, model, number + 1, lambda _, new=first: new)
        wrong = predictions(model, other) != labels
        assert found[number] == pytest.approx(wrong.mean())
    assert np.nanmax(found) > 0


@pytest.mark.slow
def test_a_plain_network_does_not_miss_a_block_that_is_the_identity():
    shallow, variables = built(depth=8, shortcut="none")
    deep, _ = built(depth=14, shortcut="none")
    grown = grow(variables, shallow, deep, jax.random.key(0))
    batch = BATCH._replace(labels=predictions(shallow, variables))
    deleted = probed(lesions, deep, grown, batch)["deleted"].reshape(3, 2)
    np.testing.assert_array_equal(deleted[:, 1], 0)
    assert deleted[:, 0].max() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_directions_have_the_norms_of_the_filters():
    _, variables = built(depth=11, block="single")
    params = variables["params"]
    drawn = quick(direction)(params, jax.random.key(3))
    for path in (("stage1", "first", "conv1"), ("stem", "conv1"), ("head",)):
        own, other = params, drawn
        for name in path:
            own, other = own[name], other[name]
        axes = tuple(range(own["kernel"].ndim - 1))
        lengths = [np.sqrt(np.square(tree["kernel"]).sum(axes)) for tree in (own, other)]
        np.testing.assert_allclose(*lengths, rtol=1e-9)
    own, other = (tree["stage2"]["rest"]["conv1"]["kernel"] for tree in (params, drawn))
    lengths = [np.sqrt(np.square(kernel).sum((1, 2, 3))) for kernel in (own, other)]
    assert lengths[0].shape == (2, 8)
    np.testing.assert_allclose(*lengths, rtol=1e-9)
    assert float(jnp.abs(drawn["stage1"]["first"]["norm1"]["scale"]).max()) == 0
    assert float(jnp.abs(own - other).min()) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_middle_of_a_surface_is_the_loss_of_evaluation():
    model, variables = built(depth=8, name="mlp")
    found = probed(lambda *arguments: surface(*arguments, points=3, reach=0.5), model, variables)
    np.testing.assert_allclose(found["offset"], [-0.5, 0, 0.5])

    def loss(params):
        logits = model.apply({**variables, "params": params}, IMAGES, train=False)
        return measure(cross_entropy(logits, BATCH.labels), logits, BATCH.labels).means()["loss"]

    assert found["loss"][1, 1] == pytest.approx(loss(variables["params"]), rel=1e-9)
    keys = jax.random.split(jax.random.key(0))
    first, second = (quick(direction)(variables["params"], key) for key in keys)
    moved = jax.tree.map(lambda p, d, e: p - 0.5 * d + 0.5 * e, variables["params"], first, second)
    assert found["loss"][0, 2] == pytest.approx(loss(moved), rel=1e-9)
    assert found["loss"][0, 2] != pytest.approx(float(found["loss"][2, 0]), rel=1e-3)
