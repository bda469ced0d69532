"""What an install takes, by requirement: megabytes, packages, and seconds to import it.

    python -m tests.benchmarks.install [--extras=stream,bucket] [--rounds=3]

A fresh virtual environment is made with this Python, and pip installs the checkout there. MB (a
million bytes) are those of the files that wheels bring, without the bytecode that Python makes of
them. "Alone" are a requirement and the packages that nothing else needs: what would go if it went.
Seconds are those of the processor, medians of processes that import a module and no other.
"""

import argparse
import functools
import statistics
import subprocess
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]

USES = {
    "jax": ("jax", "arrays, gradients, compilation"),
    "flax": ("flax.linen", "networks"),
    "optax": ("optax", "optimisers"),
    "ml-collections": ("ml_collections", "configs"),
    "absl-py": ("absl.flags", "`--config.KEY=VALUE`"),
    "numpy": ("numpy", "orders, random numbers, everything on the host"),
    "scikit-learn": ("sklearn.datasets", "the default data, digits"),
    "scipy": ("scipy.stats", "intervals of verdicts; jax requires it"),
    "matplotlib": ("matplotlib.figure", "figures of a report, which a sweep ends with"),
    "mpld3": ("", "has D3, which draws the charts of a report's page; nothing is imported"),
    "jinja2": ("jinja2", "the page of a report"),
    "rich": ("rich.console", "tables and progress in a terminal; flax requires it"),
    "argcomplete": ("argcomplete", "completion in shells"),
    "pillow": ("PIL.Image", "reads images, and the centres that are evaluated"),
    "tensorflow-datasets": ("tensorflow_datasets", "named sets, such as `cifar10`"),
    "array-record": ("array_record.python.array_record_module", "examples of named sets"),
    "importlib-resources": ("importlib_resources", "tensorflow-datasets imports it"),
    "pyarrow": ("pyarrow.parquet", "Parquet files of images; tensorflow-datasets requires it"),
    "grain": ("grain", "processes that decode streamed images"),
    "simplejpeg": ("simplejpeg", "decodes JPEG"),
    "safetensors": ("safetensors.numpy", "weights in files"),
    "flatbuffers": ("flatbuffers", "`resjax export` to StableHLO; jax does not require it"),
    "packaging": ("packaging.version", "versions of directories of runs"),
    "orbax-checkpoint": ("orbax.checkpoint", "checkpoints; flax requires it"),
    "tensorboardx": ("tensorboardX", "event files, `log.writers`"),
}
"""The module that is imported of each requirement, and what it does here."""

LARGE = 10.0
"""MB from which on a package that is no requirement of resjax is told of."""

TIMED = "import time; import {}; print(time.process_time())"


def required() -> list[str]:
    """Names of what `pyproject.toml` requires without an extra."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [canonicalize_name(Requirement(line).name) for line in project["dependencies"]]


class Installed:
    """The packages of a directory, and what they require."""

    def __init__(self, directory: Path):
        found = distributions(path=[str(directory)])
        self.packages: dict[str, Distribution] = {canonicalize_name(d.name): d for d in found}

    def needs(self, name: str, extras: frozenset[str] = frozenset()) -> set[tuple[str, frozenset]]:
        """What a package requires itself with some of its extras: names, and the extras of each."""
        lines = map(Requirement, self.packages[name].requires or [])
        return {
            (canonicalize_name(line.name), frozenset(line.extras))
            for line in lines
            if line.marker is None
            or any(line.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        }

    def closure(self, wanted: Iterable[tuple[str, frozenset]]) -> set[str]:
        """Names of all packages that some need, these among them."""
        seen, left = set(), list(wanted)
        while left:
            if (one := left.pop()) not in seen:
                seen.add(one)
                left.extend(self.needs(*one))
        return {name for name, _ in seen}

    @functools.cache  # noqa: B019 - there is one, as long as the process
    def megabytes(self, name: str) -> float:
        """Size of the files of a package, without bytecode."""
        files = (file.locate() for file in self.packages[name].files or ())
        files = (file for file in files if file.suffix != ".pyc" and file.is_file())
        return sum(file.stat().st_size for file in files) / 1e6

    def total(self, names: Iterable[str]) -> float:
        """Megabytes of several packages."""
        return sum(map(self.megabytes, names))


def install(directory: Path, extras: str) -> tuple[Path, Installed]:
    """Makes an environment with resjax; returns its Python, and what is there."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    checkout = f"{CHECKOUT}[{extras}]" if extras else str(CHECKOUT)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", checkout], check=True)
    [packages] = directory.glob("lib/python*/site-packages")
    return python, Installed(packages)


def seconds(python: Path, module: str, rounds: int) -> float:
    """Median time of a processor for a Python that imports a module and ends."""
    command = [python, "-c", TIMED.format(module)]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extras", default="", help="names with commas between them")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        python, installed = install(Path(directory), options.extras)
        wanted = installed.needs("resjax", frozenset(options.extras.split(",")))
        everything = installed.closure(wanted)
        print("| requirement | MB | alone: MB | packages | seconds | what it does here |")
        print("|---|---|---|---|---|---|")
        rows = []
        for name in required():
            alone = everything - installed.closure(one for one in wanted if one[0] != name)
            module, use = USES[name]
            time = f"{seconds(python, module, options.rounds):.2f}" if module else "-"
            rows.append((installed.megabytes(name), installed.total(alone), name, alone, time, use))
        for own, together, name, alone, time, use in sorted(rows, reverse=True):
            print(f"| {name} | {own:.1f} | {together:.1f} | {len(alone)} | {time} | {use} |")
        print("\n| of at least 10 MB, required by those | MB | by |\n|---|---|---|")
        for name in sorted(everything - set(USES), key=installed.megabytes, reverse=True):
            if installed.megabytes(name) >= LARGE:
                by = (one for one in sorted(everything) if name in dict(installed.needs(one)))
                print(f"| {name} | {installed.megabytes(name):.1f} | {', '.join(by)} |")
        print(f"\n{len(everything)} packages of {installed.total(everything):.0f} MB")


if __name__ == "__main__":
    main()
