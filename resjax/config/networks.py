"""Names of whole networks, such as resnet50, and the keys of a config that make them."""

import re
from collections.abc import Callable

from resjax.config.errors import ConfigError, nearest

_WRN = {"order": "preact", "shortcut": "projection", "projection_norm": "never"}
_IMAGENET_DEPTHS = "18|34|50|101|152|200"

NAMES: dict[str, Callable[..., dict]] = {
    # A pattern of names, and the keys of config.model that its groups set.
    rf"resnet({_IMAGENET_DEPTHS})": lambda depth: {
        "name": "imagenet",
        "depth": int(depth),
        "shortcut": "projection",
    },
    rf"resnet({_IMAGENET_DEPTHS})d": lambda depth: {
        "name": "imagenet",
        "depth": int(depth),
        "shortcut": "avgpool_projection",
        "stem": "deep",
    },
    r"plain(18|34)": lambda depth: {"name": "imagenet", "depth": int(depth), "shortcut": "none"},
    r"wide_resnet(50|101)_2": lambda depth: {
        "name": "imagenet",
        "depth": int(depth),
        "shortcut": "projection",
        "bottleneck_width": 2.0,
    },
    r"resnext(50|101|152)_([1-9]\d{0,3})x([1-9]\d{0,3})d": lambda depth, groups, width: {
        "name": "imagenet",
        "depth": int(depth),
        "shortcut": "projection",
        "groups": int(groups),
        "bottleneck_width": int(groups) * int(width) / 64,
    },
    rf"resnetv2_({_IMAGENET_DEPTHS})(d?)": lambda depth, deep: {
        "name": "imagenet",
        "depth": int(depth),
        "shortcut": "avgpool_projection" if deep else "projection",
        "stem": "deep" if deep else "imagenet",
        "order": "preact",
        "opening": "block",
    },
    r"cifar-resnet(\d{1,6})": lambda depth: {"name": "cifar", "depth": int(depth)},
    r"cifar-plain(\d{1,6})": lambda depth: {
        "name": "cifar",
        "depth": int(depth),
        "shortcut": "none",
    },
    r"cifar-resnet(\d{1,6})-bottleneck": lambda depth: {
        "name": "cifar",
        "depth": int(depth),
        "block": "bottleneck",
        "shortcut": "projection",  # He et al. 2016, appendix
    },
    r"wrn(\d{1,6})-([1-9]\d{0,4})": lambda depth, factor: {
        "name": "wrn",
        "depth": int(depth),
        "width": 16 * int(factor),
        **_WRN,
    },
}

KNOWN_NAMES = (
    *(f"resnet{depth}" for depth in _IMAGENET_DEPTHS.split("|")),
    *("resnet50d", "plain18", "plain34", "wide_resnet50_2", "wide_resnet101_2"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "resnetv2_50"),
    *("cifar-resnet20", "cifar-resnet56", "cifar-resnet110", "cifar-resnet1202"),
    *("cifar-plain20", "cifar-plain56"),
    *("cifar-resnet164-bottleneck", "cifar-resnet1001-bottleneck", "wrn16-8", "wrn28-10"),
)
"""Names to suggest; the patterns of `NAMES` match more."""


def named(name: str) -> dict:
    """The keys of `config.model` that make the network with this name; {} if there is none.

    >>> named("cifar-plain56")
    {'name': 'cifar', 'depth': 56, 'shortcut': 'none'}
    """
    for pattern, keys in NAMES.items():
        if match := re.fullmatch(pattern, name):
            return keys(*match.groups())
    return {}


def of_cifar(name: str) -> str | None:
    """The name in resjax of a CIFAR network that papers call `resnet20`; None if there is none.

    >>> of_cifar("resnet20"), of_cifar("resnet51")
    ('cifar-resnet20', None)
    """
    keys = named(f"cifar-{name}")
    fits = keys and (keys["depth"] - 2) % (9 if "block" in keys else 6) == 0
    return f"cifar-{name}" if fits else None


def keys_of(name: str) -> dict:
    """The keys of a named network; raises ConfigError for an unknown name, with the nearest."""
    if not (keys := named(name)):
        known = of_cifar(name)
        remedy = f"use {known}" if known else nearest(name, list(KNOWN_NAMES))
        raise ConfigError(f"unknown network {name!r}; {remedy}")
    return keys
