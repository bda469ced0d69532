"""Checks that refuse configs of unsound networks."""

import dataclasses
import math

from ml_collections import ConfigDict

from resjax.config import ConfigError
from resjax.models.blocks import ACTIVATION, NORM, Order
from resjax.models.initialisers import INITIALISERS
from resjax.models.networks import Spec
from resjax.models.shortcuts import SHORTCUTS


def _modifies(kind: str) -> bool:
    """Tells whether a shortcut modifies what another one, its base, carries."""
    return "base" in {field.name for field in dataclasses.fields(SHORTCUTS[kind])}


def refuse_fewer_channels(model: ConfigDict, spec: Spec) -> None:
    """Raises ConfigError if an identity shortcut would have to drop channels."""
    key = "model.shortcut_base" if _modifies(model.shortcut) else "model.shortcut"
    before = spec.stem_channels
    for stage in range(len(spec.stages)):
        after = spec.output(stage)
        if after < before and model[key.removeprefix("model.")] == "identity":
            raise ConfigError(
                f"an identity shortcut cannot go from {before} to {after} channels, as stage "
                f"{stage + 1} does; use {key}=projection, or a larger model.width"
            )
        before = after


def refuse_impossible_widths(model: ConfigDict, spec: Spec) -> None:
    """Raises ConfigError if a layer of a spec would have no channels, or groups of unequal size."""
    if spec.block != "bottleneck" and (spec.groups, spec.bottleneck_width) != (1, 1):
        raise ConfigError(
            f"model.groups={spec.groups} and model.bottleneck_width={spec.bottleneck_width:g} need "
            f"bottleneck blocks, and {model.name} depth {model.depth} has {spec.block} ones"
        )
    if any(layer.channels < 1 for layer in spec.stem_layers.layers):
        raise ConfigError(
            f"model.stem={spec.stem} halves its {spec.stem_channels} channels; raise model.width"
        )
    for stage in range(len(spec.stages)):
        inner = spec.inner(stage)
        if inner < 1:
            raise ConfigError(
                f"model.bottleneck_width={spec.bottleneck_width:g} leaves no inner channels in "
                f"stage {stage + 1}; raise it"
            )
        if inner % spec.groups:
            raise ConfigError(
                f"model.groups={spec.groups} does not divide the {inner} inner channels of stage "
                f"{stage + 1}; change model.groups, model.width or model.bottleneck_width"
            )


def refuse_uneven_groups(config: ConfigDict, spec: Spec) -> None:
    """Raises ConfigError if the number of groups does not divide the channels of every layer."""
    if config.norm.kind != "group":
        return
    stages = range(len(spec.stages))
    widths = {layer.channels for layer in spec.stem_layers.layers}
    widths |= {*map(spec.output, stages), *map(spec.inner, stages)}
    for channels in sorted(widths):
        if channels % config.norm.groups:
            raise ConfigError(
                f"norm.groups={config.norm.groups} does not divide the {channels} channels of a "
                f"layer; set norm.groups={math.gcd(*widths, config.norm.groups)}"
            )


def refuse_unsound(config: ConfigDict, order: Order) -> None:
    """Raises ConfigError for choices that leave a network dead or contradict each other."""
    model, normalised = config.model, config.norm.kind != "none"
    # A net in which nothing but the branches reaches the head.
    plain = (
        model.shortcut == "none"
        or (model.shortcut == "scaled" and model.shortcut_scale == 0)
        or (model.shortcut == "dropout" and model.shortcut_dropout == 1)
    )
    otherwise = "and without a shortcut there is no other path; choose a shortcut or"
    zero_kernels = INITIALISERS[model.kernel_init].gains(2, 2)[-1] == 0
    for wrong, message in (
        (
            _modifies(model.shortcut) and model.shortcut_base == "none",
            f"model.shortcut={model.shortcut} needs something to modify, and "
            "model.shortcut_base=none carries nothing; use identity or projection",
        ),
        (
            _modifies(model.shortcut) and _modifies(model.shortcut_base),
            f"model.shortcut_base={model.shortcut_base} modifies a shortcut itself; "
            "use identity or projection",
        ),
        (
            model.opening == "block" and NORM not in order.before,
            f"model.opening=block needs blocks that begin with a normalisation, which "
            f"model.order={model.order} has not; use order=preact",
        ),
        (
            model.shortcut == "scaled" and model.branch_scale == 0,
            "model.branch_scale=0 leaves the branches out for ever; use another constant",
        ),
        (
            model.residual_scale == 0 and not model.learn_residual_scale,
            "model.residual_scale=0 leaves the branches out for ever; set "
            "model.learn_residual_scale=True",
        ),
        (
            plain and model.residual_scale == 0,
            f"model.residual_scale=0 starts the branches at zero, {otherwise} use 1",
        ),
        (
            plain and model.zero_last_gamma,
            f"model.zero_last_gamma=True starts the branches at zero, {otherwise} set it to False",
        ),
        (
            plain and zero_kernels,
            f"model.kernel_init={model.kernel_init} starts the branches at zero, {otherwise} "
            "use he_normal",
        ),
        (
            plain and model.stochastic_depth > 0,
            f"model.stochastic_depth={model.stochastic_depth:g} drops whole branches, {otherwise} "
            "use 0",
        ),
        (
            config.norm.kind == "filter_response" and model.name == "mlp",
            "norm.kind=filter_response is over pixels, which dense layers have not; use layer",
        ),
        (
            config.norm.frozen and config.norm.kind != "batch",
            f"norm.frozen=True keeps running statistics, which norm.kind={config.norm.kind} has "
            "not; use norm.kind=batch",
        ),
        (
            model.kernel_init == "zeros",
            "model.kernel_init=zeros starts every layer at zero; use it for model.head_init",
        ),
        (
            INITIALISERS[model.head_init].gains(2, 2)[-1] == 0,
            f"model.head_init={model.head_init} is for branches; the head of such a net has zeros",
        ),
        (
            zero_kernels and normalised,
            f"model.kernel_init={model.kernel_init} is for nets without normalisation, which would "
            "divide by the variance of a zero branch; use norm.kind=none, or zero_last_gamma",
        ),
        (
            zero_kernels and ACTIVATION in order.after,
            f"model.kernel_init={model.kernel_init} starts the branches at zero, where a final "
            f"activation has no gradient, as in model.order={model.order}; use order=post",
        ),
        (
            model.zero_last_gamma and not normalised,
            "model.zero_last_gamma=True needs a normalisation to act on; use norm.kind=batch, or "
            "learn_residual_scale with residual_scale=0",
        ),
        (
            model.zero_last_gamma and order.after != (NORM,),
            "model.zero_last_gamma=True needs a branch that ends with a normalisation, which "
            f"model.order={model.order} has not; use order=post",
        ),
    ):
        if wrong:
            raise ConfigError(message)
