"""`resjax init`: an experiment file to start from."""

import argparse
import importlib.resources
import keyword
import re
from pathlib import Path

from resjax.cli.commands.command import Command
from resjax.cli.parsing import path
from resjax.cli.terminal.lines import say
from resjax.config import ConfigError

TEMPLATE = "template.txt"
"""An experiment file in which `NAME.py` and `runs/NAME` are to be replaced."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=path, metavar="NAME", help="name of the new file; .py is added"
    )


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.runs.disk import write_text
    from resjax.runs.rundir import make_directory

    file = options.name if options.name.suffix == ".py" else Path(f"{options.name}.py")
    _refuse_name(file)
    if file.exists():
        raise ConfigError(f"{file} already exists; choose another name, or move it away")
    is_new = not file.parent.exists()
    make_directory(file.parent)
    if is_new:
        say(f"{file.parent} is a new directory")
    write_text(file, experiment(file))
    workdir = Path("runs", file.stem)
    for line in (
        f"{file} defines what is trained and swept; read it first, then run:",
        f"  resjax sweep --config={file} --dry-run",
        f"  resjax sweep --config={file}",
        f"  resjax report {workdir} --open",
    ):
        say(line)
    return 0


def experiment(file: Path) -> str:
    """The text of a new experiment file with this name."""
    text = importlib.resources.files("resjax.cli.commands").joinpath(TEMPLATE).read_text("utf-8")
    return text.replace("runs/NAME", f"runs/{file.stem}").replace("NAME.py", str(file))


def _refuse_name(file: Path) -> None:
    if file.stem.isidentifier() and not keyword.iskeyword(file.stem):
        return
    better = re.sub(r"\W", "_", file.stem)
    better = better if better.isidentifier() and not keyword.iskeyword(better) else f"my_{better}"
    raise ConfigError(
        f"{file.stem!r} is not a valid name of a Python module; try {file.with_name(better)}"
    )


INIT = Command(
    summary="create an experiment file to start from",
    usage="NAME",
    run=_run,
    arguments=_arguments,
    notes="The file compares plain networks, residual networks and a custom shortcut that\n"
    "it defines. Existing files are never overwritten.\n",
    examples=("resjax init mine", "resjax init experiments/mine"),
)
