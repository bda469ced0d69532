import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.ops.conv import conv
from resjax.ops.norm import Scope, batch_norm
from resjax.ops.product import _square, product_norm

EPSILON = 1e-5
CHANNELS, FEATURES = 8, 20


def draw(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def operands():
    """Images like those after an activation, a kernel, a scale and a bias."""
    x = jnp.maximum(draw((6, 5, 4, CHANNELS), 0) * draw(CHANNELS, 1) + draw(CHANNELS, 2), 0)
    return x, draw((CHANNELS, FEATURES), 3), draw(FEATURES, 4), draw(FEATURES, 5)


def in_turn(x, kernel, scale, bias, epsilon, scope=None, shift=None):
    """The convolution, and then its normalisation."""
    return batch_norm(
        conv(x, kernel.astype(x.dtype)[None, None]), scale, bias, epsilon, scope, shift
    )


def close(ours, theirs, tolerance=1e-10):
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(
            mine, other, rtol=0, atol=tolerance * max(1, float(jnp.abs(other).max()))
        )


def of_results(function):
    """A function of the operands alone, a number that depends on every result."""

    def loss(*operands):
        return sum(
            jnp.sum(jnp.sin(part) * draw(part.shape, seed))
            for seed, part in enumerate(function(*operands, EPSILON), start=6)
        )

    return loss


@pytest.mark.usefixtures("double")
def test_it_is_the_normalised_convolution_with_its_derivatives_of_both_modes_and_orders():
    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(function, *operands):
        gradient = jax.grad(of_results(function), (0, 1, 2, 3))
        tangents = tuple(operand**2 + 1 for operand in operands)
        return [
            function(*operands, EPSILON),
            jax.jvp(lambda *a: function(*a, EPSILON), operands, tangents)[1],
            gradient(*operands),
            jax.jvp(gradient, operands, tangents)[1],
        ]

    close(derivatives(product_norm, *operands()), derivatives(in_turn, *operands()))


@pytest.mark.usefixtures("double")
def test_the_derivative_of_a_square_is_that_of_its_product():
    a, weights = draw((7, 3), 0), draw((3, 3), 1)  # not symmetric
    own, product = (
        jax.grad(lambda a, f=f: (f(a) * weights).sum())(a) for f in (_square, lambda a: a.T @ a)
    )
    close(own, product)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("shifted", [True, False], ids=["about values", "about zero"])
def test_devices_normalise_by_the_moments_of_all_their_examples(shifted):
    x, *others = operands()
    shares = x.reshape(3, 2, *x.shape[1:])
    scope, shift = Scope(axis="devices"), draw(FEATURES, 9) if shifted else None

    def share(x):
        return product_norm(x, *others, EPSILON, scope, shift)

    y, mean, var = jax.vmap(share, axis_name="devices")(shares)
    whole = in_turn(x, *others, EPSILON)
    close((y.reshape(whole[0].shape), mean[0], var[2]), whole)


@pytest.mark.usefixtures("double")
def test_a_feature_without_variance_is_its_bias():
    x, kernel, scale, bias = operands()
    x = jnp.broadcast_to(x[:1, :1, :1], x.shape)
    y, _, var = product_norm(x, kernel, scale, bias, EPSILON)
    assert (var >= 0).all()
    np.testing.assert_allclose(y, jnp.broadcast_to(bias, y.shape), atol=1e-5)


def test_in_half_precision_its_errors_are_those_of_the_convolution_in_turn():
    x, *others = operands()
    x = x.astype(jnp.bfloat16)

    def errors(function):
        def all_of(*operands):
            gradients = jax.grad(of_results(function), (0, 1, 2, 3))(*operands)
            return jax.tree.leaves((function(*operands, EPSILON), gradients))

        own = all_of(x, *(other.astype(jnp.float32) for other in others))
        with jax.enable_x64(True):
            exact = all_of(*(jnp.asarray(each, jnp.float64) for each in (x, *others)))
        return [
            np.linalg.norm(np.float64(a) - b) / np.linalg.norm(b)
            for a, b in zip(own, map(np.asarray, exact), strict=True)
        ]

    ours, theirs = errors(product_norm), errors(in_turn)
    assert max(ours) < 0.02
    assert all(a < 2 * b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def test_in_half_precision_every_feature_has_the_mean_that_it_should_have():
    """Far from zero, where what rounds the kernel does not average out."""
    x = (10 + draw((32, 8, 8, CHANNELS), 0)).astype(jnp.bfloat16)
    kernel, ones = draw((CHANNELS, FEATURES), 3).astype(jnp.float32), jnp.ones(FEATURES)
    y, mean, var = product_norm(x, kernel, ones, 0 * ones, EPSILON)
    rounded = jnp.finfo(x.dtype).eps / 2 * jnp.abs(mean[0]) / jnp.sqrt(var[0])  # as a bias is
    assert (jnp.abs(y.astype(jnp.float32).mean((0, 1, 2))) < rounded + 0.005).all()
    # Evaluation normalises the product with the kernel as it is rounded by this mean.
    product = conv(x, kernel.astype(x.dtype)[None, None]).astype(jnp.float32)
    assert (jnp.abs(product.mean((0, 1, 2)) - mean[0]) < 0.005 * jnp.sqrt(var[0])).all()


def test_nothing_of_the_size_of_the_product_is_kept_for_the_gradient():
    kept = {}
    for function in (product_norm, in_turn):
        _, pull = jax.vjp(lambda *a, f=function: f(*a, EPSILON)[0], *operands())
        kept[function] = {leaf.shape for leaf in jax.tree.leaves(pull)}
    size = (6, 5, 4, FEATURES)
    assert size not in kept[product_norm]
    assert size in kept[in_turn]
