"""The arguments of the command `resjax`, and its help."""

import argparse
import re
from collections.abc import Iterable, Sequence
from functools import partial

import resjax
from resjax.cli.commands import COMMANDS, GROUPS
from resjax.cli.commands.command import Command
from resjax.cli.parsing import Help, Parser
from resjax.config import ConfigError, nearest
from resjax.config.keys import KEYS
from resjax.config.words import WORDS
from resjax.exits import EXIT_INTERRUPTED, EXIT_UNFINISHED, MEANINGS

ABOUT = """\
Train deep residual networks in JAX, and measure what their shortcuts do as the
networks get deeper."""

MORE = "resjax COMMAND --help describes a command and its options."

KEY_OPTION = "--config.KEY"
"""The option that represents those of all keys of a config in the help."""

ENDINGS = {
    True: f"{EXIT_UNFINISHED} interrupted (resumable)",
    False: f"{EXIT_INTERRUPTED} interrupted",
}
"""Exit codes of interrupted commands, by whether the command resumes when run again."""

EXAMPLES = (
    "resjax init mine",
    "resjax sweep --config=mine.py --workdir=runs/mine",
    "resjax report runs/mine --open",
)


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separates the arguments `--config...`, which describe the experiment, from the others.

    Returns the other arguments and those of the experiment. argparse cannot do this: it takes an
    unknown option for a positional argument if there is a space in it, and durations have one.

    Raises:
      ConfigError: for an option that has no value.
    """
    own, experiment, words = [], [], iter(arguments)
    for word in words:
        if not re.match(r"--(no)?config\b", word):
            own.append(word)
            continue
        if "=" not in word and not word.startswith("--no") and not _is_switch(word):
            word = f"{word}={_value_of(word, next(words, None))}"
        experiment.append(word)
    return own, experiment


def _is_switch(option: str) -> bool:
    """Tells whether an option of the config means True where it has no value."""
    entry = KEYS.get(option.removeprefix("--config."))
    return entry is not None and isinstance(entry.default, bool)


def _value_of(option: str, following: str | None) -> str:
    """The value of an option, which is the next word; ConfigError if there is none."""
    if following is None or following.startswith("--"):
        raise ConfigError(f"{option} has no value; write {option}=VALUE")
    return following


MEANT = {"help": "--help", "version": "--version"}
"""Options by the words that other programs take in their place."""


def parse(arguments: list[str], experiment: Sequence[str] = ()) -> argparse.Namespace:
    """Parses the arguments of a command, as returned by `split`; its name is in `command`.

    Raises:
      ConfigError: for an unknown command, argument or option, with the nearest known ones.
    """
    if arguments and arguments[0] in MEANT:
        arguments = [*arguments[1:], MEANT[arguments[0]]]
    parser = make_parser()
    names = [word for word in arguments if not word.startswith("-")]
    if not names:
        _refuse_no_command(arguments, parser)
    elif names[0] not in COMMANDS:
        known = nearest(names[0], list(COMMANDS))
        raise ConfigError(f"unknown command {names[0]!r}; {known}; see resjax --help")
    options, left = parser.parse_known_args(arguments)
    command = COMMANDS[options.command]
    for word in experiment:
        if not (command.experiment if word.startswith("--config=") else command.overrides):
            left.append(word)
    if left:
        subparser = command_parser(parser, options.command)
        if left[0].startswith("-"):
            remedy = _remedy(left[0], parser, options.command)
            subparser.error(f"unknown option {left[0].partition('=')[0]}; {remedy}")
        remedy = f"; use --config={left[0]}" if left[0].endswith(".py") else ""
        subparser.error(f"unknown argument {left[0]!r}{remedy}")
    return options


def _refuse_no_command(arguments: list[str], parser: argparse.ArgumentParser) -> None:
    """Raises ConfigError for options without a command, unless they need none."""
    known = list(parser._option_string_actions)
    if set(known) & set(arguments):
        return
    for word in arguments:
        option = word.partition("=")[0]
        parser.error(f"unknown option {option}; {nearest(option, known)}")
    raise ConfigError("no command given; start with resjax init mine, or see resjax --help")


def _remedy(given: str, parser: argparse.ArgumentParser, name: str) -> str:
    """The remedy for an unknown option of a command: another option or a key, or a command.

    The option is that of its plural, the key one of the same name, here or in other programs.
    """
    unknown, equals, value = given.partition("=")
    options = _options_of(parser, name)
    if f"{unknown}s" in options:
        return f"use {unknown}s{equals}{value}"
    if COMMANDS[name].overrides and (keys := _keys_meant(unknown)):
        return f"use {' or '.join(f'--config.{key}' for key in keys)}"
    owners = [f"resjax {other}" for other in COMMANDS if unknown in _options_of(parser, other)]
    if 0 < len(owners) <= MOST_OWNERS:
        return f"it is an option of {' and '.join(owners)}"
    return nearest(unknown, [option for option in options if option != KEY_OPTION])


MOST_OWNERS = 2
"""Maximum number of commands that a refusal names for an option which another one does not have."""


def _options_of(parser: argparse.ArgumentParser, name: str) -> list[str]:
    return list(command_parser(parser, name)._option_string_actions)


def _keys_meant(option: str) -> list[str]:
    """The keys of a config that an option names by their own or another program's name."""
    name = option.lstrip("-").replace("-", "_")
    last = name.rpartition(".")[2]
    keys = [key for key in KEYS if name in (key, key.rpartition(".")[2])]
    return keys or [WORDS[word] for word in dict.fromkeys((name, last)) if word in WORDS][:1]


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands; it stores the name of the command in `command`."""
    parser = Parser(
        prog="resjax",
        usage="resjax COMMAND [options]",
        description=f"{ABOUT}\n\n{_overview()}",
        epilog=f"{MORE}\n\n{_exits()}\n{_listed(EXAMPLES)}",
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"resjax {resjax.__version__}",
        help="print the version and exit",
    )  # fmt: skip
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="resjax", help=argparse.SUPPRESS
    )
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(
            name,
            help=command.summary,
            usage=f"resjax {name} {command.usage}",
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            epilog=partial(_notes, command),
            formatter_class=Help,
            allow_abbrev=False,
        )
        command.arguments(subparser)
        _add_experiment(subparser, command)
    return parser


def command_parser(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    """The parser of one command, inside the parser of all commands."""
    [commands] = [action for action in parser._actions if action.dest == "command"]
    return commands.choices[name]


def _add_experiment(parser: argparse.ArgumentParser, command: Command) -> None:
    """Adds the options that `split` has removed to a parser, for its help only."""
    group = parser.add_argument_group("experiment")
    if command.experiment:
        group.add_argument(
            "--config", metavar="FILE[:ARG]", default=argparse.SUPPRESS, help=command.experiment
        )
    if command.overrides:
        group.add_argument(
            KEY_OPTION, metavar="VALUE", default=argparse.SUPPRESS,
            help="set a key of the config; resjax keys lists them",
        )  # fmt: skip


def _overview() -> str:
    return "\n\n".join(
        f"{title}:\n" + "\n".join(f"  {name:12}{each.summary}" for name, each in group.items())
        for title, group in GROUPS.items()
    )


def _exits() -> str:
    return "exit codes:\n" + "".join(f"  {code:<5}{what}\n" for code, what in MEANINGS.items())


def _notes(command: Command) -> str:
    """The text after the options in the help of a command."""
    notes = command.notes() if callable(command.notes) else command.notes
    ended = f"exit codes: 0 success, 1 failure, 2 invalid input, {ENDINGS[command.resumable]}\n"
    return "\n".join(part for part in (notes, ended, _listed(command.examples)) if part)


def _listed(examples: Iterable[str]) -> str:
    return "examples:\n" + "".join(f"  {example}\n" for example in examples)
