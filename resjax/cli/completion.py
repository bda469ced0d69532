"""Completions for a word of the command `resjax`, as a shell requests them.

`resjax completion SHELL` prints the script that asks; the answers come from the parser of the
commands, and so fit the version that is installed.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from importlib.util import decode_source
from typing import Any

from argcomplete import CompletionFinder
from argcomplete.completers import DirectoriesCompleter, FilesCompleter, SuppressCompleter

from resjax.cli.arguments import command_parser, make_parser
from resjax.cli.commands import COMMANDS
from resjax.config.keys import KEYS
from resjax.config.networks import KNOWN_NAMES
from resjax.config.paths import experiment_file

START = "--config."
"""The prefix of the options that set a key of a config."""

ADDED = r"""^(?:\w+\.)*{table}\[["']([\w.]+)["']\] *="""
"""Pattern of a line in which an experiment file adds to a table."""


def complete() -> None:
    """Answers the shell and exits."""
    Finder()(completing_parser(), always_complete_options="long")


def completing_parser() -> argparse.ArgumentParser:
    """The parser of all commands, with an option for each key of a config, and completers."""
    parser = make_parser()
    for name, command in COMMANDS.items():
        own = command_parser(parser, name)
        for action in own._actions:
            if action.metavar in COMPLETERS:
                action.completer = COMPLETERS[action.metavar]
        if command.overrides:
            for key in _keys():
                meaning = KEYS[key].meaning if key in KEYS else ""
                about = meaning.partition(". ")[0].replace("`", "").replace("%", "%%")
                own.add_argument(f"{START}{key}", help=about).completer = partial(_values, key)
    return parser


class Finder(CompletionFinder):
    """Finds completions; options that take a value end with "=".

    Of keys of a config it shows only their common start, until that is written.
    """

    def filter_completions(self, completions: list[str]) -> list[str]:
        """The completions to show, among those that fit the word."""
        found = super().filter_completions(completions)
        if any(not word.startswith(START) for word in found):
            found = list(dict.fromkeys(START if word.startswith(START) else word for word in found))
        options = self.active_parsers[-1]._option_string_actions
        return [self._ended(word, options.get(word)) for word in found]

    def _ended(self, word: str, option: argparse.Action | None) -> str:
        if option is None or option.nargs == 0:
            return word
        self._display_completions[f"{word}="] = self._display_completions.get(word, "")
        return f"{word}="


def _added_keys() -> list[str]:
    """Keys that the experiment file on the command line adds."""
    line = os.environ.get("COMP_LINE", "")
    named = re.search(r"--config[= ]([^\s=]+)", line)
    added = ADDED.format(table="KEYS")
    return _found(added, argparse.Namespace(config=named[1])) if named else []


def _values(key: str, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """The names that a key of a config takes, or its default if it takes none."""
    if key not in KEYS:
        return []
    entry, table = KEYS[key], KEYS[key].table.partition(":")[2]
    own = _found(ADDED.format(table=table), parsed_args) if table else []
    return list(dict.fromkeys([*entry.choices, *own])) or [str(entry.default)]


def _in_list(names: Callable[..., Iterable[str]]) -> Callable[..., list[str]]:
    """Completes the last of several comma-separated names."""

    def complete_last(prefix: str, **given: Any) -> list[str]:
        before = prefix[: prefix.rfind(",") + 1]
        return [before + name for name in names(**given)]

    return complete_last


def _axes(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    return _found(r"^def sweep_(\w+)\(", parsed_args)


def _found(pattern: str, parsed_args: argparse.Namespace) -> list[str]:
    """Matches of a pattern in the lines of the experiment file, which is read but not run."""
    try:
        text = decode_source(experiment_file(parsed_args.config)[0].read_bytes())
    except (AttributeError, OSError, SyntaxError, ValueError):
        return []
    return re.findall(pattern, text, re.MULTILINE)


def _networks(**_: Any) -> Iterable[str]:
    return KNOWN_NAMES


def _probes(**_: Any) -> Iterable[str]:
    from resjax.probes.table import PROBES

    return PROBES


def _settings(**_: Any) -> list[str]:
    return [f"{key}=" for key in _keys()]


def _keys(**_: Any) -> list[str]:
    return sorted({*KEYS, *_added_keys()})


COMPLETERS: dict[str, Any] = {
    "DIR": DirectoriesCompleter(),
    "RUN": DirectoriesCompleter(),
    "FILE": FilesCompleter(),
    "DIR|FILE": FilesCompleter(),
    "IMAGE": FilesCompleter(),
    "FILE[:ARG]": FilesCompleter(("py",)),
    "VALUE": SuppressCompleter(),
    "AXES": _in_list(_axes),
    "NETWORK": _networks,
    "NAME,...": _in_list(_probes),
    "KEY=V,V": _settings,
    "PATTERN": _keys,
}
"""Completers by the names of values in the help; other values are not completed."""
