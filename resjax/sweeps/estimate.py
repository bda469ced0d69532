"""What the runs of a grid will take, before any of them is trained."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from resjax.config import flatten
from resjax.models.summary import sizes
from resjax.sweeps.status import Status
from resjax.training.benchmark import PASSES
from resjax.training.plan import prepare
from resjax.training.programs import by_value


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one run.

    Attributes:
      params: number of parameters.
      multiply_adds: of a forward pass of one image.
      total: multiply-adds of the whole training, forward and backward.
    """

    params: int
    multiply_adds: int
    total: float


def work_of(runs: Mapping[Path, ConfigDict]) -> dict[Path, Work]:
    """The work of each run; those that differ in their seed alone have the same.

    A network is counted once, whatever else its runs differ in.

    Raises:
      ConfigError: for a config that cannot be run.
    """
    kinds: dict[str, Work] = {}
    counted: dict[tuple, tuple[int, int]] = {}
    work = {}
    for directory, config in runs.items():
        kind = json.dumps(flatten(config) | {"seed": 0}, sort_keys=True)
        if kind not in kinds:
            plan = prepare(config)
            network = by_value(plan.model), plan.image_shape
            if network not in counted:
                counted[network] = sizes(plan.model, plan.image_shape)
            params, multiply_adds = counted[network]
            images = plan.marks[-1] * config.train.batch_size
            kinds[kind] = Work(params, multiply_adds, float(PASSES * multiply_adds * images))
        work[directory] = kinds[kind]
    return work


def seconds_of(statuses: Iterable[Status], work: Mapping[Path, Work]) -> dict[Path, float | None]:
    """Seconds that each run takes, from the median speed of those that are done; None unless any.

    Runs that are done have their own.
    """
    done = {s.directory: s.seconds for s in statuses if s.seconds}
    speeds = [work[directory].total / seconds for directory, seconds in done.items()]
    speed = statistics.median(speeds) if speeds else None
    return {
        directory: done.get(directory, own.total / speed if speed else None)
        for directory, own in work.items()
    }
