"""How the command line is read: one line for what is wrong, help in 80 columns, types of values."""

import argparse
import math
import shutil
from pathlib import Path
from typing import NoReturn

from resjax.config import ConfigError
from resjax.config.keys import KEYS
from resjax.config.paths import local

WIDTH = 80
"""The most columns of a help text."""


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


class Parser(argparse.ArgumentParser):
    """Tells wrong arguments like every other wrong input.

    Its `epilog` may be a function, which is called when help is asked for.
    """

    def format_help(self) -> str:
        """The help, whole."""
        if callable(self.epilog):
            self.epilog = self.epilog()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def without(arguments: list[str], option: str) -> list[str]:
    """The arguments less an option and its value."""
    left, words = [], iter(arguments)
    for word in words:
        if word == option:
            next(words, None)
        elif not word.startswith(f"{option}="):
            left.append(word)
    return left


def path(text: str) -> Path:
    """A file or directory from the command line."""
    try:
        return local(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def filled(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the value is empty; is a variable not set?")
    return text


MOST = 2**31 - 1
"""The largest count: larger ones are slips, and arrays have no such sizes."""


def whole(text: str) -> int:
    """A number from 1 on."""
    if not _is_number(text) or not text.strip("0"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return count(text)


def count(text: str, most: int = MOST) -> int:
    """A number from 0 on."""
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    if len(text) > len(str(most)) or int(text) > most:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {most}")
    return int(text)


def _is_number(text: str) -> bool:
    """Whether it has digits alone, those of other scripts not among them."""
    return text.isascii() and text.isdecimal()


def pixels(text: str) -> int:
    """The side of an image, as of `data.size`."""
    return count(str(whole(text)), int(KEYS["data.size"].within[1]))


def images(text: str) -> int:
    """Images in a batch that a device might hold."""
    return count(str(whole(text)), 2**20)


def seconds(text: str) -> float:
    """A length of time, finite and above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, such as 5")
    return value


def wholes(text: str) -> list[int]:
    """Positive numbers with commas between them."""
    return [whole(word) for word in text.split(",")]
