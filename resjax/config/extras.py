"""Extras: packages that some parts of resjax need and an install may lack."""

from importlib.util import find_spec
from typing import NamedTuple

from resjax.config.errors import ConfigError


class Extra(NamedTuple):
    """The package that an extra brings.

    Attributes:
      module: the module that is imported.
      title: the name of the package as people write it.
    """

    module: str
    title: str


EXTRAS = {
    "bucket": Extra("obstore", "obstore"),
    "pandas": Extra("pandas", "pandas"),
    "prepare": Extra("tensorflow", "TensorFlow"),
    "ray": Extra("ray", "Ray"),
    "stream": Extra("cv2", "OpenCV"),
    "wandb": Extra("wandb", "Weights & Biases"),
}
"""Extras by name, as in `pyproject.toml`; a writer of `log.writers` has the name of its extra."""


def require(extra: str, what: str) -> None:
    """Refuses what needs an extra that is not installed.

    Args:
      extra: a name of `EXTRAS`.
      what: what is asked for, at the start of the message.

    Raises:
      ConfigError: with the command that installs the extra.
    """
    module, title = EXTRAS[extra]
    if find_spec(module) is None:
        raise ConfigError(
            f"{what} needs {title}, which is not installed: "
            f"pip install -e '.[{extra}]' in the clone of resjax"
        )
