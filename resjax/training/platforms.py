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
      measured: the device and the day of the measurement; None if the choices are guesses.
    """

    steps_per_call: int
    side_by_side: int
    measured: str | None


PLATFORMS = {
    # Eight runs of ResNet-20 on 32x32 have 0.6 to 0.8 of the speed of one after another, those of
    # ResNet-8 on digits 1.5 (tests/benchmarks/seeds.py). A CPU is its own host.
    "cpu": Choices(steps_per_call=1, side_by_side=1,
                   measured="2 cores of an AMD EPYC, 2026-11-23"),
    # ResNet-20 on 32x32, images/s: 34,900, 48,100, 56,600 and 57,700 by 1, 5, 20 and 100 steps in a
    # call. Eight runs of it have 2.0 times the speed of one after another in float32, 2.8 in
    # bfloat16 (tests/benchmarks/accelerator.py).
    "gpu": Choices(steps_per_call=20, side_by_side=8,
                   measured="NVIDIA H200, 2026-11-28"),
    # Accelerators would wait for the host between short steps. By the compiler for a v5e, eight
    # runs take as many cycles side by side as one after another (tests/benchmarks/compiled.py).
    "tpu": Choices(steps_per_call=20, side_by_side=1, measured=None),
}  # fmt: skip

MOST_CHANNELS, MOST_BLOCKS, MOST_PIXELS = 64, 64, 128 * 32 * 32
"""Maximum numbers of channels and blocks of a network, and of pixels of a batch, for training side
by side unless a config asks for it. Larger ones fill a device and its memory on their own."""

OTHERS = Choices(steps_per_call=1, side_by_side=1, measured=None)
"""Choices for a platform that is not in the table."""


def choices() -> Choices:
    """Choices for the platform that programs are traced for."""
    return PLATFORMS.get(platform(), OTHERS)
