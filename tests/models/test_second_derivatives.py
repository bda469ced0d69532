"""Hessian-vector products of networks, through the scans of their stages."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import resjax

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("double", "unoptimised")]

IMAGES = np.random.default_rng(0).normal(size=(4, 8, 8, 3))


class Printed(nn.Module):
    """Ioffe and Szegedy 2015, algorithm 1, as it is printed, by functions of JAX alone."""

    zero_scale: bool = False
    measuring: bool = False

    @nn.compact
    def __call__(self, x, train):
        assert train
        scale, bias = (self.param(each, nn.initializers.ones, x.shape[-1:], x.dtype)
                       for each in ("scale", "bias"))  # fmt: skip
        mean = x.mean((0, 1, 2))
        var = ((x - mean) ** 2).mean((0, 1, 2))
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def product(model, variables, tangent, order):
    """The Hessian of the loss of training times a tangent."""

    def loss(params):
        found = {"params": params, "batch_stats": variables["batch_stats"]}
        logits, _ = model.apply(found, IMAGES, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.arange(4)).mean()

    def slope(params):
        return optax.tree.vdot(jax.grad(loss)(params), tangent)

    params = variables["params"]
    if order == "forward over reverse":
        return jax.jit(lambda p: jax.jvp(jax.grad(loss), (p,), (tangent,))[1])(params)
    return jax.jit(jax.grad(slope))(params)


def draw(like, seed):
    drawn = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: drawn.normal(size=leaf.shape) / leaf.size**0.5, like)


@pytest.mark.parametrize(("order", "remat"), [
    ("forward over reverse", False),
    ("reverse over reverse", False),
    ("reverse over reverse", True),
])  # fmt: skip
def test_a_hessian_is_that_of_the_printed_formula_and_of_the_convolutions_of_xla(order, remat):
    """Stages of two blocks, the second of which is in a scan."""
    keys = {"width": 2, "dtype": "float64"}
    model = resjax.named_model("cifar-resnet14", classes=4, remat=remat, **keys)
    stock = resjax.named_model("cifar-resnet14", classes=4, conv="xla", **keys)
    stock = stock.clone(parts=dataclasses.replace(stock.parts, norm=Printed))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    variables, tangent = draw(shapes, 1), draw(shapes["params"], 2)
    ours = product(model, variables, tangent, order)
    theirs = product(stock, variables, tangent, order)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(theirs))
    jax.tree.map(
        lambda mine, other: np.testing.assert_allclose(mine, other, 0, 1e-10 * scale), ours, theirs
    )
