"""Choice between straight-line code and loops for the equal blocks of a network, by time saved.

A loop compiles in the same time whatever the number of blocks, but copies what the gradient needs
to stacked arrays and back; straight-line code compiles longer and takes shorter steps.
"""

from resjax.models.networks import Spec
from resjax.models.resnet import EVERY_BLOCK
from resjax.ops import native
from resjax.ops.platform import platform
from resjax.training.platforms import choices

# Measured on 2 cores of an AMD EPYC, ResNets of width 8 on 8x8 images, 56 to 218 layers.
SECONDS_OF_LOOPS = 2.3
"""Seconds to compile the loops of a training step, beyond the straight-line code it needs as
well."""

SECONDS_OF_A_BLOCK = 0.06
"""Seconds to compile one block of straight-line code."""

SHARE_OF_A_STEP = 0.2
"""Fraction of a step with loops that straight-line code saves."""

MULTIPLY_ADDS_PER_SECOND = 3e10
"""Speed of a training step."""

MOST_BLOCKS = 128
"""Maximum number of blocks that become straight-line code; more were not measured."""


def choose_unrolling(spec: Spec, size: tuple[int, int], batch_size: int, steps: int) -> int | None:
    """Blocks in one iteration of a loop, for a number of steps on images of a size; see `Stage`.

    For one platform, with or without a compiler, it depends on the arguments alone, so that a
    resumed run is the same program. On accelerators, and where native kernels cannot be built, it
    is the platform's choice.
    """
    if platform() != "cpu" or not native.can_be_built():
        return choices().unroll
    blocks = sum(spec.stages) - len(spec.stages)
    longer = blocks * SECONDS_OF_A_BLOCK - SECONDS_OF_LOOPS
    step = 3 * batch_size * multiply_adds_of_blocks(spec, size) / MULTIPLY_ADDS_PER_SECOND
    straight = blocks <= MOST_BLOCKS and longer < steps * step * SHARE_OF_A_STEP
    return EVERY_BLOCK if straight else 1


def multiply_adds_of_blocks(spec: Spec, size: tuple[int, int]) -> int:
    """Multiply-adds of a forward pass of one image in the residual branches of all equal blocks.

    >>> from resjax.models.networks import cifar
    >>> multiply_adds_of_blocks(cifar(20), (32, 32))
    28311552
    """
    total = 0
    for stage, blocks in enumerate(spec.stages):
        pixels, before = spec.pixels(stage, size), spec.output(stage)
        for layer in spec.branch(stage, False, None):
            weights = layer.size**2 * before * layer.channels // layer.groups
            total += (blocks - 1) * weights * pixels
            before = layer.channels
    return total
