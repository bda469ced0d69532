"""What the launchers of a sweep cost a run, and what two of them at once save.

    python -m tests.benchmarks.launcher [--runs=8] [--only=local,ray,jobs]

Local: the seconds of a sweep in this process less those of compiling, training and evaluating, for
each run; the first run, which is not counted, compiles. Ray (extra `ray`): the seconds that a sweep
takes longer for each further run, one after another on this machine, less those of a new process
that does nothing but such a run; and what a sweep takes before and after its runs. Jobs: the
default sweep with `--jobs=2` and without, nothing compiled.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ml_collections import ConfigDict

from resjax.config import default_config
from resjax.process import enable_cache
from resjax.runs import rundir
from resjax.runs.loop import train_and_evaluate
from resjax.sweeps import local

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"


class Silent:
    """An observer that tells nobody."""

    def __getattr__(self, name):
        return lambda *_: None


def config_of(seed: int) -> ConfigDict:
    """A run of a few seconds, which needs all cores of a Ray."""
    config = default_config()
    config.update_from_flattened_dict(
        {
            "seed": seed, "model.depth": 8, "model.width": 4, "train.duration": "5 epochs",
            "eval.every": "1 epoch", "resources.cpus": float(os.cpu_count()),
        }
    )  # fmt: skip
    return config


def seconds_of_local(workdir: Path, runs: int) -> float:
    """Of a run, without compiling, training and evaluating."""
    train_and_evaluate(config_of(runs), workdir / "first")
    grid = {workdir / str(seed): config_of(seed) for seed in range(runs)}
    local.check(grid)
    start = time.perf_counter()
    outcomes = local.run_sweep(grid, Silent())
    took = time.perf_counter() - start
    return (took - sum(sum(o.summary.seconds.values()) for o in outcomes)) / runs


def seconds_of_ray(workdir: Path, runs: int) -> tuple[float, float]:
    """Of a further run without those of a process that trains it, and of a sweep of none."""
    from resjax.sweeps.ray.cluster import cluster
    from resjax.sweeps.ray.driver import run_on_cluster

    alone = []
    for number in range(3):
        start = time.perf_counter()
        words = [sys.executable, "-m", __spec__.name, "--one", str(workdir / f"one{number}")]
        subprocess.run(words, check=True)
        alone.append(time.perf_counter() - start)
    took = {}
    for number in (1, 1 + runs):
        grid = {workdir / f"{number}/{seed}": config_of(seed) for seed in range(number)}
        start = time.perf_counter()
        with cluster(None):
            run_on_cluster(grid, Silent())
        took[number] = time.perf_counter() - start
        assert all(rundir.run_state(directory) == rundir.DONE for directory in grid)
    further = (took[1 + runs] - took[1]) / runs
    return further - statistics.median(alone), took[1] - further


def seconds_of_sweep(home: Path, *words: str) -> float:
    """Of the default sweep with one seed, with nothing compiled."""
    command = [sys.executable, "-m", "resjax", "sweep", f"--config={EXPERIMENT}",
               "--seeds=1", f"--workdir={home / 'runs'}", *words]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(home / "cache")}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--only", default="local,ray,jobs")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    enable_cache()
    if options.one:
        train_and_evaluate(config_of(0), options.one)
        return
    chosen = options.only.split(",")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        print("| launcher | seconds |\n|---|---|")
        if "local" in chosen:
            found = seconds_of_local(place / "local", options.runs)
            print(f"| local, of a run | {found:.2f} |", flush=True)
        if "ray" in chosen:
            run, sweep = seconds_of_ray(place / "ray", options.runs)
            print(f"| Ray, of a run beyond its process | {run:.2f} |")
            print(f"| Ray, of a sweep beside its runs | {sweep:.1f} |", flush=True)
        if "jobs" in chosen:
            one = seconds_of_sweep(place / "one")
            print(f"| default sweep, one after another | {one:.1f} |", flush=True)
            two = seconds_of_sweep(place / "two", "--jobs=2")
            print(f"| default sweep, --jobs=2 | {two:.1f} ({two / one:.2f}) |")


if __name__ == "__main__":
    main()
