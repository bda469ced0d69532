"""Parsing of the command line: errors in one line, help in 80 columns, and types of values."""

import argparse
import math
import re
import shutil
from pathlib import Path
from typing import Any, NoReturn

from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.errors import unknown_choice
from resjax.config.keys import KEYS
from resjax.config.paths import local, place

WIDTH = 80
"""Maximum number of columns of a help text."""


class Help(argparse.RawDescriptionHelpFormatter):
    """Help in at most 80 columns, with options as they are written: --workdir=DIR."""

    def __init__(self, prog: str):
        width = min(WIDTH, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=28, width=width)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        [value] = self._metavar_formatter(action, action.dest.upper())(1)
        return "=".join((action.option_strings[-1], value))


REWORDED = {
    r"^argument (\S+): expected one argument$": r"\1 has no value; write \1=VALUE",
    r"^argument (--\S+): (?=')": r"\1=",
    r"^argument (\S+): ": r"\1: ",
}
"""Messages of argparse as patterns, and how they are worded here."""


class Parser(argparse.ArgumentParser):
    """A parser that raises ConfigError for wrong arguments, as for any other invalid input.

    Its `epilog` may be a function, which is called when help is asked for.
    """

    def format_help(self) -> str:
        """The help text, including an `epilog` that is a function."""
        if callable(self.epilog):
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError with the message and a reference to the help.

        What argparse says of an argument begins with its name, as what is said elsewhere does.
        """
        for pattern, words in REWORDED.items():
            message = re.sub(pattern, words, message)
        raise ConfigError(f"{message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            what = action.option_strings[-1] if action.option_strings else action.dest
            self.error(str(unknown_choice(what, value, action.choices)))


def path(text: str) -> Path:
    """Parses the path of a file or directory."""
    try:
        return local(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def path_or_address(text: str) -> Path | Address:
    """Parses the path of a directory, or its address in a bucket."""
    try:
        return place(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def filled(text: str) -> str:
    """Parses a text that must not be empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty; is a variable not set?")
    return text


MOST = 2**31 - 1
"""Maximum of a count; larger ones are mistakes, as no array has such a size."""


def whole(text: str) -> int:
    """Parses a whole number of at least 1."""
    if not _is_number(text) or not text.strip("0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return count(text)


def count(text: str, most: int = MOST) -> int:
    """Parses a whole number from 0 to `most`."""
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    if len(text) > len(str(most)) or int(text) > most:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {most}")
    return int(text)


def _is_number(text: str) -> bool:
    """Tells whether a text has only the digits 0 to 9."""
    return text.isascii() and text.isdecimal()


def pixels(text: str) -> int:
    """Parses the side of an image in pixels, within the bounds of `data.size`."""
    return count(str(whole(text)), int(KEYS["data.size"].within[1]))


def seconds(text: str) -> float:
    """Parses a number of seconds above 0, at most 1e9."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, such as 5")
    return value


def wholes(text: str) -> list[int]:
    """Parses positive whole numbers separated by commas."""
    return [whole(word) for word in text.split(",")]
