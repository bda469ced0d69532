import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.ops import native
from resjax.ops.norm import Scope, batch_norm, combine_moments
from resjax.ops.platform import traced_for
from tests.rounding import bound

EPSILON = 1e-5


def formula(x, scale, bias, epsilon):
    """Ioffe and Szegedy 2015, algorithm 1, as it is printed; the moments as of one group."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = ((x - mean) ** 2).mean(axes)
    y = (x - mean) / jnp.sqrt(var + epsilon) * scale + bias
    return y, mean[None], var[None]


@pytest.mark.parametrize("library", [np, jnp])
def test_moments_of_equal_parts_make_those_of_all(library):
    x = library.asarray(3 + np.random.default_rng(0).normal(size=(4, 10, 3)))
    mean, var = combine_moments(x.mean(1), x.var(1))
    assert type(mean) is type(var) is type(x)
    rows = x.reshape(40, 3)
    np.testing.assert_allclose((mean, var), (rows.mean(0), rows.var(0)), rtol=1e-5)


def draw(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def close(ours, theirs, tolerance=1e-12):
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(
            mine, other, rtol=0, atol=tolerance * max(1, float(jnp.abs(other).max()))
        )


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("way", ["kernels", "without a compiler", "for GPUs"])
@pytest.mark.parametrize("shape", [(7, 3), (2, 37), (5, 4, 3, 37), (60, 9, 9, 16)], ids=str)
def test_it_is_the_formula_with_its_derivatives_of_both_modes_and_orders(shape, way, monkeypatch):
    if way == "without a compiler":
        monkeypatch.setattr(native, "available", lambda: False)
    ours = functools.partial(batch_norm, shift=6 + draw(shape[-1:], 6))
    x, scale, bias = 3 * draw(shape, 0) + 5, draw(shape[-1:], 1), draw(shape[-1:], 2)
    weights = [draw(shape, 3), draw((1, shape[-1]), 4), draw((1, shape[-1]), 5)]

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(function, x, scale, bias):
        def loss(*operands):
            parts = zip(function(*operands, EPSILON), weights, strict=True)
            return sum(jnp.sum(jnp.sin(part) * weight) for part, weight in parts)

        gradient = jax.grad(loss, (0, 1, 2))

        def steepness(*operands):
            return sum(jnp.sum(g**2) for g in gradient(*operands))

        tangents = (x**2, scale + 1, 2 * bias)
        return [
            function(x, scale, bias, EPSILON),
            jax.jvp(lambda *a: function(*a, EPSILON), (x, scale, bias), tangents)[1],
            gradient(x, scale, bias),
            jax.jvp(gradient, (x, scale, bias), tangents)[1],
            jax.grad(steepness, (0, 1, 2))(x, scale, bias),
        ]

    with traced_for("gpu" if way == "for GPUs" else "cpu"):
        found = derivatives(ours, x, scale, bias)
    close(found, derivatives(formula, x, scale, bias), 1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_in_a_scan_its_derivatives_of_any_order_are_those_of_the_formula(platform):
    scale, bias, start, tangent = draw((3,), 0), draw((3,), 1), draw((8, 3), 2), draw((8, 3), 3)

    def loss(function, x):
        def block(x, _):
            y, mean, var = function(jnp.sin(x), scale, bias, EPSILON)
            return y, (mean**2, var**2)

        return sum(map(jnp.sum, jax.tree.leaves(jax.lax.scan(block, x, length=2))))

    def slope(function, order, x):
        """The derivative along the tangent, so many times, and then the gradient."""
        if order == 0:
            return jax.grad(lambda x: loss(function, x))(x)
        return jax.grad(lambda x: jnp.vdot(slope(function, order - 1, x), tangent))(x)

    ours = functools.partial(batch_norm, shift=draw((3,), 4))
    with traced_for(platform):
        for order in range(2):
            close(slope(ours, order, start), slope(formula, order, start), 1e-9)
            along = [
                jax.jvp(lambda x, of=of, order=order: slope(of, order, x), (start,), (tangent,))[1]
                for of in (ours, formula)
            ]
            close(*along, 1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("kernels", [True, False], ids=["kernels", "without a compiler"])
@pytest.mark.parametrize("shape", [(6, 5), (12, 4, 3, 37), (60, 9, 9, 16)], ids=str)
def test_groups_are_normalised_each_for_itself(shape, kernels, monkeypatch):
    if not kernels:
        monkeypatch.setattr(native, "available", lambda: False)
    x, scale, bias, weight = (
        draw(shape, 0), draw(shape[-1:], 1), draw(shape[-1:], 2), draw(shape, 3),
    )  # fmt: skip

    def together(x, scale, bias):
        return batch_norm(x, scale, bias, EPSILON, Scope(groups=3))

    def apart(x, scale, bias):
        parts = [formula(part, scale, bias, EPSILON) for part in jnp.split(x, 3)]
        return [jnp.concatenate(part) for part in zip(*parts, strict=True)]

    def slope(function):
        def loss(*operands):
            y, mean, var = function(*operands)
            return jnp.sum(jnp.sin(y) * weight) + jnp.sum(mean**3) + jnp.sum(jnp.cos(var))

        return jax.jit(jax.grad(loss, (0, 1, 2)))

    operands = (x, scale, bias)
    close(together(*operands), apart(*operands), 1e-10)
    close(slope(together)(*operands), slope(apart)(*operands), 1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_vmap_normalises_each_for_itself(platform, groups):
    x, scale, bias = draw((6, 3, 4, 4, 5), 0), draw((3, 5), 1), draw((5,), 2)

    def gradient(x, scale, bias):
        def wave(*operands):
            return jnp.sum(jnp.sin(batch_norm(*operands, EPSILON, Scope(groups))[0]))

        return jax.grad(wave, (0, 1, 2))(x, scale, bias)

    with traced_for(platform):
        mapped = jax.vmap(gradient, (1, 0, None))(x, scale, bias)
        for i in range(3):
            close([leaf[i] for leaf in mapped], gradient(x[:, i], scale[i], bias))


def test_the_variance_survives_a_mean_that_is_large_against_it():
    # The mean of squares minus the square of the mean would be far off, or negative. Sums of these
    # whole numbers are exact in whatever order, so that the mean is not what rounding takes away.
    exact = (2**11 + 4 * np.random.default_rng(0).normal(size=(4096, 8))).round()
    assert exact.sum(0).max() < 2**24
    x = jnp.asarray(exact, jnp.float32)
    _, mean, var = batch_norm(x, jnp.ones(8), jnp.zeros(8), EPSILON)
    # Of a part for each thread, or of fewer.
    assert (abs(mean[0] - exact.mean(0)) < bound(64, exact.mean(0))).all()
    assert (abs(var[0] - exact.var(0)) < bound(4096, exact.var(0))).all()


def test_the_variance_of_what_is_constant_is_about_zero_and_not_below():
    _, _, var = batch_norm(jnp.full((4096, 8), 0.1), jnp.ones(8), jnp.zeros(8), EPSILON)
    assert (var >= 0).all()
    # The square of what the mean may be off by; equal terms may all be rounded to the same side.
    assert var.max() < (4096 * float(jnp.finfo(jnp.float32).eps) * 0.1) ** 2


@pytest.mark.parametrize("distance", [0, 1, 10, 100])
def test_the_error_of_a_variance_grows_with_the_distance_of_the_shift_from_the_mean(distance):
    exact = np.float64(np.float32(2**11 + 4 * np.random.default_rng(0).normal(size=(4096, 8))))
    shift = jnp.float32(exact.mean(0) + distance * exact.std(0))
    with traced_for("gpu"):
        y, mean, var = batch_norm(
            jnp.float32(exact), jnp.ones(8), jnp.zeros(8), EPSILON, shift=shift
        )
    growth = 1 + distance**2
    assert (abs(mean[0] - exact.mean(0)) < bound(64, exact.mean(0))).all()
    assert (abs(var[0] - exact.var(0)) < growth * bound(64, exact.var(0))).all()
    np.testing.assert_allclose(y, formula(exact, 1, 0, EPSILON)[0], atol=2e-6 * (100 + growth))


def test_with_any_shift_the_variance_of_what_is_constant_is_not_below_zero():
    shift = jnp.linspace(-1, 1, 64)
    with traced_for("gpu"):
        _, _, var = batch_norm(
            jnp.full((4096, 64), 0.1), jnp.ones(64), jnp.zeros(64), EPSILON, shift=shift
        )
    assert (var >= 0).all()


def test_on_a_cpu_no_bit_depends_on_the_shift():
    x, scale, bias = (jnp.float32(draw(shape, 0)) for shape in ((60, 9, 9, 16), (16,), (16,)))
    with traced_for("cpu"):
        without, given = (
            batch_norm(x, scale, bias, EPSILON, shift=shift) for shift in (None, scale)
        )
    jax.tree.map(np.testing.assert_array_equal, without, given)


def test_half_precision_has_moments_in_float32():
    x = draw((64, 4, 4, 8), 0).astype(jnp.bfloat16)
    y, mean, var = batch_norm(x, jnp.ones(8), jnp.zeros(8), EPSILON)
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    exact = np.float64(x)
    expected, *moments = formula(exact, 1, 0, EPSILON)
    for own, moment, size in zip((mean, var), moments, (abs(exact), exact**2), strict=True):
        assert (abs(own - moment) < bound(64 * 4 * 4, size.mean((0, 1, 2)))).all()
    # Rounded to bfloat16 it is off by 2^-8, and a float32 that ends differently by one bit more.
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-7, atol=2**-9)
