"""The strength of the layers' responses."""

from typing import Any

import jax
import jax.numpy as jnp

from resjax.data.batch import Batch
from resjax.models.blocks import NORM, Block
from resjax.models.resnet import ResNet
from resjax.probes.walk import BoundBlock, exact, forward


def responses(model: ResNet, variables: Any, batch: Batch) -> dict[str, jax.Array]:
    """Standard deviations of layer responses (He et al. 2015, figure 7).

    A response is the output of a 3x3 layer after its normalisation, and before the activation or
    the sum. Where no normalisation follows the layer, it is the output of the layer itself. In a
    fully connected net every dense layer of the branches has a response.

    Returns:
      deviation: `[blocks, layers]`, standard deviation over examples, pixels and channels.
    """

    def visit(block: BoundBlock, x: jax.Array, _: None) -> tuple[jax.Array, Any]:
        y, parts = block.observed(x)
        found = [parts[name]["output"] for name in response_names(block.module, parts)]
        return y, jnp.stack([exact(value).std() for value in found])

    return {"deviation": forward(model, variables, batch.images, visit)[1]}


def response_names(block: Block, parts: Any) -> list[str]:
    """Names of the parts whose outputs are the responses of the block's layers of largest size."""
    steps = block.parts.order.by_layer(len(block.layers))
    largest, names = max(layer.size for layer in block.layers), []
    for number, layer in enumerate(block.layers, start=1):
        earlier = sum(those.count(NORM) for those in steps[:number])
        name = f"norm{earlier + 1}"
        if steps[number][:1] != (NORM,) or name not in parts:
            name = f"{block.parts.layer_name}{number}"
        if layer.size == largest:
            names.append(name)
    return names
