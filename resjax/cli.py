"""The command `resjax`: parses, calls, prints."""

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from absl import flags
from ml_collections import ConfigDict, config_flags

import resjax
from resjax.config import ConfigError, flatten, nearest, run_id, validate

SHOW_CURSOR = "\x1b[?25h"
EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

CONFIG_HELP = """\
the experiment:
  --config=FILE[:ARG]   Python file with get_config(ARG), such as experiments/degradation.py
  --config.KEY=VALUE    override a key of its config, such as --config.model.depth=32
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns 0 if done, 1 if a run failed, 2 for wrong input, 130 for Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, rest = _parser().parse_known_args(arguments)
    try:
        with _interruptible(arguments):
            return options.run(options, rest)
    except ConfigError as error:
        print(f"resjax: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="resjax",
        description="A laboratory for residual learning: "
        "what does the shortcut do as networks get deep?",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"resjax {resjax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run, summary: str, example: str, **kwargs) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            epilog=f"{kwargs.get('epilog', '')}\nexample:\n  {example}",
        )
        command.set_defaults(run=run)
        return command

    train = add(
        "train",
        _train,
        "train one network and evaluate it",
        "resjax train --config=experiments/degradation.py --config.model.depth=32",
        epilog=CONFIG_HELP,
    )
    train.add_argument(
        "--workdir", type=Path, metavar="DIR",
        help="directory of this run (default: runs/EXPERIMENT/RUN)",
    )  # fmt: skip

    sweep = add(
        "sweep",
        _sweep,
        "train every network of a grid that is not trained yet, and report",
        "resjax sweep --config=experiments/degradation.py --sweep=depth,shortcut --seeds=3",
        epilog=CONFIG_HELP,
    )
    sweep.add_argument(
        "--workdir", type=Path, metavar="DIR",
        help="directory of the sweep, with a directory for each run (default: runs/EXPERIMENT)",
    )  # fmt: skip
    sweep.add_argument(
        "--sweep", metavar="AXES",
        help="axes of the experiment to multiply, such as depth,shortcut (default: all it has)",
    )  # fmt: skip
    sweep.add_argument("--seeds", type=int, metavar="N", help="run every net with seeds 0 to N-1")

    report = add(
        "report",
        _report,
        "write and print the table, figure and page of a sweep",
        "resjax report runs/degradation",
    )
    report.add_argument("dir", type=Path, metavar="DIR", help="directory of the sweep")
    return parser


# ---------------------------------------------------------------------------------------- commands


def _train(options: argparse.Namespace, rest: list[str]) -> int:
    name, _, config = _experiment(rest)
    directory = options.workdir or Path("runs", name, run_id(config))
    code = _execute({directory: config})
    print(f"run: {directory}")
    return code


def _sweep(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.sweeps import grid

    name, module, config = _experiment(rest)
    workdir = options.workdir or Path("runs", name)
    axes = grid.select_axes(grid.axes_of(module), options.sweep, options.seeds)
    code = _execute({workdir / run: config for run, config in grid.expand(config, axes).items()})
    _print_report(workdir)
    return code


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    _refuse(rest)
    _print_report(options.dir)
    return 0


def _execute(runs: Mapping[Path, ConfigDict]) -> int:
    from resjax.display import Display
    from resjax.sweeps.local import check, run_sweep
    from resjax.training.compilation import enable_cache

    check(runs)
    enable_cache()
    with Display(runs) as display:
        outcomes = run_sweep(runs, display)
    return EXIT_FAILED if any(outcome.error for outcome in outcomes) else 0


def _print_report(workdir: Path) -> None:
    from resjax.display import print_report
    from resjax.report.page import write_report

    print_report(write_report(workdir))


# ----------------------------------------------------------------------------------- configuration


def _experiment(words: list[str]) -> tuple[str, ModuleType, ConfigDict]:
    """Name, module and config of `--config=FILE[:ARG]`, with the overrides `--config.KEY=VALUE`."""
    from resjax.sweeps.grid import load_experiment

    parser = argparse.ArgumentParser(prog="resjax", allow_abbrev=False, add_help=False)
    parser.add_argument("--config")
    options, overrides = parser.parse_known_args(words)
    if not options.config:
        raise ConfigError("no experiment given; use --config=experiments/degradation.py")
    module, config = load_experiment(options.config)
    known = list(flatten(config))
    for word in overrides:
        key = word.split("=")[0].removeprefix("--no").removeprefix("--").removeprefix("config.")
        if word.startswith(("--config.", "--noconfig.")) and key not in known:
            raise ConfigError(f"unknown config key {key!r}; {nearest(key, known)}")
        if word.startswith("--") and not word.startswith(("--config.", "--noconfig.")):
            _refuse([word])
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *overrides])
    try:
        _refuse(values(["resjax", *overrides])[1:])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(" ".join(str(error).split())) from None
    validate(config)
    return Path(options.config.partition(":")[0]).stem, module, config


def _refuse(words: list[str]) -> None:
    if words:
        raise ConfigError(f"unknown argument {words[0]!r}; see resjax --help")


# ------------------------------------------------------------------------------------ interruption


@contextmanager
def _interruptible(arguments: list[str]) -> Iterator[None]:
    """Leaves on Ctrl-C, at once, with a line that says how to go on.

    Python handles a signal between two of its own instructions, so not while a network compiles. A
    thread that is woken by the signal itself ends the process if the main one is not done within a
    second.
    """
    done = threading.Event()
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = signal.set_wakeup_fd(send, warn_on_full_buffer=False)

    def leave() -> None:
        command = shlex.join(["resjax", *arguments])
        sys.stderr.write(f"\ninterrupted; finished runs are kept, go on with: {command}\n")
        sys.stderr.flush()
        os._exit(EXIT_INTERRUPTED)

    def watch() -> None:
        while (number := os.read(receive, 1)) and number[0] != signal.SIGINT:
            pass
        if number and not done.wait(timeout=1.0):
            sys.stderr.write(SHOW_CURSOR if sys.stderr.isatty() else "")
            leave()

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        leave()
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(send)


if __name__ == "__main__":
    sys.exit(main())
