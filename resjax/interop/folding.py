"""Folding of normalisations into the preceding layers: the same function in fewer operations."""

import dataclasses
from typing import Any

import numpy as np

from resjax.config import ConfigError
from resjax.models.blocks import ACTIVATION, NORM
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.runs.weights import Weights, paths, unflatten


def fold(weights: Weights) -> Weights:
    """Folds normalisations into layers; the network without them evaluates to the same logits.

    norm(W x + b) = (W f) x + (b - mean) f + bias, with f = scale / sqrt(var + epsilon). Outputs are
    equal to rounding. There are no running statistics any more, so it is for evaluation.

    Raises:
      ConfigError: if more than layers is normalised, as the sums of pre-activation nets are.
    """
    model, config = weights.model, weights.about.config.copy_and_resolve_references()
    order = model.parts.order
    if config.norm.kind != "batch":
        raise ConfigError(
            f"norm.kind={config.norm.kind}: there are no running statistics to fold into layers; "
            "export it unfolded"
        )
    follows = NORM not in (*order.before, *order.joined) and all(
        steps[:1] != (ACTIVATION,) for steps in (order.between, order.after)
    )
    if not follows:
        raise ConfigError(
            f"model.order={config.model.order} with norm.position={config.norm.position} "
            "normalises more than the outputs of layers; export it unfolded"
        )
    config.norm.kind, config.norm.frozen = "none", False
    config.model.bias, config.model.zero_last_gamma = "always", False
    folded = build_model(config, model.classes)
    ours = {path: np.float64(leaf) for path, leaf in paths(weights.variables).items()}
    leaves = {}
    for path, shape in paths(variable_shapes(folded, weights.about.image_shape)).items():
        value = _folded(path, ours, model.parts.norm().epsilon)
        leaves[path] = np.broadcast_to(value, shape.shape).astype(shape.dtype)
    about = dataclasses.replace(weights.about, config=config)
    return dataclasses.replace(weights, about=about, variables=unflatten(leaves))


def _folded(path: str, ours: dict[str, np.ndarray], epsilon: float) -> Any:
    """Computes a leaf of the folded network from the leaves of the original one."""
    _, *modules, leaf = path.split("/")
    norm = "/".join(_after(modules))
    value = ours.get(path, np.zeros(()))
    if f"batch_stats/{norm}/var" not in ours:
        return value
    mean, var = (ours[f"batch_stats/{norm}/{name}"] for name in ("mean", "var"))
    factor = ours.get(f"params/{norm}/scale", 1.0) / np.sqrt(var + epsilon)
    if leaf == "bias":
        return (value - mean) * factor + ours.get(f"params/{norm}/bias", 0.0)
    # Stacked blocks, those of a stage's rest, have a factor each.
    axes = (1,) * (value.ndim - factor.ndim)
    return value * factor.reshape(*factor.shape[:-1], *axes, factor.shape[-1])


def _after(modules: list[str]) -> list[str]:
    """Path of the normalisation that would follow a layer."""
    *outer, layer = modules
    if layer == "projection":
        return [*outer, "norm"]
    number = layer.lstrip("abcdefghijklmnopqrstuvwxyz")
    return [*outer, f"norm{number}"]
