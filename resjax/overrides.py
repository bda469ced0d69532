"""Keys of a config that the command line sets: `--config.KEY=VALUE`."""

import re

from absl import flags
from ml_collections import ConfigDict, config_flags

from resjax.config import ConfigError, flatten, nearest


def override(config: ConfigDict, overrides: list[str]) -> list[str]:
    """Does what `--config.KEY=VALUE` say, and returns the keys."""
    known, overridden = flatten(config), []
    for word in overrides:
        if match := re.match(r"--(?:no)?config\.?([^=]*)", word):
            if match[1] not in known:
                raise ConfigError(
                    f"unknown config key {match[1]!r}; {nearest(match[1], list(known))}"
                )
            overridden.append(match[1])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
    try:
        refuse(values(["resjax", *overrides])[1:])
    except ConfigError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        kinds = ", ".join(f"{key} is {type(known[key]).__name__}" for key in overridden)
        raise ConfigError(f"{' '.join(str(error).split())} ({kinds})") from None
    return overridden


def refuse(words: list[str]) -> None:
    """Raises ConfigError for arguments that nothing has asked for."""
    if words:
        raise ConfigError(f"unknown argument {words[0]!r}; see resjax --help")
