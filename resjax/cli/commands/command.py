"""The description of a command of `resjax`."""

import argparse
import dataclasses
from collections.abc import Callable

RunCommand = Callable[[argparse.Namespace, list[str]], int]
"""Function that runs a command: (options, words that describe the experiment) to an exit code."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: its help, its arguments and its work.

    Attributes:
      summary: the purpose of the command, in less than a line.
      usage: the arguments after its name.
      run: does the work.
      examples: whole command lines, for the end of its help.
      arguments: adds its arguments to a parser.
      experiment: the help of its option `--config=FILE`; empty if it has none.
      overrides: whether it takes `--config.KEY=VALUE`.
      notes: more text for its help, or a function that makes it when the help is shown.
      resumable: whether it resumes when it was interrupted and is run again.
    """

    summary: str
    usage: str
    run: RunCommand
    examples: tuple[str, ...]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    experiment: str = ""
    overrides: bool = False
    notes: str | Callable[[], str] = ""
    resumable: bool = False


EXPERIMENT = "experiment file, which defines get_config(ARG)"

DEFINITIONS = "experiment file that defines custom parts of the run"
