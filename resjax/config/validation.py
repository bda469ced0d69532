"""Checks of a config that do not depend on the data."""

import math
from typing import Any

from ml_collections import ConfigDict

from resjax.config import ConfigError, flatten, refuse_unknown, use_own_values
from resjax.config.durations import parse_duration
from resjax.config.key import Key
from resjax.config.keys import KEYS


def validate(config: ConfigDict) -> None:
    """Refuses unknown and missing keys, and values that the entry of their key does not take.

    Before that, values are brought into the form that names runs; see `use_own_values`.

    Depths that do not exist, and names that are not those of an entry of a table alone, such as
    that of a folder of images, are refused where they are looked up:
    `resjax.training.plan.make_plan` does so before any compilation. A key that an experiment file
    has added may be missing from the config of another one.

    Raises:
      ConfigError: naming the key, the value and what is expected.
    """
    refuse_unknown(config)
    use_own_values(config)
    flat = flatten(config)
    for key in KEYS:
        if key in flat:
            refuse_value(key, flat[key])
        elif key not in KEYS.files:
            raise ConfigError(f"config key {key!r} is missing; start from default_config()")
    for key in ("resources.cpus", "resources.gpus"):
        if flat[key] > 1 and flat[key] != int(flat[key]):
            raise ConfigError(
                f"{key}={flat[key]} is neither a whole number nor a share of one; such as 2"
            )


def refuse_value(key: str, value: Any) -> None:
    """Raises ConfigError for a value that the entry of its key does not take."""
    entry = KEYS[key]
    value = tuple(value) if isinstance(value, list) else value
    kind = type(entry.default)
    if type(value) is not kind and not (kind is float and type(value) is int):
        shown, default = (  # as JSON and the command line have them
            list(each) if isinstance(each, tuple) else each for each in (value, entry.default)
        )
        expected = type(default).__name__
        raise ConfigError(f"{key}={shown!r} is not {expected}; such as {key}={default!r}")
    if entry.duration:
        for text in value if isinstance(value, tuple) else [value]:
            parse_duration(text)
    number = kind in (int, float)
    if number and not (math.isfinite(value) and _is_within(value, entry.within)):
        raise ConfigError(f"{key}={value} is not {entry.described}")
    if isinstance(value, tuple):
        fits = _is_pair(value, *entry.pair) if entry.pair else _are_texts(value)
        if not fits:
            expected = entry.expected or "a tuple of names"
            raise ConfigError(f"{key}={value!r} is not {expected}, such as {entry.default}")
    if entry.choices:
        _refuse_unknown_names(key, entry, value)


def _refuse_unknown_names(key: str, entry: Key, value: Any) -> None:
    """Raises UnknownName for a name that neither the key nor its table has.

    Those that a key refuses are refused with the network, which says why.
    """
    for name in entry.names_in(value):
        if name not in (*entry.choices, *entry.refused):
            raise entry.unknown(name, key)


def _is_within(number: float, bounds: tuple[float, float] | None) -> bool:
    return bounds is None or bounds[0] <= number <= bounds[1]


def _is_pair(value: tuple[Any, ...], lowest: float, highest: float) -> bool:
    """Tells whether a value has two numbers, in order and within bounds."""
    numbers = len(value) == 2 and all(type(number) in (int, float) for number in value)
    return numbers and lowest <= value[0] <= value[1] <= highest


def _are_texts(value: tuple[Any, ...]) -> bool:
    return all(isinstance(text, str) for text in value)
