"""Experiment files: how they are loaded, and the entries that they may add to tables."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FrozenConfigDict

from resjax.config import (
    ConfigError,
    default_config,
    flatten,
    type_and_message,
    use_own_values,
)
from resjax.config.paths import experiment_file
from resjax.runs import rundir


def load_experiment(reference: str) -> tuple[ModuleType, ConfigDict]:
    """Loads the module and the config of `FILE` or `FILE:ARG`; ARG is handed to `get_config`.

    The `config.json` of a run is an experiment, too: that of this one run.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, has no `get_config`, its
        `get_config` refuses ARG, or it gives a name in a table another meaning.
    """
    filename, arg = experiment_file(reference)
    if filename.name == RECORDED:
        return ModuleType(filename.parent.name), _recorded_config(filename.parent)
    module = load_module(filename)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"{filename} has no get_config(); it must return the experiment's config")
    with (
        as_refusal(f"get_config({arg!r}) of {filename}"),
        _adding_to_tables(filename),
        _importing_beside(filename.resolve().parent),
    ):
        config = module.get_config(arg) if arg else module.get_config()
    if not isinstance(config, ConfigDict):
        raise ConfigError(
            f"get_config of {filename} returned no ConfigDict; start from default_config()"
        )
    if isinstance(config, FrozenConfigDict):
        config = ConfigDict(config)
    use_own_values(config)
    return module, config


RECORDED = "config.json"


def _recorded_config(directory: Path) -> ConfigDict:
    rundir.refuse_no_run(directory)
    config = default_config()
    config.update_from_flattened_dict(rundir.read_config(directory))
    return config


def load_module(path: Path) -> ModuleType:
    """Imports an experiment file; what it adds to tables, such as a shortcut, is known then.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, or it gives a name in a
        table another meaning.
    """
    if not path.is_file():
        raise ConfigError(f"no experiment file {path}; resjax init NAME writes one to start from")
    if path.suffix != ".py":
        raise ConfigError(f"{path} is not a Python file")
    with as_refusal(f"{path} cannot be imported"):
        return run_module(path, decode_source(path.read_bytes()))


@contextmanager
def as_refusal(
    what: str, tell: Callable[[BaseException], str] = type_and_message
) -> Iterator[None]:
    """Turns whatever an experiment raises, SystemExit too, into a ConfigError of one line."""
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigError(f"{what}: {tell(error)}") from error


_PREFIX = "resjax_experiment_"
"""The start of the name of a module that is an experiment file."""


def with_place(error: BaseException) -> str:
    """Describes an error, with its place if it was raised in an experiment file."""
    return fault(error) or type_and_message(error)


def fault(error: BaseException) -> str | None:
    """Place and message of an error that was raised in an experiment file; None for any other."""
    modules = [module for name, module in sys.modules.items() if name.startswith(_PREFIX)]
    files = {*(module.__file__ for module in modules), *_modules_beside().values()}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename in files:
            return f"{frame.f_code.co_filename}, line {line}: {type_and_message(error)}"
    return None


def run_module(path: Path, text: str) -> ModuleType:
    """Runs the text of an experiment file, perhaps from another machine; returns the module."""
    module = ModuleType(f"{_PREFIX}{path.stem}")
    module.__file__ = str(path)
    with _importing_beside(path.resolve().parent), _adding_to_tables(path):
        sys.modules[module.__name__] = module  # where dataclasses look for names in annotations
        exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)
    return module


class _Place(NamedTuple):
    """Directory of an experiment, and names of the modules that were loaded before it."""

    directory: Path
    known: frozenset[str]


_places: list[_Place] = []
"""The place of the experiment that was loaded last, if there was one."""


@contextmanager
def _importing_beside(directory: Path) -> Iterator[None]:
    """Lets an experiment find the modules beside it first, as a script does.

    Modules beside an experiment of another directory may have the same names, and are forgotten.
    What it imports when it is called is looked for there last: other packages import then, too.
    """
    if not _places or _places[0].directory != directory:
        for name in _modules_beside():
            del sys.modules[name]
        for place in _places:
            if str(place.directory) in sys.path:  # or somebody else has taken it away
                sys.path.remove(str(place.directory))
        _places[:] = [_Place(directory, frozenset(sys.modules))]
        sys.path.append(str(directory))
    importlib.invalidate_caches()  # what is imported may just have been written
    sys.path.insert(0, str(directory))
    try:
        yield
    finally:
        sys.path.remove(str(directory))


def _modules_beside() -> dict[str, str]:
    """Returns {name: file} of the modules that experiments have imported from beside them."""
    return {name: file for place in _places for name, file in _modules_in(place).items()}


def _modules_in(place: _Place) -> dict[str, str]:
    files = {
        name: getattr(module, "__file__", None) or ""
        for name, module in sys.modules.items()
        if name not in place.known and not name.startswith(_PREFIX)
    }

    def lies_there(name: str) -> bool:
        file = Path(files.get(name.partition(".")[0], ""))  # that of the whole package
        return place.directory in (
            file.parent,
            *(file.parents[1:2] if file.stem == "__init__" else ()),
        )

    return {name: files[name] for name in filter(lies_there, files)}


class _Table(NamedTuple):
    """A table that experiment files may add to.

    Attributes:
      key: key of a config that takes its names.
      entries: the table itself.
      fits: tells whether something may be an entry.
      expected: words for what an entry is.
    """

    key: str
    entries: dict[str, Any]
    fits: Callable[[Any], bool]
    expected: str


def open_tables() -> dict[str, _Table]:
    """Tables that experiment files may add to, by their names in the code."""
    import flax.linen as nn

    from resjax.models.blocks import ORDERS, Order
    from resjax.models.norm import NORMS
    from resjax.models.shortcuts import SHORTCUTS
    from resjax.training.losses import LOSSES
    from resjax.training.optim import OPTIMIZERS, SCHEDULES

    return {
        "SHORTCUTS": _Table(
            "model.shortcut",
            SHORTCUTS,
            lambda entry: isinstance(entry, type) and issubclass(entry, nn.Module),
            "a Flax module; derive a class from Identity, as resjax init NAME shows",
        ),
        "ORDERS": _Table(
            "model.order", ORDERS, lambda entry: isinstance(entry, Order), "an Order of steps"
        ),
        "NORMS": _Table(
            "norm.kind", NORMS, callable,
            "a function of config.norm, the dtype and the name of the axis of devices",
        ),
        "LOSSES": _Table(
            "train.loss", LOSSES, callable, "a function of logits and labels to losses of examples"
        ),
        "OPTIMIZERS": _Table(
            "optim.name", OPTIMIZERS, callable,
            "a function of config.optim to an optimiser of optax",
        ),
        "SCHEDULES": _Table(
            "optim.schedule", SCHEDULES, callable,
            "a function of config.optim, a Clock and a number of steps to a schedule of optax",
        ),
    }  # fmt: skip


_ADDED: dict[int, tuple[Any, Path]] = {}
"""Entries that experiment files have added to tables, and their files, by identity."""


@contextmanager
def _adding_to_tables(path: Path) -> Iterator[None]:
    """Lets an experiment file add entries to tables, and replace its own.

    Raises:
      ConfigError: if it adds something else, or replaces another entry, after which runs are
        named; the tables are then what they were.
    """
    tables = open_tables()
    known = {name: dict(table.entries) for name, table in tables.items()}
    try:
        yield
        for name, table in tables.items():
            _refuse_other_entries(path, name, table, known[name])
    except BaseException:
        for name, table in tables.items():
            table.entries.clear()
            table.entries.update(known[name])
        raise


def _refuse_other_entries(path: Path, name: str, table: _Table, known: dict[str, Any]) -> None:
    """Raises ConfigError if a file has added what is no entry, or replaced one of another file."""
    for own, entry in table.entries.items():
        if own in known and entry is known[own]:
            continue
        if not isinstance(own, str) or not table.fits(entry):
            raise ConfigError(
                f"{path} adds {entry!r} to {name} as {own!r}, and not {table.expected}"
            )
        if own in known and (file := _file_of(known[own])) != path.resolve():
            raise ConfigError(
                f"{path} replaces {table.key}={own!r} of {file or 'this process'}, after which "
                f"runs are named; give its own another name, such as my_{own}"
            )
        _ADDED[id(entry)] = entry, path.resolve()


def added_parts(config: ConfigDict) -> list[str]:
    """Keys of a config, with their values, that choose what resjax itself has not.

    An experiment file has added it, or a notebook.
    """
    flat = flatten(config)
    return [
        f"{table.key}={flat[table.key]}"
        for table in open_tables().values()
        if _is_added(table.entries.get(flat[table.key]))
    ]


def _is_added(entry: Any) -> bool:
    """Tells whether an entry is of an experiment file, or of a module that is not of resjax."""
    return id(entry) in _ADDED or not (entry.__module__ or "").startswith("resjax.")


def _file_of(entry: Any) -> Path | None:
    """File that has added or defines an entry; None if there is none, as in a notebook."""
    if id(entry) in _ADDED:
        return _ADDED[id(entry)][1]
    file = getattr(sys.modules.get(getattr(entry, "__module__", "")), "__file__", None)
    return Path(file).resolve() if file else None
