"""The gradient through the shortcut and that through the branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.models.blocks import Block
from resjax.probes.gradients import gradients
from resjax.probes.paths import path_gradients
from resjax.probes.walk import BoundBlock
from tests.drawn import normal
from tests.probes.networks import BATCH, built, gradients_by_hand, of_blocks, probed


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_scaled_shortcut_passes_its_scale_of_the_gradient():
    """Of H(x) = a x + b F(x) without an activation behind, a dL/dH arrives through the shortcut."""
    model, variables = built(
        depth=10, name="mlp", order="relu_preact", shortcut="scaled", shortcut_scale=0.3
    )
    found = probed(path_gradients, model, variables)
    whole = probed(gradients, model, variables)["input"]
    np.testing.assert_allclose(found["through_shortcut"][:-1], 0.3 * whole[1:], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_shares_are_those_of_the_formula():
    """In order post, the gradient behind the activation counts where the sum is positive."""
    model, variables = built(depth=8, name="mlp", shortcut="scaled", shortcut_scale=0.8)
    at_inputs, inputs = gradients_by_hand(model, variables, BATCH)
    found = probed(path_gradients, model, variables)
    for number in range(sum(model.spec.stages) - 1):
        through = 0.8 * at_inputs[number + 1] * (inputs[number + 1] > 0)
        branch = at_inputs[number] - through
        norms = np.linalg.norm(through), np.linalg.norm(branch)
        share = norms[0] / sum(norms)
        assert found["shortcut_share"][number] == pytest.approx(share, rel=1e-9)


@pytest.mark.slow
def test_all_of_it_comes_through_the_only_path_there_is():
    model, variables = built(shortcut="none", depth=8)
    np.testing.assert_array_equal(probed(path_gradients, model, variables)["shortcut_share"], 0)
    model, variables = built(depth=8)
    for stage in ("stage1", "stage2", "stage3"):
        last = variables["params"][stage]["first"]["norm2"]
        last["scale"] = jnp.zeros_like(last["scale"])
    np.testing.assert_array_equal(probed(path_gradients, model, variables)["shortcut_share"], 1)


@pytest.mark.parametrize(
    ("order", "shortcut"),
    [
        ("post", "exclusive_gate"),
        pytest.param("preact", "projection_all", marks=pytest.mark.slow),
        pytest.param("preact", "shortcut_gate", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("double")
def test_both_paths_together_are_the_gradient(order, shortcut):
    model, variables = built(depth=10, name="mlp", order=order, shortcut=shortcut, gate_bias=0.0)
    trees = {kind: of_blocks(tree, model)[1] for kind, tree in variables.items()}
    block = BoundBlock(Block(model.spec.branch(0, False, None), model.parts), trees)
    x = normal(0, (5, 4))
    cotangent = normal(1, x.shape)
    held = jax.lax.stop_gradient

    def at_input(terms):
        return jax.vjp(lambda x: block(x, terms), x)[1](cotangent)[0]

    through_shortcut = at_input(lambda x, branch: (x, held(branch)))
    through_branch = at_input(lambda x, branch: (held(x), branch))
    np.testing.assert_allclose(
        through_shortcut + through_branch, at_input(None), rtol=1e-9, atol=1e-9
    )
    assert min(abs(through_shortcut).mean(), abs(through_branch).mean()) > 0.01
