import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.ops.pool import _by_reduction, _by_selection, max_pool


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2), (3, 1, 2, 1)], ids=str)
def test_selection_and_reduction_agree_with_their_gradients_on_ties_too(shape):
    # Rounded, so that most windows have their maximum several times.
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape).round(), jnp.float32)
    ours, pull_ours = jax.vjp(_by_selection, x)
    theirs, pull_theirs = jax.vjp(_by_reduction, x)
    np.testing.assert_array_equal(ours, theirs)
    cotangent = jnp.arange(1.0, ours.size + 1).reshape(ours.shape)
    np.testing.assert_allclose(*pull_ours(cotangent), *pull_theirs(cotangent), rtol=1e-6)


def test_it_is_the_maximum_of_each_window():
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    pooled = max_pool(jnp.asarray(x))
    assert pooled.shape == (2, 3, 3, 3)
    for i in range(3):
        for j in range(3):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(pooled[:, i, j], window.max((1, 2)))
