import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resjax.models.norm import BatchNorm

SHAPES = [(16, 5), (4, 3, 3, 5)]


def pair(momentum=0.9, epsilon=1e-5):
    ours = BatchNorm(momentum=momentum, epsilon=epsilon)
    flax = nn.BatchNorm(momentum=momentum, epsilon=epsilon, use_fast_variance=False)
    return ours, flax


def variables_of(features, key):
    draws = jax.random.normal(key, (4, features))
    return {
        "params": {"scale": draws[0], "bias": draws[1]},
        "batch_stats": {"mean": draws[2], "var": jnp.exp(draws[3])},
    }


@settings(deadline=None, max_examples=6)
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    momentum=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_equals_flax_in_training_and_evaluation(shape, momentum, seed):
    x = 3 * jax.random.normal(jax.random.key(seed), shape) + 1
    variables = variables_of(shape[-1], jax.random.key(seed + 1))
    ours, flax = pair(momentum)
    got, new = ours.apply(variables, x, train=True, mutable=["batch_stats"])
    expected, expected_new = flax.apply(
        variables, x, use_running_average=False, mutable=["batch_stats"]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), new, expected_new)
    np.testing.assert_allclose(
        ours.apply(variables, x, train=False),
        flax.apply(variables, x, use_running_average=True),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_training_output_is_standardised(shape):
    x = 7 * jax.random.normal(jax.random.key(0), shape) - 3
    norm = BatchNorm()
    y, _ = norm.apply(norm.init(jax.random.key(0), x, False), x, True, mutable=["batch_stats"])
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-4)


def test_running_statistics_move_only_in_training():
    x = jax.random.normal(jax.random.key(0), (8, 5)) + 2
    norm = BatchNorm(momentum=0.75)
    variables = norm.init(jax.random.key(0), x, True)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    _, evaluated = norm.apply(variables, x, False, mutable=["batch_stats"])
    np.testing.assert_array_equal(evaluated["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(evaluated["batch_stats"]["var"], 1)
    _, trained = norm.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(trained["batch_stats"]["mean"], 0.25 * np.mean(x, 0), rtol=1e-5)
    np.testing.assert_allclose(trained["batch_stats"]["var"], 0.75 + 0.25 * np.var(x, 0), rtol=1e-5)


def test_variance_far_from_zero_is_not_lost_to_rounding():
    x = 1e4 + jax.random.normal(jax.random.key(0), (512, 3))
    norm = BatchNorm(momentum=0.0)
    variables = norm.init(jax.random.key(0), x, True)
    _, new = norm.apply(variables, x, True, mutable=["batch_stats"])
    np.testing.assert_allclose(new["batch_stats"]["var"], np.var(np.float64(x), 0), rtol=1e-3)
