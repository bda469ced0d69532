"""The words that describe the experiment: `--config=FILE[:ARG]` and `--config.KEY=VALUE`."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ml_collections import ConfigDict

from resjax.cli.parsing import Parser
from resjax.config import ConfigError, UnknownName
from resjax.config.naming import path_component
from resjax.config.overrides import override
from resjax.config.paths import experiment_file
from resjax.sweeps.experiment import load_experiment, load_module


def read_experiment(words: list[str]) -> tuple[str, ModuleType, ConfigDict, list[str]]:
    """Reads the experiment of `--config=FILE[:ARG]` and the overrides `--config.KEY=VALUE`.

    Returns the name of the experiment, its module, its config and the overridden keys.
    """
    files, overrides = split_files(words)
    if len(files) != 1:
        given = f"{len(files)} experiments" if files else "no experiment"
        raise ConfigError(f"{given} given; use one --config=FILE; resjax init mine writes one")
    module, config = load_experiment(files[0])
    overridden = override(config, overrides)
    return path_component(experiment_file(files[0])[0].stem), module, config, overridden


@contextmanager
def definitions(words: list[str]) -> Iterator[list[str]]:
    """A context in which a run may use custom parts, such as shortcuts, of `--config=FILE`.

    Yields the other words.

    Raises:
      ConfigError: for a part that nothing defines, with that option as the remedy.
    """
    files, overrides = split_files(words)
    for file in files:
        load_module(experiment_file(file)[0])
    try:
        yield overrides
    except UnknownName as error:
        if not error.definable:
            raise
        raise ConfigError(
            f"{error}, or name the experiment file that defines it by --config=FILE"
        ) from None


def split_files(words: list[str]) -> tuple[list[str], list[str]]:
    """The experiment files of `--config=FILE`, and the other words."""
    parser = Parser(prog="resjax", allow_abbrev=False, add_help=False)
    parser.add_argument("--config", action="append", default=[])
    options, left = parser.parse_known_args(words)
    return options.config, left
