"""Overrides of keys of a config on the command line, `--config.KEY=VALUE`."""

import re
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from resjax.config import ConfigError, default_config, flatten, nearest_key
from resjax.config.key import DESCRIBED
from resjax.config.keys import KEYS
from resjax.config.validation import validate


def override(config: ConfigDict, overrides: list[str]) -> list[str]:
    """Sets keys of a config from words `--config.KEY=VALUE`, and returns these keys.

    Raises:
      ConfigError: for an unknown key, or a value that its key does not take.
    """
    known, overridden = flatten(config), {}
    for word in overrides:
        if match := re.match(r"--(?:no)?config\.?([^=]*)", word):
            if match[1] not in known:
                raise ConfigError(
                    f"unknown config key {match[1]!r}; {nearest_key(match[1], list(known))}"
                )
            overridden[word] = match[1]
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
    try:
        refuse(values(["resjax", *overrides])[1:])
    except ConfigError:
        raise
    except (MemoryError, RecursionError):  # of Python's parser
        raise ConfigError("a value of --config.KEY=VALUE is nested too deeply") from None
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(_refusal(overridden, str(error))) from None
    validate(config)
    return list(overridden.values())


def settings(overrides: list[str]) -> dict[str, Any]:
    """The values in words `--config.KEY=VALUE` for any config, by key; raises as `override`."""
    config = default_config()
    return {key: flatten(config)[key] for key in override(config, overrides)}


def _refusal(overridden: dict[str, str], said: str) -> str:
    """The error message for a word that absl refuses: what the key expects, or what absl `said`."""
    for word, key in overridden.items():
        if key in KEYS and said.startswith(f"flag {word}: "):
            entry, value = KEYS[key], word.partition("=")[2]
            return f"{key}={value} is not {entry.expected or DESCRIBED[type(entry.default)]}"
    return " ".join(said.split())


def refuse(words: list[str]) -> None:
    """Raises ConfigError for the first of the arguments that are left over, if any."""
    if words:
        raise ConfigError(f"unknown argument {words[0]!r}; see resjax --help")
