"""Networks to probe, and their forward pass written out block by block."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resjax.config import default_config
from resjax.data.batch import Batch
from resjax.models.blocks import Block
from resjax.models.build import build_model
from resjax.models.resnet import StemLayers
from resjax.models.trace import variable_shapes
from tests.drawn import normal
from tests.models.compiled import quick, scrambled

IMAGES = normal(7, (24, 8, 8, 3))
BATCH = Batch(IMAGES, jnp.arange(24) % 10)


def built(norm=None, **keys):
    """A network of width 4 and variables that are random everywhere, for a test to change."""
    config = default_config()
    config.model.update({"depth": 14, "width": 4} | keys)
    if jax.config.jax_enable_x64:
        config.model.dtype = "float64"
    config.norm.update(norm or {})
    model = build_model(config, 10)
    return model, scrambled(variable_shapes(model, IMAGES.shape[1:]))


def probed(probe, model, variables, batch=BATCH):
    return jax.device_get(quick(lambda v, batch: probe(model, v, batch))(variables, batch))


def of_blocks(tree, model):
    """A subtree of variables for each block, in the order of the network."""
    found = []
    for stage, size in enumerate(model.spec.stages, start=1):
        found.append(tree[f"stage{stage}"]["first"])
        for i in range(size - 1):
            rest = tree[f"stage{stage}"]["rest"]
            found.append(jax.tree.map(lambda leaf, i=i: leaf[i], rest))
    return found


def logits_by_hand(model, variables, images, added, train):
    """Of a network of order post, with `added[l]` added to the input of block l, and its inputs."""

    def apply(module, tree, *arguments):
        return module.apply(tree, *arguments, mutable=["batch_stats"])[0]

    kinds = [kind for kind, tree in variables.items() if tree]
    stem = StemLayers(model.spec.stem_layers, model.parts)
    x = apply(stem, {kind: variables[kind]["stem"] for kind in kinds}, images, train)
    places = [(i, k == 0) for i, size in enumerate(model.spec.stages) for k in range(size)]
    trees = {kind: of_blocks(variables[kind], model) for kind in kinds}
    inputs = []
    for number, (stage, first) in enumerate(places):
        block = Block(model.spec.branch(stage, first, model.gains), model.parts)
        inputs.append(x)
        x = x + added[number]
        x = apply(block, {kind: trees[kind][number] for kind in kinds}, x, train)
    head = variables["params"]["head"]
    pooled = x.mean((1, 2)) if x.ndim == 4 else x
    return pooled @ head["kernel"] + head["bias"], inputs


def gradients_by_hand(model, variables, batch):
    """The gradient of the mean loss at the input of every block, in training mode; the inputs.

    Raises:
      AssertionError: if the logits are not those of the network.
    """

    def loss(added):
        logits, _ = logits_by_hand(model, variables, batch.images, added, True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels).mean()

    @quick
    def run(variables):
        zeros = [0.0] * sum(model.spec.stages)
        logits, inputs = logits_by_hand(model, variables, batch.images, zeros, True)
        whole, _ = model.apply(variables, batch.images, train=True, mutable=["batch_stats"])
        return logits, whole, inputs, jax.grad(loss)(jax.tree.map(jnp.zeros_like, inputs))

    logits, whole, inputs, gradients = jax.device_get(run(variables))
    np.testing.assert_allclose(logits, whole, rtol=1e-9, atol=1e-9)
    return gradients, inputs
