import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from resjax.ops import native
from resjax.ops.platform import traced_for
from resjax.ops.pool import _by_reduction, max_pool


@pytest.fixture(params=["kernels", "without a compiler", "for a GPU"])
def way(request, monkeypatch):
    """A way in which the pixels are found."""
    if request.param == "without a compiler":
        monkeypatch.setattr(native, "available", lambda: False)
    with traced_for("gpu" if request.param == "for a GPU" else "cpu"):
        yield request.param


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2), (3, 1, 2, 1)], ids=str)
def test_it_is_the_reduction_of_xla_with_its_gradient_on_ties_too(shape, way):
    # Rounded, so that most windows have their maximum several times.
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape).round(), jnp.float32)
    # Called anew, since what a primitive was compiled to is kept.
    ours, pull_ours = jax.vjp(jax.jit(lambda x: max_pool(x)), x)
    theirs, pull_theirs = jax.vjp(_by_reduction, x)
    np.testing.assert_array_equal(ours, theirs)
    cotangent = jnp.arange(1.0, ours.size + 1).reshape(ours.shape)  # whose sums are exact
    np.testing.assert_array_equal(*pull_ours(cotangent), *pull_theirs(cotangent))


@pytest.mark.parametrize(
    ("platform", "adds"), {"cpu": False, "gpu": False, "tpu": True}.items(), ids=str
)
def test_only_on_a_tpu_is_its_gradient_a_scatter_whose_sums_may_have_any_order(platform, adds):
    with traced_for(platform):
        traced = jax.make_jaxpr(jax.grad(lambda x: max_pool(x).sum()))(jnp.ones((1, 8, 8, 1)))
    assert ("scatter" in str(traced)) == adds


@pytest.mark.slow
def test_its_derivatives_are_those_of_a_selection_in_both_modes_and_orders(way):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 5, 6, 3)), jnp.float32)
    with jax.enable_x64(True):
        jax.test_util.check_grads(lambda x: max_pool(x) ** 2, (x.astype(jnp.float64),), order=2)
    images = jnp.stack([x, -x, 2 * x])
    mapped = jax.vmap(jax.grad(lambda x: jnp.sum(max_pool(x) ** 2)))(images)
    for one, gradient in zip(images, mapped, strict=True):
        np.testing.assert_array_equal(gradient, jax.grad(lambda x: jnp.sum(max_pool(x) ** 2))(one))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_in_a_scan_its_derivatives_are_those_of_a_selection_in_both_modes_and_orders(way):
    def pooled(x):
        return jax.lax.scan(lambda x, _: (jnp.sin(x), max_pool(x) ** 2), x, length=2)

    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, 4, 3, 2)))
    jax.test_util.check_grads(pooled, (x,), order=2)


def test_a_window_with_a_pixel_that_is_not_a_number_has_none_as_its_maximum(way):
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype(np.float32)
    x[0, 2, 3] = np.nan
    pooled = jax.jit(lambda x: max_pool(x))(x)[0, ..., 0]
    seen = np.zeros((3, 3), bool)
    seen[1, 1] = seen[1, 2] = True  # of rows 1 to 3, columns 1 to 3 and 3 to 5
    np.testing.assert_array_equal(np.isnan(pooled), seen)


def test_a_window_of_negative_infinity_has_its_gradient_at_its_first_pixel(way):
    x = jnp.full((1, 4, 4, 1), -jnp.inf)
    cotangent = jnp.arange(1.0, 5.0).reshape(1, 2, 2, 1)
    _, pull = jax.vjp(jax.jit(lambda x: max_pool(x)), x)
    expected = np.zeros((4, 4))
    expected[0, 0], expected[0, 1], expected[1, 0], expected[1, 1] = 1, 2, 3, 4
    np.testing.assert_array_equal(pull(cotangent)[0][0, ..., 0], expected)


def test_it_is_the_maximum_of_each_window():
    x = np.random.default_rng(0).normal(size=(2, 6, 5, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    pooled = max_pool(jnp.asarray(x))
    assert pooled.shape == (2, 3, 3, 3)
    for i in range(3):
        for j in range(3):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            np.testing.assert_array_equal(pooled[:, i, j], window.max((1, 2)))
