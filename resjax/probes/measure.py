"""Measurement by probes of a given network, wherever it comes from."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resjax.config import ConfigError
from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.models.trace import variable_shapes
from resjax.probes.table import PROBES, chosen
from resjax.training.feeds import Feed
from resjax.training.losses import Loss
from resjax.training.plan import Plan
from resjax.training.programs import program

Arrays = dict[str, dict[str, np.ndarray]]
"""Results of probes, {probe: {name: array}}."""


def compute_probes(
    names: list[str],
    model: ResNet,
    variables: Any,
    batches: dict[str, Batch],
    begin: Callable[[str], None],
    loss: Loss,
) -> Arrays:
    """Computes probes by name, with the loss that the run trains with.

    `batches` are by split, and `begin(name)` is called before each probe.

    Probes that have no result for the network are left out.
    """
    found = {}
    for name in names:
        begin(name)
        arguments = variables, batches[PROBES[name].split]
        parts = PROBES[name].measure, PROBES[name].of_loss, loss, model
        arrays = program(_measured, parts, arguments)(*arguments)
        if arrays:
            found[name] = jax.device_get(arrays)
    return found


def _measured(
    measure: Callable, of_loss: bool, loss: Loss, model: ResNet, variables: Any, batch: Batch
) -> dict[str, jax.Array]:
    return measure(model, variables, batch, **({"loss": loss} if of_loss else {}))


def probed_batches(names: list[str], feed: Feed, examples: int) -> dict[str, Batch]:
    """The first images of each split that the probes use, as evaluation sees them, by split."""
    splits = {PROBES[name].split for name in names}
    return {split: jax.device_get(feed.first_examples(split, examples)) for split in splits}


def refuse_broken_probes(plan: Plan) -> None:
    """Traces a run's custom probes before anything is trained, to refuse broken ones.

    Raises:
      ConfigError: if one gives anything but {name: array} with a row for each block, or a scalar.
    """
    blocks, examples = sum(plan.model.spec.stages), plan.config.eval.probe_examples
    images = jax.ShapeDtypeStruct((examples, *plan.image_shape), jnp.float32)
    batch = Batch(images, jax.ShapeDtypeStruct((examples,), jnp.int32))
    for name in chosen(plan.config.eval.probes, "eval.probes"):
        if name not in PROBES.files:
            continue
        probe = PROBES[name]
        parts = probe.measure, probe.of_loss, plan.loss, plan.model
        variables = variable_shapes(plan.model, plan.image_shape)
        found = jax.eval_shape(functools.partial(_measured, *parts), variables, batch)
        if not isinstance(found, dict):
            raise ConfigError(
                f"the probe {name} gives {type(found).__name__}; return a dict {{name: array}}"
            )
        for what, array in found.items():
            if probe.by_block and array.shape[:1] not in ((), (blocks,)):
                raise ConfigError(
                    f"{what} of the probe {name} has shape {array.shape}; return a scalar, or a "
                    f"row for each of the {blocks} blocks"
                )


def as_lists(found: Arrays) -> dict[str, dict[str, Any]]:
    """Converts arrays to lists of numbers."""
    return {
        probe: {name: np.asarray(array).tolist() for name, array in arrays.items()}
        for probe, arrays in found.items()
    }
