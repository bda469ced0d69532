"""Function-preserving growth: a deeper network that computes exactly what a shallower one does.

The argument of He et al. 2015, section 1, as code: a deeper net contains every shallower one, with
identity blocks for the layers that it has more. So its training error need not be higher, and where
it is, the optimiser has not found what was there.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.models.blocks import ACTIVATION, NORM
from resjax.models.features import features
from resjax.models.norm import BatchNorm
from resjax.models.resnet import ResNet
from resjax.models.shortcuts import (
    AveragePoolProjection,
    Identity,
    Plain,
    Projection,
    ProjectionAll,
)
from resjax.models.trace import initial_variables
from resjax.ops.value import by_value

CARRYING = (Identity, Projection, AveragePoolProjection)
"""Shortcuts that pass x unchanged where the shape does not change."""

Statistics = tuple[jax.Array, jax.Array]


def grow(
    variables: Any, shallow: ResNet, deep: ResNet, key: jax.Array, images: jax.Array | None = None
) -> Any:
    """The variables with which `deep` computes the function of `shallow` with its `variables`.

    Blocks are added at the end of every stage. With an identity shortcut the last normalisation of
    the new branch has scale zero (orders post and relu_preact), or its last layer is zero (preact),
    and outputs are equal exactly; all else is drawn from `key`. A plain block gets Dirac kernels
    and normalisations whose scale and bias undo their running statistics; outputs are equal to
    rounding.

    Both hold in evaluation mode. In training mode a plain net normalises by the batch; given
    `images` `[N, H, W, C]`, as the shallow net gets them, the running statistics of new blocks are
    those of its features on them, and a batch of such images is close to unchanged then, too.

    Raises:
      ValueError: if the networks differ in more than the number of blocks, or no block of this kind
        is the identity.
    """
    refuse_ungrowable(shallow, deep)
    first = variables["params"]["stem"][f"{shallow.parts.layer_name}1"]["kernel"]
    side = (shallow.spec.total_stride,) * 2 if first.ndim == 4 else ()
    drawn = initial_variables(deep, key, (*side, first.shape[-2]))
    seen = {} if images is None else _features(shallow, variables, images).stages

    grown = {kind: dict(tree) for kind, tree in variables.items() if tree}
    for i, (before, after) in enumerate(zip(shallow.spec.stages, deep.spec.stages, strict=True)):
        if before == after:
            continue
        name = f"stage{i + 1}"
        rest = {kind: drawn[kind][name]["rest"] for kind in grown}
        new = jax.tree.map(lambda leaf, start=before - 1: leaf[start:], rest)
        new = _identity_blocks(new, deep, seen.get(name))
        for kind in grown:
            # A single block that opens a pre-activation net has no normalisation of its own.
            stage = dict(grown[kind].get(name, {}))
            old = stage.get("rest", jax.tree.map(lambda leaf: leaf[:0], rest[kind]))
            stage["rest"] = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new[kind])
            grown[kind][name] = stage
    return {**variables, **grown}


_features = jax.jit(features, static_argnums=0)
"""`features` compiled as one program, which takes less than half the time of single operations."""


def refuse_ungrowable(shallow: ResNet, deep: ResNet) -> None:
    """Raises ValueError if `grow` cannot turn `shallow` into `deep`."""
    _refuse_unrelated(shallow, deep)
    shortcut, order = deep.parts.shortcut.func, deep.parts.order
    if shortcut is Plain:
        if order.before or ACTIVATION not in (*order.after[-1:], *order.joined[-1:]):
            raise ValueError("a plain block is the identity only after a relu; use order post")
        if deep.spec.block == "bottleneck":
            raise ValueError("a plain bottleneck has too few inner channels to be the identity")
        if deep.parts.residual_scale != 1 or deep.parts.learn_residual_scale:
            raise ValueError("a plain block that scales its branch is not the identity; scale by 1")
    elif shortcut not in (*CARRYING, ProjectionAll):
        raise ValueError(
            f"a block with shortcut {shortcut.__name__} changes x on its way; "
            "use identity, projection, projection_all or none"
        )
    elif shortcut is ProjectionAll and NORM in order.before:
        raise ValueError(
            "a pre-activation block with projection_all projects norm(x) and not x; "
            "use order post or shortcut identity"
        )
    elif NORM in order.joined or ACTIVATION in order.after:
        raise ValueError(
            "a block that normalises its sum, or ends its branch with a relu, cannot be the "
            "identity and learn; use order post, preact or relu_preact"
        )
    activates = order.joined or shortcut is Plain or (shortcut is ProjectionAll and order.before)
    if activates and deep.parts.activation is not nn.relu:
        raise ValueError("only relu leaves what it has activated as it is; use activation relu")
    _refuse_norm_that_stays(deep)


def _refuse_norm_that_stays(deep: ResNet) -> None:
    """Raises ValueError if a new block's normalisation can be neither undone nor zeroed."""
    norm, shortcut = deep.parts.norm(), deep.parts.shortcut
    if not isinstance(norm, BatchNorm):
        if isinstance(norm, nn.Module):
            raise ValueError(
                "a new block is the identity with norm.kind=batch or none; choose one of these"
            )
        return
    normalised = shortcut.func is ProjectionAll and shortcut.keywords["projection_norm"] == "always"
    undone = shortcut.func is Plain or normalised
    for key, needed in (
        ("use_scale", undone or bool(deep.parts.order.after)),
        ("use_bias", undone),
    ):
        if needed and not getattr(norm, key):
            raise ValueError(
                f"norm.{key}=False leaves out what makes a new block the identity; set it to True"
            )


def _refuse_unrelated(shallow: ResNet, deep: ResNet) -> None:
    same = dataclasses.replace(shallow.spec, stages=deep.spec.stages)
    fewer = [a > b for a, b in zip(shallow.spec.stages, deep.spec.stages, strict=False)]
    if same != deep.spec or len(shallow.spec.stages) != len(deep.spec.stages) or any(fewer):
        raise ValueError(
            f"cannot grow {shallow.spec} into {deep.spec}; only the number of blocks may differ, "
            "and no stage may lose any"
        )
    ours, theirs = _settings(shallow), _settings(deep)
    differing = [name for name in ours if ours[name] != theirs[name]]
    if differing:
        raise ValueError(
            f"cannot grow a network into one with other {', '.join(differing)}; only the number of "
            "blocks may differ"
        )


def _settings(model: ResNet) -> dict[str, Any]:
    """The parts, number of classes and dtype of a network, in a comparable form."""
    fields = dataclasses.fields(model.parts)
    parts = {field.name: by_value(getattr(model.parts, field.name)) for field in fields}
    return parts | {"classes": model.classes, "dtype": jnp.dtype(model.dtype)}


def _identity_blocks(new: Any, model: ResNet, seen: jax.Array | None) -> Any:
    """Changes the stacked variables of new blocks so that each block is the identity."""
    shortcut, order = model.parts.shortcut.func, model.parts.order
    layers = [f"{model.parts.layer_name}{i + 1}" for i in range(model.spec.branch_depth)]
    norms = [name for name in new.get("batch_stats", {}) if name.startswith("norm")]
    if seen is not None and order.before:  # which a new block applies to what it projects
        seen = model.parts.activation(seen)
    statistics = _statistics(seen)

    if shortcut is Plain:
        for name in layers:
            new = _set(new, "params", (name, "kernel"), _dirac)
        for name in norms:
            new = _undo(new, (name,), model, statistics)
        return new
    if shortcut is ProjectionAll:
        new = _set(new, "params", ("shortcut", "projection", "kernel"), _dirac)
        if "norm" in new["params"]["shortcut"]:
            new = _undo(new, ("shortcut", "norm"), model, statistics)
    if order.after and norms:
        return _set(new, "params", (f"norm{len(norms)}", "scale"), jnp.zeros_like)
    return _set(new, "params", (layers[-1], "kernel"), jnp.zeros_like)


def _statistics(seen: jax.Array | None) -> Statistics | None:
    if seen is None:
        return None
    axes = tuple(range(seen.ndim - 1))
    return seen.mean(axes), seen.var(axes)


def _undo(new: Any, path: tuple[str, ...], model: ResNet, statistics: Statistics | None) -> Any:
    """Sets a normalisation so that scale * (x - mean) / sqrt(var + epsilon) + bias = x."""
    norm: BatchNorm = model.parts.norm()

    def stacked(value: jax.Array) -> Callable[[jax.Array], jax.Array]:
        return lambda leaf: jnp.broadcast_to(value, leaf.shape).astype(leaf.dtype)

    mean, var = statistics if statistics is not None else (jnp.zeros(()), jnp.ones(()))
    new = _set(new, "batch_stats", (*path, "mean"), stacked(mean))
    new = _set(new, "batch_stats", (*path, "var"), stacked(var))
    new = _set(new, "params", (*path, "scale"), stacked(jnp.sqrt(var + norm.epsilon)))
    return _set(new, "params", (*path, "bias"), stacked(mean))


def _dirac(kernel: jax.Array) -> jax.Array:
    """Kernels `[blocks, (size, size,) C / groups, C]` that copy every channel."""
    per_group, channels = kernel.shape[-2:]
    centre = tuple(size // 2 for size in kernel.shape[1:-2])
    out = jnp.arange(channels)
    return jnp.zeros_like(kernel).at[(slice(None), *centre, out % per_group, out)].set(1)


def _set(new: Any, kind: str, path: tuple[str, ...], change: Callable) -> Any:
    """A copy of the tree with one leaf changed."""

    def descend(tree: Any, path: tuple[str, ...]) -> Any:
        if not path:
            return change(tree)
        return {**tree, path[0]: descend(tree[path[0]], path[1:])}

    return {**new, kind: descend(new[kind], path)}
