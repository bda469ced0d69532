"""Flips single bits in every file of a run, by all that reads them and by whole commands.

    python -m tests.benchmarks.bitflips --flips=600 --commands=6

Each flip is alone, and taken back. A table says how many in each file were refused, had no effect,
or another one, which none may have. The tests flip fewer bits in the files of checkpoints.
"""

import argparse
import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resjax.cli.main import main as resjax
from resjax.config import ConfigError
from resjax.runs import disk, rundir
from resjax.runs.loop import train_and_evaluate
from tests.durability.test_bits import FILES, TRUST, config_of, examined, make_runs, outcomes

CLOCKS = re.compile(r"(?:\d+ (?:d|h|min|s) )+ago|\d+\.\d MB")
"""What differs from one command to the next."""

UNKNOWN = re.compile(r"cannot read|not known|does not tell|\"cost\": null")
"""Said of what a file does not tell any more."""


def command(*words: str) -> Callable[[Path], str]:
    """What a command prints, with RUN in its words; a refusal if it ends with 1 or 2."""

    def read(run: Path) -> str:
        told, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(printed):
            code = resjax([word.replace("RUN", str(run)) for word in words])
        assert "Traceback" not in told.getvalue()
        if code or UNKNOWN.search(printed.getvalue()):
            raise ConfigError(told.getvalue() or printed.getvalue())
        return CLOCKS.sub("", printed.getvalue())

    read.__name__ = " ".join(words)
    return read


def go_on(run: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The result of a run that goes on, in a copy; without its times."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, "run")
        shutil.copytree(run, copy)
        train_and_evaluate(config_of({}), copy)
        result = disk.read_json(copy / "result.json")
        del result["seconds"]
        return result, rundir.read_metrics(copy)


STATUS, DOCTOR = command("status", "RUN", "--json"), command("doctor", "RUN")

COMMANDS = {
    "done": (STATUS, DOCTOR, command("report", "RUN"), command("evaluate", "RUN"), go_on),
    "cut": (STATUS, DOCTOR, command("probe", "RUN", "--probe=responses"), go_on),
    "beside": (STATUS, DOCTOR),
    "imported": (STATUS, DOCTOR, command("evaluate", "RUN")),
    "claimed": (DOCTOR,),
}
"""What is done with a run, by its kind."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=600, help="of each file, by what reads it")
    parser.add_argument("--commands", type=int, default=6, help="of each file, by whole commands")
    options = parser.parse_args()
    print("| run | file | by | flips | refused | no effect | another effect |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        runs = make_runs(Path(directory))
        for kind, name in ((kind, name) for kind, names in FILES.items() for name in names):
            for by, number, readers in (
                ("functions", options.flips, (*TRUST[name], examined)),
                ("commands", options.commands, COMMANDS[kind]),
            ):
                counts, wrong = outcomes(runs[kind], name, number, readers)
                row = (counts[what] for what in ("refused", "no effect", "another effect"))
                cells = (kind, name, by, counts.total(), *row)
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
                for line in wrong[:5]:
                    print(f"  {line}", flush=True)


if __name__ == "__main__":
    main()
