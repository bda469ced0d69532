"""A grid of runs: the product of the named axes of an experiment file."""

import ast
import copy
import inspect
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from resjax.config import (
    ConfigError,
    flatten,
    nearest,
    nearest_key,
    of_python,
    type_and_message,
    use_own_values,
)
from resjax.config.keys import KEYS
from resjax.config.naming import run_id
from resjax.config.paths import local
from resjax.config.validation import refuse_value, validate
from resjax.sweeps.experiment import as_refusal, load_experiment, refuse_async

MOST_SEEDS = 10_000

Axis = list[dict[str, Any]]
"""Points of an axis: the settings of each, {dotted key: value}."""


def experiment_runs(
    reference: str,
    workdir: Path | str,
    axes: str | None = None,
    seeds: int | None = None,
    added: Iterable[str] = (),
    only: Iterable[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[Path, ConfigDict]:
    """The runs of an experiment, {directory: config}, as `resjax sweep` trains them.

    Args:
      reference: `FILE` or `FILE:ARG`, see `load_experiment`.
      workdir: directory of the sweep.
      axes: axes of the experiment to multiply, such as "depth,shortcut"; all by default.
      seeds: runs every network with seeds 0 to seeds - 1.
      added: further axes such as "train.batch_size=32,64", see `axes_of_options`.
      only: filters such as "depth=8,56", see `keep_only`.
      settings: {dotted key: value} in place of what the experiment says.

    Raises:
      ConfigError: if the experiment cannot be loaded, or there is no such axis, key or run.
    """
    module, config = load_experiment(reference)
    settings = dict(settings or {})
    _set(config, list(flatten(config)), settings, "settings set")
    validate(config)
    return select_runs(
        module, config, workdir, axes=axes, seeds=seeds, added=added, only=only, fixed=settings
    )


def select_runs(
    module: ModuleType,
    config: ConfigDict,
    workdir: Path | str,
    *,
    axes: str | None,
    seeds: int | None,
    added: Iterable[str],
    only: Iterable[str],
    fixed: Iterable[str],
) -> dict[Path, ConfigDict]:
    """Selects runs like `experiment_runs`, from a loaded experiment whose `fixed` keys are set."""
    further = axes_of_options(added, config)
    chosen = select_axes(axes_of(module, config), axes, seeds, fixed, further)
    workdir = local(workdir)
    runs = keep_only(expand(config, chosen), only)
    return {workdir / name: run for name, run in runs.items()}


def axes_of(module: ModuleType, config: ConfigDict) -> dict[str, Axis]:
    """The axes that an experiment defines: its functions `sweep_NAME`, in the order of the file.

    A function that takes an argument is given the experiment's config.

    Raises:
      ConfigError: if a function fails, or yields anything but {dotted key: value}.
    """
    axes = {}
    for name, function in vars(module).items():
        if not name.startswith("sweep_") or not inspect.isfunction(function):
            continue
        refuse_async(function, f"{name}() of the experiment")
        with as_refusal(f"{name}() of the experiment"):
            takes_config = inspect.signature(function).parameters
            # Copies: a function may yield one mapping again and again, and change it in between.
            points = [
                copy.deepcopy(each) for each in (function(config) if takes_config else function())
            ]
            for point in points:
                if not _is_point(point):
                    raise ConfigError(
                        f"{name}() of the experiment must yield {{dotted key: value}}, not {point}"
                    )
        axes[name.removeprefix("sweep_")] = points
    return axes


def _is_point(point: Any) -> bool:
    return isinstance(point, dict) and all(isinstance(key, str) for key in point)


def axes_of_options(options: Iterable[str], config: ConfigDict) -> dict[str, Axis]:
    """The axes of options `KEY=VALUE,VALUE,...`, each named after its key.

    >>> from resjax.config import default_config
    >>> axes_of_options(["model.depth=20,56"], default_config())
    {'model.depth': [{'model.depth': 20}, {'model.depth': 56}]}

    Raises:
      ConfigError: if there is no such key, a value is not of its type, or two options have one key.
    """
    axes: dict[str, Axis] = {}
    for option in options:
        key, values = _key_and_values(option, "--axis", config)
        points = [{key: value} for value in values]
        if key in axes:
            every = ",".join(str(point[key]) for point in axes[key] + points)
            raise ConfigError(f"--axis {key} is given twice; write --axis {key}={every}")
        axes[key] = points
    return axes


def keep_only(runs: Mapping[str, ConfigDict], filters: Iterable[str]) -> dict[str, ConfigDict]:
    """The runs in which each key of the filters `KEY=VALUE,VALUE,...` has one of its values.

    A key may be given by its end, such as `shortcut`.

    Raises:
      ConfigError: for an unknown key, or if no run is left.
    """
    kept = dict(runs)
    for option in filters:
        key, values = _key_and_values(option, "--only", next(iter(runs.values())))
        found = list(dict.fromkeys(str(flatten(run)[key]) for run in kept.values()))
        kept = {name: run for name, run in kept.items() if flatten(run)[key] in values}
        if not kept:
            raise ConfigError(f"--only {option} leaves no run; {key} is {', '.join(found)}")
    return kept


def _key_and_values(option: str, what: str, config: ConfigDict) -> tuple[str, list[Any]]:
    flat = flatten(config)
    key, equals, text = option.partition("=")
    if not equals or not text:
        raise ConfigError(f"{what} {option} is not KEY=VALUE,VALUE, such as model.depth=20,56")
    if key not in flat:
        ends = [known for known in flat if known.rpartition(".")[2] == key]
        if len(ends) != 1:
            remedy = f"write {' or '.join(ends)}" if ends else nearest_key(key, list(flat))
            raise ConfigError(f"{what} {option}: unknown config key {key!r}; {remedy}")
        [key] = ends
    # A comma inside of brackets is no end of a value.
    words = [word.strip() for word in re.split(r",(?![^(\[]*[)\]])", text)]
    if not all(words):
        raise ConfigError(f"{what} {option} has an empty value; leave out a comma")
    values = []
    for word in words:
        point = config.copy_and_resolve_references()
        _set(point, list(flat), {key: _value(key, word, flat[key])}, f"{what} sets")
        values.append(flatten(point)[key])
    return key, values


def _value(key: str, text: str, known: Any) -> Any:
    """Parses a value with the type of its key."""
    if isinstance(known, str):
        return text
    try:
        value = ast.literal_eval(text.capitalize() if isinstance(known, bool) else text)
        value = float(value) if isinstance(known, float) and type(value) is int else value
        if isinstance(known, list):
            value = list(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = None
    if type(value) is not type(known):
        raise ConfigError(f"{key}={text} is not {type(known).__name__}; such as {key}={known!r}")
    return value


def select_axes(
    axes: Mapping[str, Axis],
    names: str | None,
    seeds: int | None,
    overridden: Iterable[str] = (),
    added: Mapping[str, Axis] | None = None,
) -> list[Axis]:
    """The axes to combine: those named in "depth,shortcut", by default all, and those `added`.

    With `seeds` the axis of that name has the seeds 0 to seeds - 1. Axes that are joined, as in
    "depth+width,seed", advance together.

    >>> axes = {"depth": [{"model.depth": 8}, {"model.depth": 20}]}
    >>> select_axes(axes, None, seeds=2)
    [[{'model.depth': 8}, {'model.depth': 20}], [{'seed': 0}, {'seed': 1}]]

    Raises:
      ConfigError: for a name that is not an axis or that is given twice, axes of unequal length
        that are joined, two axes that set the same key, or one that sets a key that is
        `overridden` in the config.
    """
    axes, added = {**axes, **(added or {})}, added or {}
    groups = [[name] for name in axes]
    if names is not None:
        groups = [[name.strip() for name in group.split("+")] for group in names.split(",")]
    options = {}  # what adds an axis whatever --sweep names
    if seeds is not None:
        if not 1 <= seeds <= MOST_SEEDS:
            raise ConfigError(f"--seeds={seeds} is not a number from 1 to {MOST_SEEDS}")
        if "seed" in added:
            raise ConfigError(f"--seeds={seeds} and --axis seed both set seed; leave one out")
        axes["seed"] = [{"seed": seed} for seed in range(seeds)]
        options["seed"] = f"--seeds={seeds}"
    options |= {name: f"--axis {name}" for name in added}
    named = list(itertools.chain(*groups))
    groups += [[name] for name in options if name not in named]
    for name in named:
        if name not in axes:
            raise ConfigError(f"no axis {name!r} in this experiment; {nearest(name, list(axes))}")
        if named.count(name) > 1:
            raise ConfigError(f"--sweep={names} has the axis {name!r} twice; leave one out")
    _refuse_set_twice(groups, axes, options, overridden)
    return [_joined(group, axes) for group in groups]


def _refuse_set_twice(
    groups: Sequence[Sequence[str]],
    axes: Mapping[str, Axis],
    options: Mapping[str, str],
    overridden: Iterable[str],
) -> None:
    """Raises ConfigError if two axes set a key, or one sets a key that is `overridden`.

    `options` has the axes that an option adds, and the option.
    """
    setters: dict[str, str] = {}
    for name in itertools.chain(*groups):
        for key in sorted({key for point in axes[name] for key in point}):
            if key in overridden:
                remedy = f"leave {options.get(name, 'the axis')} out"
                if name not in options:
                    others = _without(name, groups)
                    remedy += f" with --sweep={others}" if others else ", or use resjax train"
                raise ConfigError(f"--config.{key} has no effect: axis {name!r} sets it; {remedy}")
            if key in setters:
                other = name if setters[key] in options else setters[key]
                raise ConfigError(
                    f"axes {setters[key]!r} and {name!r} both set {key}; leave one out with "
                    f"--sweep={_without(other, groups)}"
                )
            setters[key] = name


def _without(name: str, groups: Iterable[Sequence[str]]) -> str:
    """The axes but for one, as --sweep names them; empty if there is no other."""
    others = ("+".join(each for each in group if each != name) for group in groups)
    return ",".join(filter(None, others))


def _joined(names: Sequence[str], axes: Mapping[str, Axis]) -> Axis:
    """The axis with a name, or several that are joined, whose points are combined one by one."""
    lengths = {name: len(axes[name]) for name in names}
    if len(set(lengths.values())) > 1:
        sizes = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ConfigError(f"--sweep={'+'.join(names)} joins axes of unequal length: {sizes}")
    sides = zip(*(axes[name] for name in names), strict=True)
    return [{key: value for point in side for key, value in point.items()} for side in sides]


def expand(config: ConfigDict, axes: Iterable[Axis]) -> dict[str, ConfigDict]:
    """The product of the axes for a config, {run id: config}; equal configs once.

    >>> from resjax.config import default_config
    >>> axes = [[{"model.depth": 8}, {"model.depth": 20}], [{"seed": 0}, {"seed": 1}]]
    >>> [(run.model.depth, run.seed) for run in expand(default_config(), axes).values()]
    [(8, 0), (8, 1), (20, 0), (20, 1)]

    Raises:
      ConfigError: if an axis sets a key that the config does not have, or to another type.
    """
    runs, known = {}, list(flatten(config))
    for points in itertools.product(*axes):
        point = {key: value for settings in points for key, value in settings.items()}
        run = config.copy_and_resolve_references()
        _set(run, known, point, "an axis sets")
        runs[run_id(run)] = run
    if not runs:
        raise ConfigError("the grid is empty: an axis has no points")
    return runs


def _set(config: ConfigDict, known: list[str], settings: Mapping[str, Any], what: str) -> None:
    """Sets {dotted key: value} of known keys; `what` begins an error message."""
    for key in settings:
        if key not in known:
            own = f'KEYS[{key!r}] = Key({settings[key]!r}, "Its meaning.")'
            remedy = f"{nearest_key(key, known)}; {own} in the experiment file adds one"
            raise ConfigError(f"{what} unknown key {key!r}; {remedy}")
    settings = {key: of_python(value) for key, value in settings.items()}
    for key, value in settings.items():
        if key in KEYS.files and isinstance(value, float) and type(KEYS[key].default) is int:
            default = KEYS[key].default
            raise ConfigError(
                f"{what} {key}={value}, whose default {default} is a whole number; "
                f"Key({default}.0, ...) takes others"
            )
    try:
        config.update_from_flattened_dict(settings)
    except TypeError as error:
        raise ConfigError(f"{what} {settings}: {type_and_message(error)}") from None
    use_own_values(config)
    flat = flatten(config)
    for key in settings:
        if key in KEYS:
            refuse_value(key, flat[key])
