"""Which statistics BatchNorm has, and which of its channels are dead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.data.batch import Batch
from resjax.models.features import features
from resjax.probes.normalisation import normalisation
from resjax.training.evaluation import combine_batches, measuring
from resjax.training.step import measure_step
from tests.models.compiled import quick
from tests.probes.networks import BATCH, IMAGES, built, probed

EPSILON = 1e-5


def measured(model, variables, parts):
    """Precise statistics over equal parts of the images."""
    measure = quick(lambda v, images: measure_step(measuring(model), v, Batch(images, None)))
    batches = jnp.split(IMAGES, parts)
    return combine_batches(jax.device_get([measure(variables, images) for images in batches]))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_running_statistics_that_are_precise_are_not_off():
    model, variables = built(depth=14)
    precise = {**variables, "batch_stats": measured(model, variables, 4)}
    found = probed(normalisation, model, precise)
    assert found["running_mean"].shape == (6, 2)
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(found[name], 0, atol=1e-9)
    before = probed(normalisation, model, variables)
    assert min(before[f"running_{what}"].min() for what in ("mean", "var")) > 0.05
    assert 0.01 < found["batch_mean"].min() < found["batch_mean"].max() < 1


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_what_is_off_is_told_in_deviations_and_ratios():
    model, variables = built(depth=10, name="mlp")

    def shifted(statistics):
        if "mean" not in statistics:
            return {name: shifted(below) for name, below in statistics.items()}
        deviation = np.sqrt(statistics["var"] + EPSILON)
        return {
            "mean": statistics["mean"] + 3 * deviation,
            "var": 4 * (statistics["var"] + EPSILON) - EPSILON,
        }

    off = {**variables, "batch_stats": shifted(measured(model, variables, 4))}
    found = probed(normalisation, model, off)
    np.testing.assert_allclose(found["running_mean"], 3, rtol=1e-9)
    np.testing.assert_allclose(found["running_var"], np.log(4), rtol=1e-9)


@pytest.mark.slow
def test_a_batch_is_one_of_the_parts():
    model, variables = built(depth=8)
    found = probed(lambda *given: normalisation(*given, parts=1), model, variables)
    np.testing.assert_array_equal(found["batch_mean"], 0)
    np.testing.assert_array_equal(found["batch_var"], 0)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_channels_are_dead_where_scale_and_bias_make_them_so():
    """A scale of 0 is a constant; behind a ReLU, so is a bias far below zero."""
    model, variables = built(depth=14)
    stage = variables["params"]["stage2"]
    first, rest = stage["first"], stage["rest"]
    for norm in (part[name] for part in (first, rest) for name in ("norm1", "norm2")):
        norm["bias"] += 3  # no channel is dead by chance
    before = probed(normalisation, model, variables)["dead"]
    for norm in (first["norm1"], first["norm2"]):
        norm["bias"] = norm["bias"].at[:2].set(-1e3)
    rest["norm1"]["bias"] = rest["norm1"]["bias"].at[0, :4].set(-1e3)
    rest["norm2"]["scale"] = rest["norm2"]["scale"].at[0, 5].set(0)
    dead = probed(normalisation, model, variables)["dead"]
    expected = np.zeros((6, 2))
    expected[2], expected[3] = [2 / 8, 0], [4 / 8, 1 / 8]
    assert before[2:4].max() == 0
    np.testing.assert_allclose(dead[2:4], expected[2:4], atol=1e-9)
    branch = features(model, variables, IMAGES).blocks["stage2"]["branch"][1]
    assert float(branch[..., 5].std()) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_the_opening_block_of_a_pre_activation_net_has_one_normalisation_less():
    model, variables = built(depth=14, order="preact")
    for values in probed(normalisation, model, variables).values():
        np.testing.assert_array_equal(np.isnan(values), [[True, False]] + [[False] * 2] * 5)


def test_there_is_nothing_to_compare_without_normalisations():
    model, variables = built(depth=8, norm={"kind": "none"})
    assert normalisation(model, variables, BATCH) == {}


def test_fewer_images_than_parts_have_statistics():
    model, variables = built(depth=8)
    few = jax.tree.map(lambda leaf: leaf[:3], BATCH)
    found = probed(normalisation, model, variables, few)
    assert all(np.isfinite(values).all() for values in found.values())
