"""The name of a run, and the keys of its config that determine it."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from ml_collections import ConfigDict

from resjax.config import defaults, flatten
from resjax.config.durations import parse_duration
from resjax.config.keys import KEYS

T = TypeVar("T", bound=Hashable)

SAID = ("model.shortcut", "model.depth", "seed")
"""Keys whose values are part of the name of a run."""

MOST_BYTES = 200
"""Maximum bytes of a name in a path: file systems allow 255, and suffixes are added."""


def deciding_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that affect the result and differ from their defaults, {dotted key: value}.

    Two configs in which these are equal are the same run, even if a later version of resjax adds
    keys: the defaults of those keep the old behaviour.

    >>> deciding_keys({"model": {"depth": 56, "width": 0, "remat": True}})
    {'model.depth': 56}
    """
    chosen, default_of = {}, defaults()
    for key, value in flatten(config).items():
        if key not in KEYS:
            chosen[key] = value
        elif not KEYS[key].execution:
            default = default_of[key]
            value = _in_one_spelling(key, value, default)
            if value != _in_one_spelling(key, default, default):
                chosen[key] = value
    return dict(sorted(chosen.items()))


def _in_one_spelling(key: str, value: Any, default: Any) -> Any:
    """A value in a canonical form: a float if the default is one, pairs of floats, durations."""
    if isinstance(default, float):
        return float(value)
    if KEYS[key].pair:
        return [float(number) if type(number) is int else number for number in value]
    if KEYS[key].duration and isinstance(default, str):
        number, unit = parse_duration(value)
        return f"{number} {unit}"
    return value


def run_id(config: ConfigDict) -> str:
    """A readable name and a hash of `deciding_keys`, such as `identity-56-seed0-9a3f6b21`.

    >>> from resjax.config import default_config
    >>> config = default_config()
    >>> run_id(config)
    'identity-20-seed0-44136fa3'
    >>> config.model.unroll = "all"  # how it is executed
    >>> run_id(config)
    'identity-20-seed0-44136fa3'
    """
    text = json.dumps(deciding_keys(config), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    shortcut = path_component(config.model.shortcut)
    return f"{shortcut}-{config.model.depth}-seed{config.seed}-{digest}"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The `deciding_keys` of a config as they are written, and all that an experiment has added."""
    flat, deciding = flatten(config), deciding_keys(config)
    return {key: flat[key] for key in flat if key in deciding or key in KEYS.files}


def differing_keys(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values differ between configs, or that only some configs have."""
    keys = sorted({key for keys in configs for key in keys})
    return [key for key in keys if len({str(keys.get(key)) for keys in configs}) > 1]


def told_apart(settings: Mapping[T, Mapping[str, Any]]) -> dict[T, dict[str, Any]]:
    """Finds the keys in which runs differ, beside those in their names, and their values.

    >>> told_apart({"a": {"seed": 1, "optim.learning_rate": 0.01}, "b": {"seed": 2}})
    {'a': {'optim.learning_rate': 0.01}, 'b': {'optim.learning_rate': 0.1}}

    Args:
      settings: the `settings_of` each run.
    """
    keys = [key for key in differing_keys(list(settings.values())) if key not in SAID]
    default = defaults()
    return {
        run: {key: own.get(key, default.get(key, "")) for key in keys}
        for run, own in settings.items()
    }


def composed(name: str) -> str:
    r"""A name in Unicode form NFC, with letters and accents combined; macOS separates them.

    >>> composed("cafe\u0301") == "caf\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def path_component(name: str) -> str:
    """Makes a name a single path component, which neither leaves its directory nor is hidden.

    >>> path_component("my shortcut"), path_component("../../escaped"), path_component("..")
    ('my shortcut', '__.._escaped', '_')
    """
    printable = "".join(
        letter if letter.isprintable() and letter not in "/\\" else "_" for letter in name
    )
    short = printable.encode()[:MOST_BYTES].decode(errors="ignore")
    return re.sub(r"^\.+|^$", "_", short)
