"""What a command of `resjax` is."""

import argparse
import dataclasses
from collections.abc import Callable

RunCommand = Callable[[argparse.Namespace, list[str]], int]
"""Does a command: of its options and the words that say the experiment to an exit code."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: what its help says, what it can be told, what it does.

    Attributes:
      summary: what it does, in less than a line.
      usage: what follows its name.
      run: does it.
      examples: whole command lines, for the end of its help.
      arguments: adds its arguments to a parser.
      experiment: what `--config=FILE` is to it; empty if it takes none.
      overrides: whether it takes `--config.KEY=VALUE`.
      notes: more of its help, or what makes it when it is asked for.
      goes_on: whether it goes on where it was if it is interrupted and started again.
    """

    summary: str
    usage: str
    run: RunCommand
    examples: tuple[str, ...]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    experiment: str = ""
    overrides: bool = False
    notes: str | Callable[[], str] = ""
    goes_on: bool = False


EXPERIMENT = "Python file with get_config(ARG)"

DEFINITIONS = "experiment file that defines the run's shortcut"
