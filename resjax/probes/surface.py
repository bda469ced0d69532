"""The loss around the parameters, along two random directions."""

from typing import Any

import jax
import jax.numpy as jnp

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet, is_stacked
from resjax.ops.random import random_key
from resjax.probes.walk import mean_loss
from resjax.training.losses import Loss, cross_entropy

POINTS, REACH = 15, 1.0
"""Points of the grid along each direction, and its half-width in units of the filters' norms."""


def surface(
    model: ResNet,
    variables: Any,
    batch: Batch,
    points: int = POINTS,
    reach: float = REACH,
    seed: int = 0,
    loss: Loss = cross_entropy,
) -> dict[str, jax.Array]:
    """The mean loss at params + a d1 + b d2, in evaluation mode (Li et al. 2018, section 4).

    The directions are random, and every filter of theirs has the norm of the network's own. They
    depend only on the seed and the shapes of the parameters, so that networks with equal layers are
    seen along the same noise.

    Returns:
      offset: `[points]`, the values of a and of b, from -reach to reach.
      loss: `[points, points]`, the loss by a and b.
    """
    first, second = (
        direction(variables["params"], key) for key in jax.random.split(random_key(seed))
    )
    offset = jnp.linspace(-reach, reach, points)

    def loss_at(place: tuple[jax.Array, jax.Array]) -> jax.Array:
        a, b = place
        params = jax.tree.map(lambda p, d, e: p + a * d + b * e, variables["params"], first, second)
        logits = model.apply({**variables, "params": params}, batch.images, train=False)
        return mean_loss(logits, batch.labels, loss)

    places = jnp.meshgrid(offset, offset, indexing="ij")
    losses = jax.lax.map(loss_at, tuple(place.reshape(-1) for place in places))
    return {"offset": offset, "loss": losses.reshape(points, points)}


def direction(params: Any, key: jax.Array) -> Any:
    """Draws normal noise with the norm of each filter in `params`; zero for scales and biases.

    A filter is the part of a kernel that computes one output channel.
    """
    leaves, structure = jax.tree.flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))

    def draw(path: tuple, leaf: jax.Array, key: jax.Array) -> jax.Array:
        if path[-1].key != "kernel":
            return jnp.zeros_like(leaf)
        noise = jax.random.normal(key, leaf.shape, leaf.dtype)
        axes = tuple(range(int(is_stacked(path)), leaf.ndim - 1))
        length, own = (jnp.sqrt(jnp.square(x).sum(axes, keepdims=True)) for x in (leaf, noise))
        return noise * length / own

    drawn = [draw(path, leaf, key) for (path, leaf), key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, drawn)
