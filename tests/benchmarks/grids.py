"""How long the commands of a sweep take on a grid of very many runs that are done.

    python -m tests.benchmarks.grids [--runs=1000] [--rounds=3]

One real run is trained, and its files are written again for every run of the grid, each with its
own config, name and errors, by the functions of the package that write them. The commands are
processes, timed from their start to their end. Seconds of CPU are those of all their threads: where
a machine has other work, they tell more than the others.
"""

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ml_collections import ConfigDict

from resjax.config.naming import run_id
from resjax.runs import disk, rundir
from resjax.runs.loop import train_and_evaluate
from resjax.sweeps import experiment, grid

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

DEPTHS = "model.depth=8,14,20,32,56"

NETWORKS = 20
"""Of four shortcuts and five depths; the rest of a grid is seeds."""


def of_grid(runs: int) -> list[str]:
    """The words that say a grid of so many runs."""
    return [f"--config={EXPERIMENT}", "--sweep=shortcut", f"--axis={DEPTHS}",
            f"--seeds={runs // NETWORKS}"]  # fmt: skip


def configs_of_grid(runs: int) -> dict[str, ConfigDict]:
    """{run id: config} of that grid."""
    module, config = experiment.load_experiment(str(EXPERIMENT))
    axes, depths = grid.axes_of(module, config), grid.axes_of_options([DEPTHS], config)
    return grid.expand(config, grid.select_axes(axes, "shortcut", runs // NETWORKS, added=depths))


def write_grid(workdir: Path, runs: int) -> None:
    """The directories of runs that are done; what does not depend on the config is linked."""
    workdir.mkdir(parents=True, exist_ok=True)
    _, config = experiment.load_experiment(str(EXPERIMENT))
    config.model.update({"depth": 8, "width": 2})
    with tempfile.TemporaryDirectory(dir=workdir.parent) as directory:
        real = Path(directory, "run")
        train_and_evaluate(config, real)
        rewritten = shutil.ignore_patterns("config.json")
        manifest, result = (disk.read_json(real / f"{n}.json") for n in ("manifest", "result"))
        lines, chance = rundir.read_metrics(real), random.Random(0)
        for name, own in configs_of_grid(runs).items():
            target = workdir / name
            shutil.copytree(real, target, copy_function=os.link, ignore=rewritten)
            (target / "result.json").unlink()
            factor = chance.uniform(0.5, 1.0) * own.model.depth / 56
            rundir.begin_run(target, own)
            disk.write_json(target / "manifest.json", manifest | {"run": run_id(own)})
            disk.write_lines(
                target / "metrics.jsonl", [line | _scaled(line, factor) for line in lines]
            )
            rundir.write_result(target, result | _scaled(result, factor))


def _scaled(values: dict, factor: float) -> dict[str, float]:
    """The errors among some values, so that no two runs have the same."""
    return {key: factor * value for key, value in values.items() if key.endswith("_error")}


def timed(words: list[str]) -> tuple[float, float]:
    """Seconds that a command takes, and those of CPU."""
    before, start = _cpu(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "resjax", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _cpu() - before


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workdir", type=Path, help="keep the grid here, and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        workdir = options.workdir or Path(directory, "grid")
        if not workdir.exists():
            write_grid(workdir, options.runs)
        shutil.rmtree(workdir / "report", ignore_errors=True)
        words = [*of_grid(options.runs), f"--workdir={workdir}"]
        commands = {
            "sweep, which writes the report": ["sweep", *words],
            "sweep --dry-run": ["sweep", *words, "--dry-run"],
            "status": ["status", str(workdir)],
            "sweep, nothing has changed": ["sweep", *words],
        }
        print(f"grid of {options.runs} runs, medians of {options.rounds} processes\n\n"
              "| command | seconds | of CPU |\n|---|---|---|")  # fmt: skip
        for what, command in commands.items():
            rounds = 1 if "writes" in what else options.rounds
            found = zip(*(timed(command) for _ in range(rounds)), strict=True)
            seconds, cpu = map(statistics.median, found)
            print(f"| {what} | {seconds:.1f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
