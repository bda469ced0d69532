"""Defaults by platform for what a config leaves open, and the measurements behind them."""

import dataclasses

from resjax.ops.platform import platform


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values of keys that affect the time of a run but not its result.

    Attributes:
      steps_per_call: training steps in one compiled call, for `train.steps_per_call=0` and resident
        images. A call with streamed ones would hold those of all its steps, so it is one step.
      side_by_side: runs in one program that differ only in their seed, for `train.side_by_side=0`.
      unroll: blocks in one iteration of a loop, for `model.unroll=auto`; None leaves it to the
        network, as `resjax.models.resnet.Stage` does, or, on a CPU, to `resjax.training.unrolling`.
      measured: the device and the day of the measurement; None if the choices are guesses.
    """

    steps_per_call: int
    side_by_side: int
    unroll: int | None
    measured: str | None


PLATFORMS = {
    # Eight runs of ResNet-20 on 32x32 have 0.6 to 0.8 of the speed of one after another, those of
    # ResNet-8 on digits 1.5 (tests/benchmarks/seeds.py). A CPU is its own host.
    "cpu": Choices(steps_per_call=1, side_by_side=1, unroll=None,
                   measured="2 cores of an AMD EPYC, 2026-11-23"),
    # Accelerators would wait for the host between short steps; tests/benchmarks/accelerator.py.
    "gpu": Choices(steps_per_call=20, side_by_side=1, unroll=None, measured=None),
    "tpu": Choices(steps_per_call=20, side_by_side=1, unroll=None, measured=None),
}  # fmt: skip

OTHERS = Choices(steps_per_call=1, side_by_side=1, unroll=None, measured=None)
"""Choices for a platform that is not in the table."""


def choices() -> Choices:
    """Choices for the platform that programs are traced for."""
    return PLATFORMS.get(platform(), OTHERS)
