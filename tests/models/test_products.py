"""Where a layer and its normalisation are one, and that the network is the same then."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.models.blocks import ORDERS, Block, Parts
from resjax.models.layers import Convolution, Layer, _settings, convolution
from resjax.models.norm import BatchNorm
from resjax.models.shortcuts import make_shortcut
from resjax.ops.platform import traced_for, tracing_for_runs
from tests.drawn import normal

HALF, KEY = jnp.bfloat16, jax.random.key(0)
IMAGES = normal(7, (16, 12, 12, 8))
BOTTLENECK = (Layer(4), Layer(4, 3), Layer(16))


class OwnConvolution(Convolution):
    """A user's, which may do anything."""


class OwnNorm(BatchNorm):
    """A user's, which knows nothing of products."""

    def __call__(self, x, train):
        return super().__call__(x, train)


def own_convolution(layer, implementation="auto", **settings):
    return OwnConvolution(layer, implementation=implementation, **_settings(layer, **settings))


def block(
    layers=BOTTLENECK, order="post", dtype=HALF, conv="auto", bias=None,
    make=convolution, kind=BatchNorm, **norm,
):  # fmt: skip
    """A bottleneck with a projection, in half precision."""
    parts = Parts(
        layer=functools.partial(make, dtype=dtype, implementation=conv, bias=bias),
        layer_name="conv",
        norm=functools.partial(kind, dtype=dtype, **norm),
        activation=nn.relu,
        shortcut=make_shortcut("projection", {}),
        order=ORDERS[order],
    )
    return Block(layers, parts)


def initial(model):
    return model.init(KEY, IMAGES, False)


def products(model, platform, train=True):
    """The number of products of matrices in a program of a block."""
    variables = initial(model)
    with traced_for(platform):
        jaxpr = jax.make_jaxpr(
            lambda variables: model.apply(variables, IMAGES, train, mutable=["batch_stats"])
        )(variables)
    return str(jaxpr).count("dot_general[")


ONE = 4
"""Products of matrices for a product W x: of x with itself, and of W, before and after it is
scaled, with the moments of x."""


@pytest.mark.parametrize(
    ("settings", "platform", "number"),
    [
        ({}, "gpu", 2),
        ({}, "tpu", 2),
        ({}, "cpu", 0),
        ({"dtype": jnp.float32}, "gpu", 0),
        ({"conv": "xla"}, "gpu", 0),
        ({"frozen": True}, "gpu", 0),
        ({"examples": 1}, "gpu", 0),
        ({"bias": 0.0}, "gpu", 0),
        ({"make": own_convolution}, "gpu", 0),
        ({"kind": OwnNorm}, "gpu", 0),
        ({"order": "preact"}, "gpu", 1),
        ({"layers": (Layer(8, 3), Layer(8, 3))}, "gpu", 0),
        ({"layers": (Layer(4), Layer(4, 3), Layer(16, groups=2))}, "gpu", 1),
        ({"layers": (Layer(4), Layer(4, 3, stride=2), Layer(16))}, "gpu", 1),
    ],
)
def test_1x1_convolutions_to_more_channels_are_normalised_as_products(settings, platform, number):
    assert products(block(**settings), platform) == ONE * number


def test_in_evaluation_no_layer_is():
    assert products(block(), "gpu", train=False) == 0


def test_the_block_has_the_same_outputs_statistics_and_gradients_to_the_rounding_of_its_dtype():
    variables = initial(block())

    def trained(dtype, platform="cpu"):
        model = block(dtype=dtype)

        def loss(params):
            y, new = model.apply(
                {**variables, "params": params}, IMAGES, True, mutable=["batch_stats"]
            )
            return (y.astype(jnp.float32) * normal(3, y.shape)).sum(), (y, new)

        with traced_for(platform):
            leaves = jax.tree.leaves(jax.grad(loss, has_aux=True)(variables["params"]))
        return np.concatenate([np.float64(leaf).ravel() for leaf in leaves])

    exact = trained(jnp.float32)
    in_turn, ours = (trained(HALF, platform) - exact for platform in ("cpu", "gpu"))
    assert 0 < np.linalg.norm(ours) < 1.5 * np.linalg.norm(in_turn) < 0.2 * np.linalg.norm(exact)


def test_runs_in_one_program_have_products_of_their_own():
    model, runs = block(), 3
    variables = jax.vmap(lambda key: model.init(key, IMAGES, False))(jax.random.split(KEY, runs))

    def trained(variables):
        def loss(params):
            y, new = model.apply(
                {**variables, "params": params}, IMAGES, True, mutable=["batch_stats"]
            )
            return (y.astype(jnp.float32) * normal(3, y.shape)).sum(), new

        return jax.grad(loss, has_aux=True)(variables["params"])

    with traced_for("gpu"), tracing_for_runs():
        together = jax.jit(jax.vmap(trained))
        found = together(variables)
        lost = together(jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), variables))
    for own, others in zip(*map(jax.tree.leaves, (found, lost)), strict=True):
        np.testing.assert_array_equal(own[::2], others[::2])
    assert any(jnp.isnan(leaf[1]).all() for leaf in jax.tree.leaves(lost))
    with traced_for("gpu"):
        alone = trained(jax.tree.map(lambda leaf: leaf[2], variables))
    for own, other in zip(*map(jax.tree.leaves, (found, alone)), strict=True):
        own, other = np.float64(own[2]), np.float64(other)
        assert np.linalg.norm(own - other) < 0.1 * np.linalg.norm(other)
