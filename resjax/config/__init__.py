"""Configs: defaults, differences from them, and refusals of unknown names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from resjax.config.errors import (
    ConfigError,
    Notice,
    UnknownName,
    choose,
    message_of,
    nearest,
    nearest_key,
    notify,
    type_and_message,
    unreadable_file,
    worded,
)
from resjax.config.keys import KEYS

__all__ = [
    "KEYS",
    "PLAIN",
    "PREPARED",
    "ConfigError",
    "Notice",
    "UnknownName",
    "choose",
    "config_of",
    "default_config",
    "defaults",
    "differences",
    "flatten",
    "message_of",
    "nearest",
    "nearest_key",
    "nested",
    "notify",
    "of_python",
    "refuse_unknown",
    "type_and_message",
    "unreadable_file",
    "use_own_values",
    "worded",
]


def default_config() -> ConfigDict:
    """A config with the default of every key, for an experiment file to start from."""
    return nested({key: entry.default for key, entry in KEYS.items()})


def nested(flat: Mapping[str, Any]) -> ConfigDict:
    """Builds a config from {dotted key: value}, for any keys; the inverse of `flatten`.

    >>> nested({"model.depth": 56, "seed": 0}).model.depth
    56
    """
    values: dict[str, Any] = {}
    for key, value in flat.items():
        section, _, name = key.rpartition(".")
        place = values.setdefault(section, {}) if section else values
        place[name] = tuple(value) if isinstance(value, list) else value
    return ConfigDict(values)


def defaults() -> dict[str, Any]:
    """The defaults as {dotted key: value}, in alphabetical order."""
    return {key: _listed(KEYS[key].default) for key in sorted(KEYS)}


_NESTED = (ConfigDict, dict)

_NO_KEYS: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens a nested mapping to {dotted key: value}.

    >>> flatten({"model": {"depth": 56}, "seed": 0})
    {'model.depth': 56, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, _NESTED):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _listed(value)
    return flat


def _listed(value: Any) -> Any:
    """A value in the form of JSON, with lists instead of tuples."""
    return list(value) if isinstance(value, tuple) else value


def config_of(
    flat: Mapping[str, Any], added: Mapping[str, Mapping[str, Any]] = _NO_KEYS
) -> ConfigDict:
    """Rebuilds a config from the result of `flatten`; missing, newer keys get their defaults.

    Args:
      flat: {dotted key: value}.
      added: keys that an experiment file had added, as `KEYS.added()` gave them.

    Raises:
      ConfigError: for a key that is not known, with the file that defines it if it was added.
    """
    for key in added:
        if key in flat and key not in KEYS:
            file = added[key]["file"]
            remedy = (
                f"name it by --config={file}, or in Python import it first"
                if file
                else "add it to KEYS, as that did"
            )
            raise ConfigError(f"{key} is a key of {file or 'a program'}; {remedy}")
    refuse_unknown(flat)
    config = default_config()
    config.update_from_flattened_dict(
        {key: tuple(value) if isinstance(value, list) else value for key, value in flat.items()}
    )
    return config


def refuse_unknown(config: Mapping[str, Any], section: str = "") -> None:
    """Raises ConfigError for a key that no config has, with the nearest known keys.

    Args:
      config: a config, or a section of one.
      section: the name of the section; empty for a whole config.
    """
    for key in flatten(config, section and f"{section}."):
        if key not in KEYS:
            raise ConfigError(f"unknown config key {key!r}; {nearest_key(key, list(KEYS))}")


def differences(one: Mapping[str, Any], other: Mapping[str, Any], first: str, second: str) -> str:
    """Describes how two {key: value}, at two places, differ; empty if they are equal."""
    return "; ".join(
        f"{key} is {one.get(key)!r} {first}, {other.get(key)!r} {second}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    )


def _of_numpy(value: Any) -> bool:
    """Tells whether a value is or contains a NumPy scalar, without importing NumPy."""
    if isinstance(value, list | tuple):
        return any(map(_of_numpy, value))
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()


def of_python(value: Any) -> Any:
    """Converts the NumPy scalars in a value to Python numbers."""
    if not _of_numpy(value):
        return value
    return tuple(map(of_python, value)) if isinstance(value, list | tuple) else value.item()


PLAIN = "plain"
"""The papers' name for a network whose `model.shortcut` is none."""


PREPARED = ("cifar10", "cifar100", "imagenet2012")
"""Sets of TensorFlow Datasets that `data.name` knows by names of their own, without `tfds:`."""


def use_own_values(config: ConfigDict) -> None:
    """Converts NumPy scalars in a config to Python numbers, and a shortcut `plain` to `none`.

    A dtype, such as `jnp.bfloat16`, becomes its name, and data with a name of their own, such as
    `tfds:cifar10`, have that. An experiment's own shortcut of the name `plain` stays. So a run has
    the same name whichever way a value was written.
    """
    model = config.get("model", {})
    if not isinstance(dtype := model.get("dtype", ""), str):
        with config.ignore_type():  # a class has a `__name__`, a `numpy.dtype` a `name`
            model.dtype = getattr(dtype, "__name__", getattr(dtype, "name", dtype))
    found = {key: of_python(value) for key, value in flatten(config).items() if _of_numpy(value)}
    if found:
        with config.ignore_type():
            config.update_from_flattened_dict(found)
    prepared = str(config.get("data", {}).get("name", "")).removeprefix("tfds:")
    if prepared in PREPARED:
        config.data.name = prepared
    if model.get("shortcut") == PLAIN:
        model.shortcut = PLAIN if PLAIN in KEYS["model.shortcut"].choices else "none"
