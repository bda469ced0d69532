"""Estimates of what the runs of a grid will cost, before any is trained."""

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from ml_collections import ConfigDict

from resjax.runs.plans import Plans, kind_of
from resjax.runs.status import Status
from resjax.training.benchmark import PASSES
from resjax.training.plan import Plan
from resjax.training.roofline import estimate

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one run.

    Attributes:
      params: number of parameters.
      multiply_adds: multiply-adds of a forward pass of one image.
      total: multiply-adds of the whole training, forward and backward.
    """

    params: int
    multiply_adds: int
    total: float


def work_of(runs: Mapping[Path, ConfigDict], plans: Plans | None = None) -> dict[Path, Work]:
    """The work of each run; runs that differ only in their seed have the same.

    Args:
      runs: {directory: config}.
      plans: those that are made already.

    Raises:
      ConfigError: for a config that cannot be run.
    """

    def compute(plan: Plan) -> Work:
        params, multiply_adds = plan.sizes
        images = plan.marks[-1] * plan.config.train.batch_size
        return Work(params, multiply_adds, float(PASSES * multiply_adds * images))

    return _by_kind(runs, compute, plans or Plans())


def total_work(runs: Mapping[Path, ConfigDict], plans: Plans) -> dict[Path, float]:
    """The multiply-adds of the whole training of each run, as `work_of` tells them."""
    return {directory: own.total for directory, own in work_of(runs, plans).items()}


def seconds_of(statuses: Iterable[Status], work: Mapping[Path, Work]) -> dict[Path, float | None]:
    """Seconds that each run takes, at the median speed of finished ones; None without any.

    Runs that are done have their own.
    """
    done = {s.directory: s.seconds for s in statuses if s.seconds}
    speeds = [work[directory].total / seconds for directory, seconds in done.items()]
    speed = statistics.median(speeds) if speeds else None
    return {
        directory: done.get(directory, own.total / speed if speed else None)
        for directory, own in work.items()
    }


def seconds_on(runs: Mapping[Path, ConfigDict], device: str) -> dict[Path, float]:
    """Seconds of the training steps of each run on a device that is not available here.

    Raises:
      ConfigError: for an unknown device.
    """

    def compute(plan: Plan) -> float:
        return plan.marks[-1] * estimate(plan, device).step_seconds

    return _by_kind(runs, compute, Plans())


def _by_kind(
    runs: Mapping[Path, ConfigDict], compute: Callable[[Plan], Value], plans: Plans
) -> dict[Path, Value]:
    """Computes a value of each run's plan, once for all that differ only in their seed."""
    kinds: dict[str, Value] = {}
    found = {}
    for directory, config in runs.items():
        kind = kind_of(config)
        if kind not in kinds:
            kinds[kind] = compute(plans.of(config))
        found[directory] = kinds[kind]
    return found
