"""Gradients by block, against those of `jax.grad` and against theory."""

import functools
import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import default_config
from resjax.data.batch import Batch
from resjax.models.build import build_model
from resjax.models.trace import initial_variables
from resjax.probes.gradients import gradients
from resjax.probes.normalisation import normalisation
from resjax.probes.paths import path_gradients
from resjax.probes.walk import by_batch, group_size
from tests.drawn import normal
from tests.models.compiled import quick
from tests.probes.networks import (
    BATCH,
    IMAGES,
    built,
    gradients_by_hand,
    of_blocks,
    probed,
)

NETWORKS = [
    {"depth": 11, "block": "single", "shortcut": "projection"},
    {"depth": 10, "name": "mlp", "shortcut": "none", "norm": {"kind": "none"}},
    {"depth": 10, "name": "mlp", "shortcut": "exclusive_gate", "gate_bias": 0.0},
]


@pytest.mark.slow
@pytest.mark.parametrize("keys", NETWORKS, ids=str)
@pytest.mark.usefixtures("double")
def test_norms_are_those_of_the_gradient_at_perturbations_inserted_before_blocks(keys):
    model, variables = built(**keys)
    by_hand, _ = gradients_by_hand(model, variables, BATCH)
    found = probed(gradients, model, variables)
    expected = [np.linalg.norm(np.ravel(gradient)) for gradient in by_hand]
    np.testing.assert_allclose(found["input"], expected, rtol=1e-9)
    assert found["input_ratio"] == pytest.approx(expected[0] / expected[-1], rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"order": "preact", "shortcut": "projection"},
        {"order": "bn_after_add"},
        {"norm": {"frozen": True}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("double")
def test_norms_of_parameters_are_those_of_a_training_step(keys):
    model, variables = built(**keys)

    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, IMAGES, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, BATCH.labels).mean()

    trees = of_blocks(quick(jax.grad(loss))(variables["params"]), model)
    expected = [optax.tree.norm(tree) for tree in trees]
    np.testing.assert_allclose(
        probed(gradients, model, variables)["parameters"], expected, rtol=1e-9
    )


def ratios_at_initialisation(shortcut, blocks=60, width=512, examples=512):
    """Norm of the gradient at the input of a block of a dense BatchNorm net over the next one's."""
    config = default_config()
    config.model.update(
        {"name": "mlp", "block": "single", "width": width, "depth": blocks + 2}
        | {"shortcut": shortcut}
    )
    model = build_model(config, 10)
    variables = initial_variables(model, jax.random.key(0), (8, 8, 1))
    images = normal(1, (examples, 8, 8, 1))
    batch = Batch(images, jnp.arange(examples) % 10)
    norms = jax.jit(functools.partial(gradients, model))(variables, batch)["input"]
    return np.asarray(norms[:-1] / norms[1:])


@pytest.mark.slow
def test_plain_batch_norm_nets_explode_at_the_rate_of_theory():
    """Yang et al. 2019: for ReLU the squared norm grows by pi / (pi - 1) in every layer."""
    ratios = ratios_at_initialisation("none")
    growth = math.exp(np.log(np.square(ratios[10:-10])).mean())
    assert growth == pytest.approx(math.pi / (math.pi - 1), rel=0.03)


@pytest.mark.slow
def test_the_residual_twin_grows_polynomially():
    """As of (n / l)^c, the ratio of block l is 1 + c / l; in a plain net it is the same for all."""
    ratios = ratios_at_initialisation("identity")
    assert ratios[40:].max() < 1.05
    early, late = ratios[8:12].mean() - 1, ratios[38:42].mean() - 1
    assert early / late == pytest.approx(40 / 10, rel=0.3)


def norms():
    """The norms of the gradient at every block of a small network."""
    config = default_config()
    config.model.depth, config.model.width = 8, 4
    model = build_model(config, 3)
    batch = Batch(normal(0, (4, 8, 8, 1), "float32"), jnp.arange(4) % 3)
    variables = initial_variables(model, jax.random.key(0), (8, 8, 1))
    found = jax.jit(functools.partial(gradients, model))(variables, batch)
    return np.asarray(found["input"]).tolist()


@pytest.mark.slow
def test_a_probe_finds_the_same_without_the_assertions_of_python():
    code = "import json; from tests.probes.test_gradients import norms; print(json.dumps(norms()))"
    told = subprocess.run(
        [sys.executable, "-O", "-c", code], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    np.testing.assert_allclose(json.loads(told), norms(), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "images", "group"), [(5, 20, 5), (9, 18, 9), (48, 24, 1)])
def test_images_that_fill_groups_are_probed_and_fewer_are_one_group(examples, images, group):
    model, variables = built(depth=8, norm={"examples": examples})
    walked, batch = by_batch(model, BATCH)
    assert len(batch.images) == len(batch.labels) == images
    assert group_size(walked) == group
    for probe in (gradients, path_gradients, normalisation):
        assert jax.eval_shape(functools.partial(probe, model), variables, BATCH)
