"""What wants measuring on an accelerator, in nine minutes and in order of value, by one command.

    python -m tests.benchmarks.accelerator --out=DIR                    # all parts
    python -m tests.benchmarks.accelerator --out=DIR --seconds=300 checks sweep
    python -m tests.benchmarks.accelerator --out=DIR --small            # tiny, to try it on a CPU

Every part is a process of its own that gets a share of the time, so that none that fails or hangs
takes the turn of another; what a part leaves of its share is divided among those after it. What is
measured is a line of DIR/results.jsonl at once, and after each part a row of DIR/table.md; what the
parts print is in DIR/log.txt. Another call may go on in the same directory, with what the first had
no time for. By these figures `resjax.training.platforms.PLATFORMS` should decide.

Of the requirements of resjax, `PACKAGES` are needed. A machine that reaches no index of packages
may be given those that it lacks as wheels, made where there is one:

    pip download --no-deps --dest=wheels ml_collections tensorboardX mpld3
    pip install --no-index --no-deps --target=site wheels/*.whl && export PYTHONPATH=site
"""

import argparse
import contextlib
import dataclasses
import datetime
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import accelerator_checks, accelerator_speed
from tests.benchmarks.accelerator_speed import ROOT, Row


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
      measure: yields a row for each thing that it measures; its argument asks for tiny sizes.
      seconds: its share of `SECONDS`, in which it has the time that it needs on an H200 or, if its
        rows are many, for the first of them.
      packages: modules that it needs and that a machine may lack.
    """

    measure: Callable[[bool], Iterator[Row]]
    seconds: int
    packages: tuple[str, ...] = ()


PACKAGES = ("jax", "flax", "optax", "ml_collections")
"""Modules that every part needs."""

OF_A_SWEEP = ("orbax.checkpoint", "sklearn", "matplotlib", "mpld3", "jinja2", "tensorboardX")

PARTS = {
    "resnet50": Part(accelerator_speed.resnet50, 60),
    "flax": Part(accelerator_speed.flax, 40),
    "pytorch": Part(accelerator_speed.pytorch, 125, ("torch",)),
    "cifar": Part(accelerator_speed.cifar, 60),
    "seeds": Part(accelerator_speed.seeds, 65),
    "variants": Part(accelerator_speed.variants, 55),
    "packs": Part(accelerator_speed.packs, 45),
    "checks": Part(accelerator_checks.checks, 50),
    "sweep": Part(accelerator_speed.sweep, 15, OF_A_SWEEP),
    "shapes": Part(accelerator_speed.shapes, 5, OF_A_SWEEP),
    "tests": Part(accelerator_checks.tests, 20, ("pytest", "hypothesis")),
}
"""Parts by name, in order of value."""

SECONDS = 9 * 60
"""The time of all parts together."""

LEAST_SECONDS = 15
"""A part is not begun if its share is less."""

ASKING = """
import json
import jax
from jax.extend.backend import backends
platforms = [name for name in backends() if name != "cpu"]
print(json.dumps([jax.devices()[0].device_kind, ",".join([*platforms, "cpu"])]))
"""
"""A program that prints the kind of the devices, and a value of JAX_PLATFORMS without which JAX
would compute on the CPU where another process holds a TPU."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it on a CPU")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S",
                        help=f"time of all parts together (default: {SECONDS})")  # fmt: skip
    parser.add_argument("--part", type=_part, help=argparse.SUPPRESS)
    parser.add_argument("--device", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    out = options.out.absolute()
    if options.part:
        work(options.part, out, options.small, options.device)
        return
    end = time.monotonic() + options.seconds
    out.mkdir(parents=True, exist_ok=True)
    device, platforms = find_device(options.seconds)
    names = list(options.parts or PARTS)
    while names:
        share = share_of_first(names, end - time.monotonic())
        name = names.pop(0)
        if why := do(name, out, options.small, share, device, platforms):
            record(out, {"part": name, "device": device, "what": "not finished", "said": why})
        rows = list(map(json.loads, (out / "results.jsonl").read_text().splitlines()))
        (out / "table.md").write_text(table(rows))
    print(table(rows))


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


# ------------------------------------------------------------------------------- parts as processes


def find_device(seconds: float) -> list[str]:
    """Asks for the kind of the devices, and the platforms, by `ASKING`.

    Another process does, which holds no device once it has ended.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASKING], capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise SystemExit(f"JAX finds no device in {seconds:.0f} s") from None
    if asked.returncode:
        raise SystemExit(f"JAX finds no device: {asked.stderr.strip()[-1000:]}")
    return json.loads(asked.stdout.splitlines()[-1])


def share_of_first(names: list[str], left: float) -> float:
    """The seconds of the first of these parts, if so many are left for all of them.

    Parts that lack a package get none.
    """
    seconds = [0 if missing(name) else PARTS[name].seconds for name in names]
    return max(left, 0) * seconds[0] / max(sum(seconds), 1)


def missing(name: str) -> list[str]:
    """The packages that a part needs and that are not there."""
    return [each for each in (*PACKAGES, *PARTS[name].packages) if not _is_there(each)]


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def do(name: str, out: Path, small: bool, seconds: float, device: str, platforms: str) -> str:
    """Does a part in a process of its own, within some seconds.

    Returns:
      Why it did not finish; empty if it did.
    """
    if lacking := missing(name):
        return f"needs {', '.join(lacking)}"
    if seconds < LEAST_SECONDS:
        return f"not begun: its share was {seconds:.0f} s"
    words = [f"--out={out}", f"--part={name}", f"--device={device}", *["--small"] * small]
    with (out / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.accelerator", *words],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            process_group=0,
            env=os.environ
            | {"JAX_PLATFORMS": platforms, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"no more after {seconds:.0f} s"
        finally:  # with its children, also if this process is interrupted
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"exit code {code}; see log.txt" if code else ""


def work(name: str, out: Path, small: bool, device: str) -> None:
    """Does a part in this process, without asking for devices that its children may need."""
    start = time.monotonic()
    for row in PARTS[name].measure(small):
        after = round(time.monotonic() - start, 1)
        record(out, {"part": name, "device": device, **row, "after s": after})


def record(out: Path, row: Row) -> None:
    """Writes a row, which nothing that happens later can take away."""
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


# --------------------------------------------------------------------------------------- the report


def table(rows: list[Row]) -> str:
    """Markdown: a table for each part and device, with a line for all rows of one `what`."""
    tables: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        own = tables.setdefault((row["part"], row["device"]), {})
        own.setdefault(row["what"], {}).update(row)
    text = []
    for (name, device), own in tables.items():
        keys = [key for row in own.values() for key in row]
        columns = [key for key in dict.fromkeys(keys) if key not in ("part", "device", "after s")]
        text += [f"## {name}: {PARTS[name].measure.__doc__.splitlines()[0]}", "",
                 f"{device}, {datetime.date.today()}", "",
                 f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]  # fmt: skip
        for row in own.values():
            cells = (row.get(column, "") for column in columns)
            text.append(f"| {' | '.join(map(_cell, cells))} |")
        text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # `do` ends its part
    main()
