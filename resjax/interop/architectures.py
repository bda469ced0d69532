"""Names of architectures, checked against the network that the tensors show.

Networks with equal tensors can be different functions: blurred or pooled before a stride, dilated,
with other activations. So a name must be known to be that of the network that was recognised.
"""

import re
from collections.abc import Mapping
from typing import Any

from resjax.config import ConfigError, default_config, differences
from resjax.config.networks import named
from resjax.interop.recognise import Recognised
from resjax.models.build import AUTO
from resjax.models.networks import FAMILIES

ORIGINS = ("tv_", "ssl_", "swsl_", "ig_", "gluon_")
"""Prefixes in timm's names that say who trained a network, not which network it is."""

KINDS: dict[str, dict[str, str]] = {
    "": {},
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "shortcut": "avgpool_projection"},
}
"""Letters after a depth: the variants of He et al. 2019 (Bag of Tricks), table 5."""

GENERAL = ("resnet",)
"""Names of Python classes that scripts write, and that any ResNet may have."""

COMPARED = ("name", "depth", "stem", "shortcut", "groups", "bottleneck_width", "order", "opening")
"""Keys of config.model that a name determines."""


def refuse_other_architecture(name: str, found: Recognised, what: str) -> None:
    """Raises ConfigError unless a name is known to be that of the recognised network.

    Args:
      name: name in torchvision, timm or akamaster's code, such as "resnet50d.ra2_in1k".
      found: network that the tensors show.
      what: file that says the name, for errors.
    """
    if name.lower() in GENERAL:
        return
    said = _keys_of(name, found.naming)
    if not said:
        raise ConfigError(
            f"{what} names the architecture {name!r}, which is not known to be one that resjax "
            "has, and nets with equal tensors can compute something else; if you know that it is "
            "a plain ResNet, give the tensors without that name"
        )
    usual, model = default_config().model, found.config.model
    there = {f"model.{key}": said.get(key, usual[key]) for key in COMPARED}
    here = {f"model.{key}": model[key] for key in COMPARED}
    if there["model.stem"] == FAMILIES[model.name].spec(model.depth).stem:
        there["model.stem"] = AUTO
    if found.naming == "akamaster":
        there["model.shortcut"] = here["model.shortcut"]  # its names do not say it
    if differing := differences(there, here, "by that name", "by the tensors"):
        raise ConfigError(
            f"{what} names the architecture {name!r}, which it is not: {differing}; give the "
            "tensors without that name, or those of that network"
        )


def _keys_of(name: str, naming: str) -> Mapping[str, Any]:
    """Keys of config.model of an architecture; {} if it is not known."""
    plain = name.lower().partition(".")[0].replace("-", "")
    for origin in ORIGINS:
        plain = plain.removeprefix(origin)
    if naming == "akamaster":
        return named(f"cifar-{plain}")
    plain = re.sub(r"_v1([bcd])$", lambda match: match[1].replace("b", ""), plain)
    match = re.fullmatch(r"((?:wide_)?resne(?:t|xt)\d+)([cd]?)(_\d+(?:x\d+d)?)?", plain)
    if not match:
        return named(plain) if plain.startswith("resnetv2_") else {}
    family, kind, rest = match[1], match[2], match[3] or ""
    keys = named(family + rest)
    return keys and {**keys, **KINDS[kind]}
