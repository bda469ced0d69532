"""Responses, branches and gates, by block."""

import jax
import numpy as np
import pytest

from resjax.models.features import features
from resjax.models.grow import grow
from resjax.probes.branches import branches
from resjax.probes.gates import gates
from resjax.probes.responses import responses
from resjax.training.evaluation import measuring
from tests.models.compiled import quick
from tests.probes.networks import BATCH, IMAGES, built, of_blocks, probed


def terms(model, variables):
    """The terms of every block's sum, by name, in the order of the network."""
    found = quick(lambda variables: features(model, variables, IMAGES).blocks)(variables)
    return {
        name: [np.asarray(block) for stage in found.values() for block in stage[name]]
        for name in found["stage1"]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_normalised_response_has_the_deviation_of_its_scale():
    """By the statistics of the batch; He et al. 2015, figure 7, looks at BN outputs, too."""
    model, variables = built(depth=11, block="bottleneck")

    def with_scales(path, leaf):
        names = [key.key for key in path]
        if names[-1] == "bias":
            return 0 * leaf
        return {"norm1": 2, "norm2": 3, "norm3": 5}.get(names[-2], 1) + 0 * leaf

    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf if path[-1].key == "kernel" else with_scales(path, leaf),
        variables["params"],
    )
    deviation = probed(responses, measuring(model), {**variables, "params": params})["deviation"]
    assert deviation.shape == (3, 1)  # the 3x3 layers alone
    np.testing.assert_allclose(deviation, 3, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"order": "preact"}, {"norm": {"kind": "none"}}], ids=str)
@pytest.mark.usefixtures("double")
def test_the_last_response_of_a_branch_is_its_term_of_the_sum(keys):
    model, variables = built(depth=10, name="mlp", **keys)
    found = probed(responses, model, variables)["deviation"]
    expected = [term.std() for term in terms(model, variables)["branch"]]
    assert found.shape == (4, 2)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_branches_are_compared_with_the_input_and_with_the_shortcut():
    model, variables = built(depth=14, shortcut="scaled", shortcut_scale=0.5, branch_scale=2.0)
    found, term = probed(branches, model, variables), terms(model, variables)
    norms = {name: [np.linalg.norm(value) for value in term[name]] for name in term}
    over_shortcut = np.divide(norms["branch"], norms["shortcut"])
    np.testing.assert_allclose(found["branch_over_shortcut"], over_shortcut, rtol=1e-9)
    inputs = [np.linalg.norm(np.maximum(value, 0)) for value in term["sum"][:-1]]
    over_input = np.divide(norms["branch"][1:], inputs)
    np.testing.assert_allclose(found["branch_over_input"][1:], over_input, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"shortcut": "none"}], ids=str)
@pytest.mark.usefixtures("double")
def test_blocks_that_were_grown_are_the_identity_and_others_are_not(keys):
    shallow, variables = built(depth=8, **keys)
    deep, _ = built(depth=14, **keys)
    grown = grow(variables, shallow, deep, jax.random.key(0))
    distance = probed(branches, deep, grown)["from_identity"].reshape(3, 2)
    np.testing.assert_allclose(distance[:, 1:], 0, atol=1e-9)
    assert distance[:, 0].min() > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_gate_without_weights_is_as_open_as_its_bias():
    model, variables = built(depth=8, shortcut="exclusive_gate", gate_bias=-2.0)

    def closed(path, leaf):
        if path[-2].key != "gate":
            return leaf
        return 0 * leaf - (2.0 if path[-1].key == "bias" else 0.0)

    params = jax.tree_util.tree_map_with_path(closed, variables["params"])
    found = probed(gates, model, {**variables, "params": params})
    np.testing.assert_allclose(found["openness"], [1 / (1 + np.exp(2))] * 3, rtol=1e-9)
    np.testing.assert_allclose(found["deviation"], 0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_openness_is_the_mean_of_the_gate():
    model, variables = built(depth=10, name="mlp", shortcut="shortcut_gate", gate_bias=-1.0)
    found, term = probed(gates, model, variables), terms(model, variables)
    for number, block in enumerate(of_blocks(variables["params"], model)[1:], start=1):
        x, gate = np.maximum(term["sum"][number - 1], 0), block["shortcut"]["gate"]
        opened = 1 / (1 + np.exp(-(x @ gate["kernel"] + gate["bias"])))
        assert found["openness"][number] == pytest.approx(opened.mean(), rel=1e-9)
        assert found["deviation"][number] == pytest.approx(opened.std(), rel=1e-9)


def test_a_network_without_gates_has_no_openness():
    model, variables = built(depth=8)
    assert gates(model, variables, BATCH) == {}
