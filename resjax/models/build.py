"""From the keys `model.*` and `norm.*` of a config to a network, or why there is none."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import ConfigError, choose, default_config, nearest
from resjax.models.blocks import NORM, ORDERS, Order, Parts
from resjax.models.initialisers import INITIALISERS
from resjax.models.layers import convolution, dense
from resjax.models.mlp import ResidualMLP
from resjax.models.networks import BLOCKS, FAMILIES, KNOWN_NAMES, STEMS, Spec, named
from resjax.models.norm import NORMS
from resjax.models.resnet import ResNet
from resjax.models.shortcuts import SHORTCUTS, make_shortcut

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "tanh": nn.tanh,
    "linear": lambda x: x,
}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}

AUTO = "auto"
"""The value of a key that leaves a choice to the family or the order."""


def build_model(config: ConfigDict, classes: int) -> ResNet:
    """The network that `config.model` and `config.norm` describe.

    Raises:
      ConfigError: for a name that is in no table, a depth that the family does not have, or choices
        that make no sound network together; with the values and the remedy.
    """
    model = config.model
    for key, table in (
        ("shortcut", SHORTCUTS),
        ("shortcut_base", SHORTCUTS),
        ("order", ORDERS),
        ("activation", ACTIVATIONS),
        ("kernel_init", INITIALISERS),
        ("head_init", INITIALISERS),
        ("dtype", DTYPES),
        ("stride_in", ("3x3", "1x1")),
        ("identity_pad", ("end", "both")),
        ("projection_norm", (AUTO, "always", "never")),
        ("bias", (AUTO, "always", "never")),
    ):
        choose(dict.fromkeys(table), model[key], f"model.{key}")
    choose(NORMS, config.norm.kind, "norm.kind")
    choose(dict.fromkeys(("before", "after")), config.norm.position, "norm.position")
    if model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise ConfigError("model.dtype=float64 needs JAX_ENABLE_X64=1 in the environment")
    order = ORDERS[model.order]
    _refuse_unsound(config, order)
    if config.norm.position == "after":
        order = order.with_norm_after_activation()
    spec, init = make_spec(model), INITIALISERS[model.kernel_init]
    return (ResidualMLP if spec.stem == "dense" else ResNet)(
        spec=spec,
        classes=classes,
        parts=_parts(config, spec, order),
        gains=init.gains(sum(spec.stages), len(BLOCKS[spec.block].units)),
        head_init=model.head_init,
        stochastic_depth=model.stochastic_depth,
        dtype=DTYPES[model.dtype],
        unroll=_unroll(model.unroll),
    )


def make_spec(model: ConfigDict) -> Spec:
    """The spec of a family at the depth, width, block, stem and groups of `config.model`.

    Raises:
      ConfigError: if the family has no such network.
    """
    family = choose(FAMILIES, model.name, "model.name")
    options = {} if model.block == AUTO else {"block": model.block}
    options |= {"width": model.width} if model.width else {}
    if model.block != AUTO:
        choose(BLOCKS, model.block, "model.block")
    try:
        spec = family.spec(model.depth, **options)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if model.stem != AUTO:
        choose(STEMS, model.stem, "model.stem")
        if (model.stem == "dense") != (spec.stem == "dense"):
            raise ConfigError(f"model.stem={model.stem} does not fit model.name={model.name}")
        spec = dataclasses.replace(spec, stem=model.stem)
    spec = dataclasses.replace(
        spec,
        groups=model.groups,
        bottleneck_width=model.bottleneck_width,
        stride_in=model.stride_in,
    )
    if spec.block != "bottleneck" and (spec.groups, spec.bottleneck_width) != (1, 1):
        raise ConfigError(
            f"model.groups={spec.groups} and model.bottleneck_width={spec.bottleneck_width:g} need "
            f"bottleneck blocks, and {model.name} depth {model.depth} has {spec.block} ones"
        )
    for stage in range(len(spec.stages)):
        inner = spec.inner(stage)
        if inner < 1 or inner % spec.groups:
            raise ConfigError(
                f"model.groups={spec.groups} does not divide the {inner} inner channels of stage "
                f"{stage + 1}; change model.groups, model.width or model.bottleneck_width"
            )
    return spec


def preset(name: str) -> tuple[ConfigDict, tuple[int, int, int], int]:
    """The config of a named network, and the image shape and number of classes of its papers.

    Raises:
      ConfigError: for an unknown name, with the nearest.
    """
    keys = named(name)
    if not keys:
        raise ConfigError(f"unknown network {name!r}; {nearest(name, list(KNOWN_NAMES))}")
    config = default_config()
    config.model.update(keys)
    family = FAMILIES[config.model.name]
    return config, family.image_shape, family.classes


def _parts(config: ConfigDict, spec: Spec, order: Order) -> Parts:
    model, dtype = config.model, DTYPES[config.model.dtype]
    fully_connected = spec.stem == "dense"
    # A normalisation subtracts every bias before it; without one nothing else shifts an activation.
    biased = config.norm.kind == "none" if model.bias == AUTO else model.bias == "always"
    layer = functools.partial(
        dense if fully_connected else convolution,
        init=model.kernel_init,
        dtype=dtype,
        bias=0.0 if biased else None,
    )
    options = {key: model[key] for key in model}
    if model.projection_norm == AUTO:
        # He et al. 2016, appendix: the projections of a pre-activation net follow a BN and ReLU.
        options["projection_norm"] = "never" if NORM in order.before else "always"
    return Parts(
        layer=layer,
        layer_name="dense" if fully_connected else "conv",
        norm=NORMS[config.norm.kind](config.norm, dtype),
        activation=ACTIVATIONS[model.activation],
        shortcut=make_shortcut(model.shortcut, options, model.shortcut_base),
        order=order,
        zero_last_gamma=model.zero_last_gamma,
        residual_scale=model.residual_scale,
        learn_residual_scale=model.learn_residual_scale,
    )


def _refuse_unsound(config: ConfigDict, order: Order) -> None:
    """Raises ConfigError for choices that leave a net dead or contradict each other."""
    model = config.model
    modified = "base" in {field.name for field in dataclasses.fields(SHORTCUTS[model.shortcut])}
    base = SHORTCUTS[model.shortcut_base]
    base_modified = "base" in {field.name for field in dataclasses.fields(base)}
    plain = model.shortcut == "none"
    remedy_plain = "a plain net has no other path; choose a shortcut or"
    for wrong, message in (
        (
            modified and (model.shortcut_base == "none" or base_modified),
            f"model.shortcut={model.shortcut} needs something to modify, and "
            f"model.shortcut_base={model.shortcut_base} is none; use identity or projection",
        ),
        (
            plain and model.zero_last_gamma,
            f"model.zero_last_gamma=True kills every block: {remedy_plain} set it to False",
        ),
        (
            plain and INITIALISERS[model.kernel_init].gains(2, 2)[-1] == 0,
            f"model.kernel_init={model.kernel_init} starts the branches at zero: {remedy_plain} "
            "use he_normal",
        ),
        (
            model.kernel_init == "zeros",
            "model.kernel_init=zeros starts every layer at zero; use it for model.head_init",
        ),
        (
            plain and model.residual_scale == 0,
            f"model.residual_scale=0 kills every block: {remedy_plain} use 1",
        ),
        (
            model.residual_scale == 0 and not model.learn_residual_scale,
            "model.residual_scale=0 leaves the branches out for ever; set "
            "model.learn_residual_scale=True",
        ),
        (
            plain and model.stochastic_depth > 0,
            f"model.stochastic_depth={model.stochastic_depth:g} drops whole blocks: "
            f"{remedy_plain} use 0",
        ),
        (
            model.zero_last_gamma and (order.after != (NORM,) or config.norm.kind == "none"),
            f"model.zero_last_gamma=True needs a branch that ends with a normalisation, and with "
            f"model.order={model.order}, norm.kind={config.norm.kind} none does; use order=post",
        ),
    ):
        if wrong:
            raise ConfigError(message)


def _unroll(text: str) -> int:
    if text == "all":
        return ResNet.unroll
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"model.unroll={text!r} is neither a positive number nor 'all'")
    return int(text)
