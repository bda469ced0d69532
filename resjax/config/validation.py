"""Checks of a config that do not depend on the data."""

from typing import Any

from ml_collections import ConfigDict

from resjax.config import ConfigError, choose, defaults, flatten, refuse_unknown
from resjax.config.durations import parse_duration
from resjax.config.keys import KEYS


def validate(config: ConfigDict) -> None:
    """Refuses unknown and missing keys, and values that the entry of their key does not take.

    Unknown names of models, shortcuts, data or schedules, and depths that do not exist, are refused
    where they are looked up: `resjax.training.plan.make_plan` does so before any compilation.

    Raises:
      ConfigError: naming the key, the value and what is expected.
    """
    refuse_unknown(config)
    flat, known = flatten(config), defaults()
    for key in known:
        if key not in flat:
            raise ConfigError(f"config key {key!r} is missing; start from default_config()")
    for key in KEYS:
        refuse_value(key, flat[key])
    for key in ("resources.cpus", "resources.gpus"):
        if flat[key] > 1 and flat[key] != int(flat[key]):
            raise ConfigError(f"{key}={flat[key]} is neither whole nor a share of one; such as 2")


def refuse_value(key: str, value: Any) -> None:
    """Raises ConfigError for a value that the entry of its key does not take."""
    entry, default = KEYS[key], defaults()[key]
    value = list(value) if isinstance(value, tuple) else value
    if type(value) is not type(default) and not (type(default) is float and type(value) is int):
        expected = type(default).__name__
        raise ConfigError(f"{key}={value!r} is not {expected}; such as {key}={default!r}")
    if entry.duration:
        for text in value if isinstance(value, list) else [value]:
            parse_duration(text)
    if entry.within and not entry.within[0] <= value <= entry.within[1]:
        raise ConfigError(f"{key}={value} is not {entry.expected}")
    if entry.names:
        choose(dict.fromkeys(entry.names), value, key)
    if isinstance(value, list):
        fits = _is_pair(value, *entry.pair) if entry.pair else _are_texts(value)
        if not fits:
            expected = entry.expected or "a tuple of names"
            raise ConfigError(f"{key}={tuple(value)!r} is not {expected}, such as {entry.default}")


def _is_pair(value: list[Any], lowest: float, highest: float) -> bool:
    """Tells whether a list has two numbers, in order and within bounds."""
    numbers = len(value) == 2 and all(type(number) in (int, float) for number in value)
    return numbers and lowest <= value[0] <= value[1] <= highest


def _are_texts(value: list[Any]) -> bool:
    return all(isinstance(text, str) for text in value)
