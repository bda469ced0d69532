"""Local processes that share the runs of a sweep, one for each GPU or part of the cores.

Each is the same command with `--jobs=1`: what one has claimed the others leave to it.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from resjax.accelerators import on_tpu_vm, requested_platform, visible_gpus
from resjax.config import ConfigError
from resjax.interruption import deferred
from resjax.process import CORES
from resjax.runs.rundir import DONE, FAILED, run_state
from resjax.training.plans import Plans

POLL = 0.2
"""Seconds between two checks of the processes."""


SMALL_BATCH = 1 << 15
"""Pixels of a batch up to which a run per core is faster than one run on all cores.

The default sweep, 4,096 pixels in a batch, takes 0.8 of the time on two cores
(`python -m tests.benchmarks.launcher --only=jobs`). A batch of ResNet-20 on CIFAR-10 has 131,072,
and keeps two cores busy.
"""

FEWEST_RUNS = 4
"""Minimum number of runs for which starting a second process pays off."""

MOST_JOBS = 4
"""Maximum number of processes by default; each takes about a gigabyte of memory."""


def jobs_for(runs: Mapping[Path, ConfigDict], plans: Plans) -> int:
    """The default number of processes to share the runs; results do not depend on it.

    It is more than one where small networks would leave cores of a CPU idle, and this process has
    the CPU for itself: no other host, no simulated devices, no cores that it was given.
    """
    devices = jax.devices()
    alone = jax.process_count() == len(devices) == 1 and CORES not in os.environ
    waiting = [config for run, config in runs.items() if run_state(run) not in (DONE, FAILED)]
    if devices[0].platform != "cpu" or not alone or len(waiting) < FEWEST_RUNS:
        return 1
    height, width, _ = plans.of(waiting[0]).image_shape
    largest = max(config.train.batch_size for config in waiting) * height * width
    return min(MOST_JOBS, len(_cores()), len(waiting) // 2) if largest <= SMALL_BATCH else 1


def _cores() -> list[int]:
    """The cores that this process may use, where that is known."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def environments(jobs: int, platform: str | None = None) -> list[dict[str, str]]:
    """The environment of each worker: its GPU, if there are any, or its share of the cores.

    Args:
      jobs: number of workers.
      platform: platform that they were asked to train on, if any.

    Raises:
      ConfigError: for more jobs than there are GPUs, or cores, and on a TPU.
    """
    asked = requested_platform(platform)
    if gpus := [] if asked in ("cpu", "tpu") else visible_gpus():
        if jobs > len(gpus):
            raise ConfigError(f"--jobs={jobs} and {len(gpus)} GPUs; use --jobs={len(gpus)} or less")
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus[:jobs]]
    if asked == "tpu" or (not asked and on_tpu_vm()):
        raise ConfigError(
            f"--jobs={jobs} and a TPU, which belongs to one process; leave --jobs out to train "
            "each run on all its chips, or add --platform=cpu"
        )
    cores = _cores()
    if not hasattr(os, "sched_getaffinity"):
        return [{}] * jobs
    if jobs > len(cores):
        raise ConfigError(f"--jobs={jobs} and {len(cores)} cores; use --jobs={len(cores)} or less")
    share = len(cores) // jobs
    return [{CORES: ",".join(map(str, cores[n * share : (n + 1) * share]))} for n in range(jobs)]


def run_workers(
    arguments: list[str], variables: list[dict[str, str]], logs: Path, report: Callable[[], None]
) -> list[int]:
    """Runs the command once for each environment, at the same time; returns the exit codes.

    What they print goes to `logs/worker0.log` and so on. A signal is handed on to them, and they
    leave as they would alone.

    Args:
      arguments: arguments of the command.
      variables: environment variables of each worker, besides those of this process.
      logs: directory that exists.
      report: called a few times a second.
    """
    with contextlib.ExitStack() as stack:
        request = stack.enter_context(deferred())
        request.patience = 1e6  # theirs is what counts
        workers = []
        for number, own in enumerate(variables):
            log = stack.enter_context((logs / f"worker{number}.log").open("wb"))
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "resjax", *arguments],
                    env=os.environ | own,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C is handed on once
                )
            )
        asked = False
        while any(worker.poll() is None for worker in workers):
            if request() and not asked:
                asked = True
                for worker in workers:
                    with contextlib.suppress(ProcessLookupError):
                        worker.send_signal(signal.SIGTERM)
            report()
            time.sleep(POLL)
    return [worker.returncode for worker in workers]
