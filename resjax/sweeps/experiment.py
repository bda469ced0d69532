"""Experiment files: how they are loaded, and what is refused of what they define."""

import dataclasses
import importlib
import inspect
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
    type_and_message,
    use_own_values,
)
from resjax.config.keys import KEYS
from resjax.config.paths import experiment_file, similar
from resjax.config.tables import adding
from resjax.runs import rundir
from resjax.runs.files import CONFIG


def load_experiment(reference: str) -> tuple[ModuleType, ConfigDict]:
    """Loads the module and the config of `FILE` or `FILE:ARG`; ARG is passed to `get_config`.

    The `config.json` of a run is an experiment, too: that of this one run.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, has no `get_config`, its
        `get_config` refuses ARG, or it gives a name in a table another meaning.
    """
    filename, arg = experiment_file(reference)
    if filename.name == CONFIG:
        rundir.refuse_no_run(filename.parent)
        return ModuleType(filename.parent.name), rundir.rebuild_config(filename.parent)
    module = load_module(filename)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"{filename} has no get_config(); it must return the experiment's config")
    refuse_async(module.get_config, f"get_config of {filename}")
    with (
        as_refusal(f"get_config({arg!r}) of {filename}"),
        adding(filename),
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
    _refuse_unread_keys(filename)
    return module, config


def _fields(shortcut: type) -> list[str]:
    return [field.name for field in dataclasses.fields(shortcut)]


def _arguments(loss: Callable) -> list[str]:
    return list(inspect.signature(loss).parameters)[2:]


READERS: dict[str, tuple[str, str, Callable[[Any], list[str]]]] = {
    "model": ("model.shortcut", "a field", _fields),
    "train": ("train.loss", "an argument", _arguments),
}
"""Readers of the keys of a section: the key that chooses one, and the names that it reads."""


def _refuse_unread_keys(path: Path) -> None:
    """Raises ConfigError for a key of an experiment file that no shortcut or loss reads."""
    for key, file in KEYS.files.items():
        section, _, name = key.partition(".")
        if file != path.resolve() or section not in READERS:
            continue
        chooses, what, names = READERS[section]
        table = KEYS[chooses].entries
        if table is not None and all(name not in names(entry) for entry in table.values()):
            raise ConfigError(
                f"{path} adds {key}, which no {chooses.partition('.')[2]} reads; give one {what} "
                f"{name!r}, or rename the key"
            )


def load_module(path: Path) -> ModuleType:
    """Imports an experiment file, whose additions to tables, such as shortcuts, are then known.

    Raises:
      ConfigError: if there is no such file, it cannot be imported, or it gives a name in a
        table another meaning.
    """
    if not path.is_file():
        remedy = similar(path) or "resjax init NAME writes one to start from"
        raise ConfigError(f"no experiment file {path}; {remedy}")
    if not path.name.endswith(".py"):
        raise ConfigError(f"{path} is not a Python file")
    with as_refusal(f"{path} cannot be imported"):
        return run_module(path, decode_source(path.read_bytes()))


def refuse_async(function: Callable, what: str) -> None:
    """Raises ConfigError for a function that would have to be awaited."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{what} is asynchronous; write def instead of async def")


@contextmanager
def as_refusal(
    what: str, tell: Callable[[BaseException], str] = type_and_message
) -> Iterator[None]:
    """Turns any exception of an experiment, even SystemExit, into a ConfigError of one line."""
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ConfigError(f"{what}: {tell(error)}") from error


_PREFIX = "resjax_experiment_"
"""Prefix of the name of a module that is an experiment file."""


def with_place(error: BaseException) -> str:
    """Describes an error, with its location if it was raised in an experiment file."""
    return fault(error) or type_and_message(error)


def fault(error: BaseException) -> str | None:
    """The location and message of an error raised in an experiment file; None for any other."""
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
    with _importing_beside(path.resolve().parent), adding(path):
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
    """Lets an experiment import the modules beside it first, as a script does.

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
    """Returns {name: file} of the modules beside them that experiments have imported."""
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
