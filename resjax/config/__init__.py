"""Configs: their defaults, their differences, and the refusal of unknown names."""

import difflib
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from resjax.config.keys import KEYS
from resjax.config.tables import TABLES
from resjax.config.words import NAMES, WORDS


class ConfigError(ValueError):
    """An experiment that cannot be run as it is written: one line with the value and the remedy."""


class Notice(UserWarning):
    """A warning that a person is to read, of a run that goes on all the same.

    The command prints it whatever the environment says of warnings.
    """


class UnknownName(ConfigError):
    """A name that is not in the table of its key; the key is `key`."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def message_of(error: BaseException) -> str:
    """The message of an exception, in one line; empty if it has none, or fails to give one."""
    try:
        return " ".join(str(error).split())
    except Exception:
        return ""


def type_and_message(error: BaseException) -> str:
    r"""The type of an exception and its message, in one line.

    >>> type_and_message(ValueError("a\nb")), type_and_message(KeyError())
    ('ValueError: a b', 'KeyError')
    """
    text = message_of(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def default_config() -> ConfigDict:
    """A config with the default of every key, for an experiment file to start from."""
    values: dict[str, Any] = {}
    for key, entry in KEYS.items():
        section, _, name = key.rpartition(".")
        (values.setdefault(section, {}) if section else values)[name] = entry.default
    return ConfigDict(values)


@functools.cache
def defaults() -> Mapping[str, Any]:
    """The defaults as {dotted key: value}."""
    return MappingProxyType(flatten(default_config()))


_NESTED = (ConfigDict, dict)


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
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def refuse_unknown(config: Mapping[str, Any], section: str = "") -> None:
    """Raises ConfigError for a key that no config has, with the nearest.

    Args:
      config: a config, or a section of one.
      section: the name of the section; empty for a whole config.
    """
    known = defaults()
    for key in flatten(config, section and f"{section}."):
        if key not in known:
            raise ConfigError(f"unknown config key {key!r}; {nearest_key(key, list(known))}")


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *places: str) -> str:
    """Describes how two {key: value} differ, which are at two `places`; empty if they are equal."""
    first, second = places
    return "; ".join(
        f"{key} is {one.get(key)!r} {first}, {other.get(key)!r} {second}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    )


MOST_LISTED = 30
"""Most names that a message lists; of more, it gives the most similar ones."""


def nearest(name: str, known: list[str]) -> str:
    """The remedy for an unknown name: the most similar known ones, or all if they are few.

    >>> nearest("learning_rte", ["optim.name", "optim.learning_rate"])
    'nearest: optim.learning_rate'
    """
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not matches:
        last = {other.split(".")[-1]: other for other in reversed(known)}
        close = difflib.get_close_matches(name.split(".")[-1], list(last), n=3, cutoff=0.6)
        matches = [last[other] for other in close]
    if not matches and len(known) <= MOST_LISTED:
        return f"known: {', '.join(known)}"
    matches = matches or difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return f"nearest: {', '.join(matches)}"


def nearest_key(key: str, known: list[str]) -> str:
    """The remedy for an unknown key: its name in resjax if other programs use it, or `nearest`.

    >>> nearest_key("train.epochs", ["train.duration"])
    "use train.duration='30 epochs'"
    """
    word = WORDS.get(key.rpartition(".")[2].lower().replace("-", "_"))
    return f"use {word}" if word else nearest(key, known)


def choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Looks a name up in a table; raises UnknownName, which lists the names, if it is not there."""
    if name not in table:
        meant = NAMES.get(what, {}).get(name.lower())
        message = f"unknown {what} {name!r}; choose one of: {', '.join(table)}"
        raise UnknownName(what, message + (f"; here it is {meant}" if meant else ""))
    return table[name]


def _of_numpy(value: Any) -> bool:
    """Tells whether a value is a NumPy scalar, or a sequence with one; does not import NumPy."""
    if isinstance(value, list | tuple):
        return any(map(_of_numpy, value))
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()


def of_python(value: Any) -> Any:
    """Converts NumPy scalars in a value to numbers of Python."""
    if not _of_numpy(value):
        return value
    return tuple(map(of_python, value)) if isinstance(value, list | tuple) else value.item()


PLAIN = "plain"
"""The name in papers of a network whose `model.shortcut` is none."""


def use_own_values(config: ConfigDict) -> None:
    """Converts NumPy scalars in a config to numbers of Python, and a shortcut `plain` to `none`.

    An experiment's own shortcut of the name `plain` stays. So a run has the same name whichever way
    a value was written.
    """
    found = {key: of_python(value) for key, value in flatten(config).items() if _of_numpy(value)}
    if found:
        with config.ignore_type():
            config.update_from_flattened_dict(found)
    model = config.get("model", {})
    if model.get("shortcut") == PLAIN:
        model.shortcut = PLAIN if PLAIN in TABLES.get("SHORTCUTS", {}) else "none"
