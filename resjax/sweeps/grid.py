"""A grid of runs: an experiment file, its named axes, their product."""

import importlib.util
import inspect
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from resjax.config import ConfigError, flatten, nearest, run_id

MOST_SEEDS = 10_000

Axis = list[dict[str, Any]]
"""The points of an axis: what each sets, {dotted key: value}."""


def load_experiment(reference: str) -> tuple[ModuleType, ConfigDict]:
    """The module and the config of `FILE` or `FILE:ARG`, where ARG is handed to `get_config`.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, has no `get_config`, or its
        `get_config` refuses ARG.
    """
    filename, _, arg = reference.partition(":")
    path = Path(filename)
    if not path.is_file():
        raise ConfigError(f"no experiment file {filename}; try --config=experiments/degradation.py")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{filename} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{filename} cannot be imported: {_one_line(error)}") from error
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"{filename} has no get_config(); it must return the experiment's config")
    try:
        config = module.get_config(arg) if arg else module.get_config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"get_config({arg!r}) of {filename}: {_one_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config of {filename} returned no ConfigDict; start from default_config()"
        )
    return module, config


def axes_of(module: ModuleType, config: ConfigDict) -> dict[str, Axis]:
    """The axes that an experiment names: its functions `sweep_NAME`, in the order of the file.

    One that takes an argument is given the experiment's config.

    Raises:
      ConfigError: if one fails, or yields anything but {dotted key: value}.
    """
    axes = {}
    for name, function in vars(module).items():
        if not name.startswith("sweep_") or not inspect.isfunction(function):
            continue
        try:
            takes_config = inspect.signature(function).parameters
            points = list(function(config) if takes_config else function())
        except Exception as error:
            raise ConfigError(f"{name}() of the experiment: {_one_line(error)}") from error
        if not all(isinstance(point, dict) for point in points):
            raise ConfigError(f"{name}() of the experiment must yield {{dotted key: value}}")
        axes[name.removeprefix("sweep_")] = points
    return axes


def select_axes(
    axes: Mapping[str, Axis], names: str | None, seeds: int | None, overridden: Iterable[str] = ()
) -> list[Axis]:
    """The axes to multiply: those named in "depth,shortcut", by default all.

    With `seeds` the axis of that name has the seeds 0 to seeds - 1.

    Raises:
      ConfigError: for a name that is no axis, or a key that is `overridden` in the config and would
        be set again by an axis.
    """
    axes = dict(axes)
    chosen = list(axes) if names is None else [name.strip() for name in names.split(",")]
    if seeds is not None:
        if not 1 <= seeds <= MOST_SEEDS:
            raise ConfigError(f"--seeds={seeds} is not a number from 1 to {MOST_SEEDS}")
        axes["seed"] = [{"seed": seed} for seed in range(seeds)]
        chosen = list(dict.fromkeys([*chosen, "seed"]))
    for name in chosen:
        if name not in axes:
            raise ConfigError(f"no axis {name!r} in this experiment; {nearest(name, list(axes))}")
        for key in {key for point in axes[name] for key in point}.intersection(overridden):
            others = ",".join(other for other in chosen if other != name)
            raise ConfigError(
                f"--config.{key} has no effect, axis {name!r} sets it; leave the axis out"
                + (f" with --sweep={others}" if others else ", or use resjax train")
            )
    return [axes[name] for name in chosen]


def expand(config: ConfigDict, axes: Iterable[Axis]) -> dict[str, ConfigDict]:
    """The product of the axes over a config: {run id: config}, equal ones once.

    Raises:
      ConfigError: if an axis sets a key that the config does not have, or to another type.
    """
    runs = {}
    for points in itertools.product(*axes):
        point = {key: value for settings in points for key, value in settings.items()}
        for key in point:
            if key not in flatten(config):
                raise ConfigError(
                    f"an axis sets unknown key {key!r}; {nearest(key, list(flatten(config)))}"
                )
        run = config.copy_and_resolve_references()
        try:
            run.update_from_flattened_dict(point)
        except TypeError as error:
            raise ConfigError(f"an axis sets {point}: {_one_line(error)}") from None
        runs[run_id(run)] = run
    if not runs:
        raise ConfigError("the grid is empty: an axis has no points")
    return runs


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
