"""What is refused of a config whatever the data."""

from ml_collections import ConfigDict

from resjax.config import ConfigError, defaults, flatten, nearest
from resjax.durations import parse_duration
from resjax.keys import KEYS


def validate(config: ConfigDict) -> None:
    """Refuses unknown keys, wrong types, numbers out of range and texts that are no durations.

    Names of models, shortcuts, data and schedules, and depths that do not exist, are refused where
    they are looked up: `resjax.training.plan.prepare` does so before any compilation.

    Raises:
      ConfigError: naming the key, the value and what is expected.
    """
    flat, known = flatten(config), defaults()
    for key in flat:
        if key not in known:
            raise ConfigError(f"unknown config key {key!r}; {nearest(key, list(known))}")
    for key, default in known.items():
        if key not in flat:
            raise ConfigError(f"config key {key!r} is missing; start from default_config()")
        value = flat[key]
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            expected = type(default).__name__
            raise ConfigError(f"{key}={value!r} is not {expected}; such as {key}={default!r}")
    for key, entry in KEYS.items():
        value = flat[key]
        if entry.duration:
            for text in value if isinstance(value, list) else [value]:
                parse_duration(text)
        if entry.within and not entry.within[0] <= value <= entry.within[1]:
            raise ConfigError(f"{key}={value} is not {entry.expected}")
    for key in ("resources.cpus", "resources.gpus"):
        if flat[key] > 1 and flat[key] != int(flat[key]):
            raise ConfigError(f"{key}={flat[key]} is neither whole nor a share of one; such as 2")
