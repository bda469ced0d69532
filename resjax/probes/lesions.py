"""The error of a network without a block, or with two blocks swapped."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resjax.data.batch import Batch
from resjax.models.resnet import STACKED, ResNet
from resjax.models.shortcuts import Plain
from resjax.probes.walk import BoundBlock, forward, mean_error


def lesions(model: ResNet, variables: Any, batch: Batch) -> dict[str, jax.Array]:
    """The error without one block, and with two blocks swapped (Veit et al. 2016, section 4).

    A block is deleted by setting its branch to zero, so that its shortcut stays; in a plain net
    shortcut A takes the place of the block. Neighbours of one shape are swapped: all blocks of a
    stage but the first. The error is a fraction of the examples.

    Returns:
      whole: the error of the network as it is.
      deleted: `[blocks]`, the error without the block.
      swapped: `[blocks]`, the error with the block and the next one swapped; NaN where they cannot
        be swapped.
    """
    blocks, plain = sum(model.spec.stages), model.parts.shortcut.func is Plain

    def visit(block: BoundBlock, x: jax.Array, deleted: jax.Array) -> tuple[jax.Array, Any]:
        if plain:
            y = block(x)
            return jnp.where(deleted, block.identity(x, y), y), None
        return block(x, lambda x, branch: (x, jnp.where(deleted, 0, branch))), None

    def without(number: jax.Array) -> jax.Array:
        chosen = jnp.arange(blocks) == number
        logits, _ = forward(model, variables, batch.images, visit, chosen)
        return mean_error(logits, batch.labels)

    def with_swapped(number: jax.Array) -> jax.Array:
        logits = model.apply(_swapped(model, variables, number), batch.images, train=False)
        return mean_error(logits, batch.labels)

    errors = jax.lax.map(without, jnp.arange(-1, blocks))
    swapped, pairs = jnp.full(blocks, jnp.nan, errors.dtype), _pairs(model)
    if len(pairs):
        swapped = swapped.at[pairs].set(jax.lax.map(with_swapped, jnp.asarray(pairs)))
    return {"whole": errors[0], "deleted": errors[1:], "swapped": swapped}


def _pairs(model: ResNet) -> np.ndarray:
    """The numbers of the blocks that can be swapped with the next one."""
    ends = np.cumsum(model.spec.stages)
    starts = ends - model.spec.stages
    inside = [np.arange(start + 1, end - 1) for start, end in zip(starts, ends, strict=True)]
    return np.concatenate(inside)


def _swapped(model: ResNet, variables: Any, number: jax.Array) -> Any:
    """Exchanges the variables of a block and the next one, both among the `rest` of a stage."""
    changed, done = {kind: dict(tree) for kind, tree in variables.items() if tree}, 0
    for stage, size in enumerate(model.spec.stages, start=1):
        place = done + 1 + jnp.arange(size - 1)
        order = jnp.arange(size - 1) + (place == number) - (place == number + 1)
        done += size
        for tree in changed.values():
            if STACKED in tree[f"stage{stage}"]:
                own = tree[f"stage{stage}"]
                rest = jax.tree.map(lambda leaf, order=order: leaf[order], own[STACKED])
                tree[f"stage{stage}"] = {**own, STACKED: rest}
    return {**variables, **changed}
