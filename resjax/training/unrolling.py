"""Choice between straight-line code and loops for the equal blocks of a network, by time saved.

A loop compiles in the same time whatever the number of blocks, but copies what the gradient needs
to stacked arrays and back; straight-line code compiles longer and takes shorter steps.
"""

import dataclasses

from resjax.models.networks import Spec
from resjax.models.resnet import EVERY_BLOCK
from resjax.ops import native
from resjax.ops.platform import platform


@dataclasses.dataclass(frozen=True)
class Costs:
    """Seconds that loops and straight-line code take on a platform, to compile and in a step.

    Attributes:
      loops: seconds to compile the loops of a training step, beyond the straight-line code it needs
        as well.
      block: seconds to compile one block of straight-line code.
      share: fraction of a step with loops that straight-line code saves.
      speed: multiply-adds of a training step in a second, of narrow networks.
      most: maximum number of blocks that become straight-line code.
    """

    loops: float
    block: float
    share: float
    speed: float
    most: int


COSTS = {
    # 2 cores of an AMD EPYC, ResNets of width 8 on 8x8 images, 56 to 218 layers.
    "cpu": Costs(loops=2.3, block=0.06, share=0.2, speed=3e10, most=128),
    # An NVIDIA H200, ResNet-20 and 56 in straight lines and 110 in loops, on 32x32 images. In
    # straight lines, more than the 24 equal blocks of ResNet-56 were not measured.
    "gpu": Costs(loops=0.4, block=0.2, share=0.26, speed=6e12, most=64),
}


def choose_unrolling(spec: Spec, size: tuple[int, int], batch_size: int, steps: int) -> int | None:
    """Blocks in one iteration of a loop, for a number of steps on images of a size; see `Stage`.

    For one platform, with or without a compiler, it depends on the arguments alone, so that a
    resumed run is the same program. Where nothing was measured, and on a CPU where native kernels
    cannot be built, it is None.
    """
    costs = COSTS.get(platform())
    if costs is None or (platform() == "cpu" and not native.can_be_built()):
        return None
    blocks = sum(spec.stages) - len(spec.stages)
    longer = blocks * costs.block - costs.loops
    step = 3 * batch_size * multiply_adds_of_blocks(spec, size) / costs.speed
    straight = blocks <= costs.most and longer < steps * step * costs.share
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
