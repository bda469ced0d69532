"""The openness of the gates in a gated network."""

from typing import Any

import flax.linen as nn
import jax

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.models.shortcuts import ShortcutGate
from resjax.probes.walk import BoundBlock, exact, forward


def gates(model: ResNet, variables: Any, batch: Batch) -> dict[str, jax.Array]:
    """Openness g(x) = sigmoid(W x + b) of every gate (He et al. 2016, section 3.1).

    The shortcut is multiplied by 1 - g, and with exclusive gates the branch by g.

    Returns:
      openness, deviation: `[blocks]`, mean and standard deviation of g over examples, pixels and
        channels; {} for a network without gates.
    """
    if not issubclass(model.parts.shortcut.func, ShortcutGate):
        return {}

    def visit(block: BoundBlock, x: jax.Array, _: None) -> tuple[jax.Array, Any]:
        y, parts = block.observed(x)
        gate = nn.sigmoid(exact(parts["shortcut"]["gate"]["output"]))
        return y, {"openness": gate.mean(), "deviation": gate.std()}

    return forward(model, variables, batch.images, visit)[1]
