"""Networks built from the keys `model.*` and `norm.*` of a config; unsound ones are refused."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import (
    ConfigError,
    default_config,
    flatten,
    refuse_unknown,
    use_own_values,
)
from resjax.config.networks import keys_of
from resjax.config.tables import Table
from resjax.config.validation import refuse_value
from resjax.models.blocks import NORM, ORDERS, Order, Parts
from resjax.models.initialisers import INITIALISERS
from resjax.models.layers import convolution, dense
from resjax.models.networks import BLOCKS, FAMILIES, STEMS, Spec
from resjax.models.norm import norm_maker
from resjax.models.resnet import EVERY_BLOCK, ResNet
from resjax.models.shortcuts import make_shortcut
from resjax.models.soundness import (
    refuse_fewer_channels,
    refuse_impossible_widths,
    refuse_uneven_groups,
    refuse_unsound,
)
from resjax.ops.devices import DEVICES
from resjax.ops.pool import max_pool

ACTIVATIONS = Table(
    "model.activation",
    {
        "relu": nn.relu,
        "leaky_relu": nn.leaky_relu,
        "elu": nn.elu,
        "gelu": nn.gelu,
        "silu": nn.silu,
        "tanh": nn.tanh,
        "linear": lambda x: x,
    },
    entry="a function of an array",
)

DTYPES = Table(
    "model.dtype", {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
)

AUTO = "auto"
"""The value of a key that leaves a choice to the family or the order."""


def build_model(config: ConfigDict, classes: int, axis_name: str | None = DEVICES) -> ResNet:
    """The network that `config.model` and `config.norm` describe.

    Args:
      config: a config such as that of `default_config`.
      classes: outputs of the head; with 0 there is none.
      axis_name: axis of the `pmap` or `shard_map` whose devices BatchNorm takes as one batch; None
        is each device by itself.

    Raises:
      ConfigError: for a name that is in no table, a depth that the family does not have, or choices
        that make no sound network together; with the values and the remedy.
    """
    refuse_unknown(config)
    use_own_values(config)
    model = config.model
    for key, value in flatten(config).items():
        if key.startswith(("model.", "norm.")):
            refuse_value(key, value)
    if model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise ConfigError("model.dtype=float64 needs JAX_ENABLE_X64=1 in the environment")
    order = ORDERS[model.order]
    if config.norm.position == "after":
        order = order.with_norm_after_activation()
    refuse_unsound(config, order)
    spec, init = make_spec(model), INITIALISERS[model.kernel_init]
    refuse_fewer_channels(model, spec)
    refuse_uneven_groups(config, spec)
    return ResNet(
        spec=spec,
        classes=classes,
        parts=_parts(config, spec, order, axis_name),
        gains=init.gains(sum(spec.stages), spec.branch_depth),
        head_init=model.head_init,
        stochastic_depth=model.stochastic_depth,
        dtype=DTYPES[model.dtype],
        unroll=_unroll(model.unroll),
        remat=model.remat,
    )


def make_spec(model: ConfigDict) -> Spec:
    """The spec of a family at the depth, width, block, stem and groups of `config.model`.

    Raises:
      ConfigError: if the family has no such network.
    """
    refuse_unknown(model, "model")
    family = FAMILIES.choose(model.name)
    options = {"width": model.width} if model.width else {}
    if model.block != AUTO:
        BLOCKS.choose(model.block)
        options["block"] = model.block
    try:
        spec = family.spec(model.depth, **options)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if model.stem != AUTO:
        STEMS.choose(model.stem)
        if (model.stem == "dense") != (spec.stem == "dense"):
            raise ConfigError(
                f"model.stem={model.stem} does not fit model.name={model.name}; leave it at 'auto'"
            )
        spec = dataclasses.replace(spec, stem=model.stem)
    spec = dataclasses.replace(
        spec,
        groups=model.groups,
        bottleneck_width=model.bottleneck_width,
        stride_in=model.stride_in,
        opening=model.opening,
    )
    refuse_impossible_widths(model, spec)
    return spec


def preset(name: str) -> tuple[ConfigDict, tuple[int, int, int], int]:
    """The config of a named network, with the image shape and number of classes of its paper.

    Raises:
      ConfigError: for an unknown name, with the nearest.
    """
    config = default_config()
    config.model.update(keys_of(name))
    family = FAMILIES[config.model.name]
    return config, family.image_shape, family.classes


def named_model(
    name: str,
    *,
    classes: int | None = None,
    norm: str | Mapping[str, Any] = "batch",
    axis_name: str | None = DEVICES,
    **keys: Any,
) -> ResNet:
    """The network with a name such as "resnet50", with other keys of `config.model` if given.

    The head has as many outputs as in the papers, unless `classes` is given; 0 is no head. `norm`
    is a kind of normalisation, or a mapping of keys of `config.norm`. `axis_name` is as in
    `build_model`.

    >>> model = named_model("cifar-resnet56", shortcut="projection", order="preact")
    >>> model.spec.stages, model.classes
    ((9, 9, 9), 10)
    >>> named_model("resnet18", norm={"kind": "group", "groups": 16}).parts.norm().groups
    16
    >>> named_model("resnet18", classes=7).classes
    7

    Raises:
      ConfigError: for an unknown name, or keys that do not fit.
    """
    config, _, usual = preset(name)
    of_norm = dict(norm) if isinstance(norm, Mapping | ConfigDict) else {"kind": norm}
    sections = {"model": keys, "norm": of_norm}
    refuse_unknown(sections)
    with config.ignore_type():  # `build_model` refuses values of other types
        config.update(sections)
    return build_model(config, usual if classes is None else classes, axis_name)


def _parts(config: ConfigDict, spec: Spec, order: Order, axis_name: str | None) -> Parts:
    model, dtype = config.model, DTYPES[config.model.dtype]
    fully_connected = spec.stem == "dense"
    # A normalisation subtracts every bias before it; without one nothing else shifts an activation.
    biased = config.norm.kind == "none" if model.bias == AUTO else model.bias == "always"
    layer = functools.partial(
        dense if fully_connected else functools.partial(convolution, implementation=model.conv),
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
        norm=norm_maker(config.norm, dtype, axis_name),
        activation=ACTIVATIONS[model.activation],
        pool=functools.partial(max_pool, implementation=model.conv),
        shortcut=make_shortcut(model.shortcut, options, model.shortcut_base),
        order=order,
        zero_last_gamma=model.zero_last_gamma,
        residual_scale=model.residual_scale,
        learn_residual_scale=model.learn_residual_scale,
    )


def _unroll(text: str) -> int | None:
    named = {AUTO: None, "all": EVERY_BLOCK}
    if text in named:
        return named[text]
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise ConfigError(f"model.unroll={text!r} is not a positive number, nor 'all' or 'auto'")
    return int(text)
