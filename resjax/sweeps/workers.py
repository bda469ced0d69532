"""Local processes that share the runs of a sweep, each with a GPU or a part of the cores.

Each is the same command with `--jobs=1`: what one has claimed the others leave to it.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from resjax.accelerators import on_tpu_vm, requested_platform, share_of_memory, visible_gpus
from resjax.config import ConfigError
from resjax.interruption import deferred
from resjax.process import CORES, WORKERS, cores
from resjax.runs.plans import Plans
from resjax.runs.rundir import DONE, FAILED, run_state

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

MOST_ON_A_GPU = 16
"""Maximum number of processes that share a GPU and its memory."""

MOST_JOBS = 4
"""Maximum number of processes by default; each takes about a gigabyte of memory."""


def jobs_on_gpus(runs: Mapping[Path, ConfigDict], platform: str | None) -> tuple[int | None, str]:
    """The default number of processes on a machine with several GPUs, and a line about it.

    Each GPU gets a process if there are as many runs. The whole grid counts, and not what is left
    of it: a sweep that is continued then trains each run on as many GPUs as before, with the same
    bits. JAX must not have looked for devices, as it would have taken their memory.

    Returns:
      The number, or None where GPUs do not decide it, and the line to print, if any.
    """
    gpus = len(_gpus(platform))
    chosen = any(config.train.devices > 1 for config in runs.values())
    at_once = max(1, *(config.train.side_by_side for config in runs.values()))
    programs = math.ceil(len(runs) / at_once)
    if min(gpus, programs) < 2 or chosen or all(run_state(run) == DONE for run in runs):
        return None, ""
    if programs < gpus:
        return 1, (
            f"each run trains on all {gpus} GPUs; --jobs={programs} trains {programs} at a time, "
            "each on one GPU"
        )
    return gpus, (
        f"{gpus} processes share the {len(runs)} runs, each on one GPU; --jobs=1 trains each run "
        "on all GPUs"
    )


def jobs_for(runs: Mapping[Path, ConfigDict], plans: Plans) -> int:
    """The default number of processes to share the runs on a CPU; 1 on anything else.

    Results do not depend on it. It is more than one where small networks would leave cores idle,
    and this process has the CPU for itself: no other host, no simulated devices, no cores that it
    was given.
    """
    devices = jax.devices()
    alone = jax.process_count() == len(devices) == 1 and CORES not in os.environ
    waiting = [config for run, config in runs.items() if run_state(run) not in (DONE, FAILED)]
    if devices[0].platform != "cpu" or not alone or len(waiting) < FEWEST_RUNS:
        return 1
    height, width, _ = plans.of(waiting[0]).image_shape
    largest = max(config.train.batch_size for config in waiting) * height * width
    return min(MOST_JOBS, len(cores()) or 1, len(waiting) // 2) if largest <= SMALL_BATCH else 1


def _gpus(platform: str | None) -> list[str]:
    """The GPUs to train on, unless one asks for another platform."""
    return [] if requested_platform(platform) in ("cpu", "tpu") else visible_gpus()


def environments(jobs: int, platform: str | None = None) -> list[dict[str, str]]:
    """The environment of each worker: its GPU, if there are any, or its share of the cores.

    If there are more workers than GPUs, several share a GPU and its memory.

    Args:
      jobs: number of workers.
      platform: platform that they were asked to train on, if any.

    Raises:
      ConfigError: for more jobs than there are cores or GPUs to share, and on a TPU.
    """
    if gpus := _gpus(platform):
        if jobs > MOST_ON_A_GPU * len(gpus):
            most = MOST_ON_A_GPU * len(gpus)
            raise ConfigError(f"--jobs={jobs} and {len(gpus)} GPUs; use --jobs={most} or less")
        dealt = [gpus[number % len(gpus)] for number in range(jobs)]
        return [
            {"CUDA_VISIBLE_DEVICES": gpu} | share_of_memory(1 / dealt.count(gpu)) for gpu in dealt
        ]
    asked = requested_platform(platform)
    if asked == "tpu" or (not asked and on_tpu_vm()):
        raise ConfigError(
            f"--jobs={jobs} and a TPU, which belongs to one process; leave --jobs out to train "
            "each run on all its chips, or add --platform=cpu"
        )
    if not (own := cores()):
        return [{}] * jobs
    if jobs > len(own):
        raise ConfigError(f"--jobs={jobs} and {len(own)} cores; use --jobs={len(own)} or less")
    share = len(own) // jobs
    return [{CORES: ",".join(map(str, own[n * share : (n + 1) * share]))} for n in range(jobs)]


def run_workers(
    arguments: list[str], variables: list[dict[str, str]], logs: Path, report: Callable[[], None]
) -> list[int]:
    """Runs the command once for each environment, at the same time; returns the exit codes.

    What they print goes to `logs/worker0.log` and so on. A signal is handed on to them, and they
    leave as they would alone; so they do if an error ends this function.

    Args:
      arguments: arguments of the command.
      variables: environment variables of each worker, besides those of this process.
      logs: directory that exists.
      report: called a few times a second.
    """
    with contextlib.ExitStack() as stack:
        request = stack.enter_context(deferred())
        request.patience = 1e6  # theirs is what counts
        workers: list[subprocess.Popen] = []
        asked = False
        try:
            for number, own in enumerate(variables):
                log = stack.enter_context((logs / f"worker{number}.log").open("wb"))
                workers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "resjax", *arguments],
                        env=os.environ | {WORKERS: str(len(variables))} | own,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C is handed on once
                    )
                )
            while any(worker.poll() is None for worker in workers):
                if request() and not asked:
                    asked = True
                    _ask_to_leave(workers)
                report()
                time.sleep(POLL)
        except BaseException:
            if not asked:  # a second signal would end them before they have saved
                _ask_to_leave(workers)
            for worker in workers:
                worker.wait()
            raise
    return [worker.returncode for worker in workers]


def _ask_to_leave(workers: list[subprocess.Popen]) -> None:
    for worker in workers:
        worker.send_signal(signal.SIGTERM)  # nothing to one that has ended
