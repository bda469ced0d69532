"""BatchNorm from inside: the accuracy of its statistics, and its dead channels."""

from typing import Any

import jax
import jax.numpy as jnp

from resjax.data.batch import Batch
from resjax.models.blocks import ACTIVATION, NORM
from resjax.models.resnet import STACKED, ResNet
from resjax.ops.norm import combine_moments, map_moments
from resjax.probes.walk import BoundBlock, by_batch, forward, group_size
from resjax.training.step import measure_step

PARTS = 4
"""Number of equal parts of the images; one part, as a batch, is compared with all of them."""


def normalisation(
    model: ResNet, variables: Any, batch: Batch, parts: int = PARTS
) -> dict[str, jax.Array]:
    """The statistics of a batch and the running ones, against precise ones; dead channels.

    Precise statistics are those of all parts of the images as if they were one batch, while the
    network normalises by each part (Wu and Johnson 2021, section 3). A batch is the first part.
    There are fewer parts if `norm.examples`, of which each is a multiple, leaves no more.
    The deviations of mean and variance, over channels, are
    sqrt(mean((mean - precise mean)^2 / (precise var + epsilon))) and
    mean(|log((var + epsilon) / (precise var + epsilon))|). A channel is dead if its output, after
    the activation if one follows, is the same for every example and pixel in evaluation.

    Returns:
      batch_mean, batch_var, running_mean, running_var: `[blocks, norms]`, deviations from precise
        statistics.
      dead: `[blocks, norms]`, the fraction of dead channels. All are NaN for a normalisation that a
        block does not have; the result is {} for a network without running statistics.
    """
    running = variables.get("batch_stats", {})
    if not running:
        return {}
    model_by_batch, fitting = by_batch(model, batch)
    group = group_size(model_by_batch)
    groups = len(fitting.images) // group
    parts = min(parts, groups)
    size = groups // parts * group
    images = fitting.images[: parts * size].reshape(parts, size, *batch.images.shape[1:])
    moments = jax.lax.map(
        lambda images: measure_step(model_by_batch, variables, Batch(images, None)), images
    )
    epsilon = model.parts.norm().epsilon
    own = jax.tree.map(lambda leaf: leaf[0], moments)
    precise = map_moments(combine_moments, moments)
    off = {
        f"{name}_{what}": _by_block(model, how, tree, precise, epsilon)
        for name, tree in (("batch", own), ("running", running))
        for what, how in (("mean", _mean_off), ("var", _var_off))
    }
    return off | {"dead": _dead(model, variables, batch.images)}


def _mean_off(one: Any, other: Any, epsilon: float) -> jax.Array:
    square = jnp.square(one["mean"] - other["mean"]) / (other["var"] + epsilon)
    return jnp.sqrt(square.mean(-1))


def _var_off(one: Any, other: Any, epsilon: float) -> jax.Array:
    return jnp.abs(jnp.log((one["var"] + epsilon) / (other["var"] + epsilon))).mean(-1)


def _by_block(model: ResNet, compare: Any, one: Any, other: Any, epsilon: float) -> jax.Array:
    """Results of `compare` for every normalisation of every block, `[blocks, norms]`."""
    names, rows = _names(model), []
    for stage, size in enumerate(model.spec.stages, start=1):
        trees = one[f"stage{stage}"], other[f"stage{stage}"]
        for part, number in (("first", 1), (STACKED, size - 1)):
            if part not in trees[0]:
                continue
            columns = [
                jnp.broadcast_to(
                    compare(trees[0][part][name], trees[1][part][name], epsilon)
                    if name in trees[0][part]
                    else jnp.nan,
                    number,
                )
                for name in names
            ]
            rows.append(jnp.stack(columns, axis=-1))
    return jnp.concatenate(rows)


def _dead(model: ResNet, variables: Any, images: jax.Array) -> jax.Array:
    activated = _names(model)

    def visit(block: BoundBlock, x: jax.Array, _: None) -> tuple[jax.Array, Any]:
        y, parts = block.observed(x)
        fractions = [
            _constant(parts[name]["output"], model.parts.activation if active else None)
            if name in parts
            else jnp.asarray(jnp.nan)
            for name, active in activated.items()
        ]
        return y, jnp.stack(fractions)

    return forward(model, variables, images, visit)[1]


def _constant(x: jax.Array, activation: Any) -> jax.Array:
    """The fraction of the channels with a single value, after the activation if given."""
    x = x if activation is None else activation(x)
    axes = tuple(range(x.ndim - 1))
    return (x.max(axes) == x.min(axes)).mean()


def _names(model: ResNet) -> dict[str, bool]:
    """The normalisations of a block, as it names them, and whether an activation follows each."""
    active = [
        steps[place + 1 : place + 2] == (ACTIVATION,)
        for steps in model.parts.order.by_layer(model.spec.branch_depth)
        for place, step in enumerate(steps)
        if step == NORM
    ]
    return {f"norm{number}": flag for number, flag in enumerate(active, start=1)}
