"""The networks of the papers as data: families of networks by their depth."""

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable

from resjax.config.tables import Table
from resjax.models.layers import Layer


@dataclasses.dataclass(frozen=True)
class Stem:
    """The layers before the first block.

    Attributes:
      layers: weighted layers.
      pool: whether a 3x3 max-pool of stride 2 follows.
      flatten: whether images become vectors first, for fully connected layers.
    """

    layers: tuple[Layer, ...]
    pool: bool = False
    flatten: bool = False


STEMS = Table(
    "model.stem",
    {
        "imagenet": lambda c: Stem((Layer(c, 7, 2),), pool=True),
        "deep": lambda c: Stem((Layer(c // 2, 3, 2), Layer(c // 2, 3), Layer(c, 3)), pool=True),
        "small": lambda c: Stem((Layer(c, 3),)),
        "dense": lambda c: Stem((Layer(c),), flatten=True),
    },
)
"""Stems by name, as functions of the number of their output channels."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """One layer of a block's branch, relative to the block.

    Attributes:
      size: side of the kernel.
      inner: whether it has the block's inner channels, and not those of its output.
      grouped: whether it is divided into the network's groups.
    """

    size: int
    inner: bool = False
    grouped: bool = False


@dataclasses.dataclass(frozen=True)
class BlockKind:
    """The branch of a block.

    Attributes:
      units: the layers of the branch.
      expansion: ratio of the output's channels to those of the stage.
    """

    units: tuple[Unit, ...]
    expansion: int = 1


BLOCKS = Table(
    "model.block",
    {
        "single": BlockKind((Unit(3),)),  # He et al. 2016, table 3
        "basic": BlockKind((Unit(3), Unit(3))),  # He et al. 2015, figure 5 left
        "bottleneck": BlockKind(  # He et al. 2015, figure 5 right
            (Unit(1, inner=True), Unit(3, inner=True, grouped=True), Unit(1)), expansion=4
        ),
    },
)


@dataclasses.dataclass(frozen=True)
class Spec:
    """A network as data.

    Attributes:
      stages: blocks in each stage.
      channels: channels of each stage, before the block's expansion.
      strides: the stride of each stage's first block.
      block: key of `BLOCKS`.
      stem: key of `STEMS`.
      stem_channels: channels that the stem ends with.
      groups: number of groups of the grouped layers (ResNeXt).
      bottleneck_width: ratio of the inner channels to those of the stage (wide nets, ResNeXt).
      stride_in: "3x3" or "1x1", the layer of a bottleneck that has the stride: the second, as in
        torchvision (v1.5), or the first, as in the paper.
      opening: "stem" or "block", where a pre-activation net first normalises and activates: after
        the last layer of its stem, ahead of the pool (He et al. 2016, appendix), or in the first
        block, like in any other (timm).
    """

    stages: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    block: str
    stem: str
    stem_channels: int
    groups: int = 1
    bottleneck_width: float = 1.0
    stride_in: str = "3x3"
    opening: str = "stem"

    @property
    def depth(self) -> int:
        """Weighted layers from input to output, as the papers count them."""
        return self.branch_depth * sum(self.stages) + len(self.stem_layers.layers) + 1

    @property
    def branch_depth(self) -> int:
        """Weighted layers in the branch of a block."""
        return len(BLOCKS[self.block].units)

    @property
    def stem_layers(self) -> Stem:
        """The layers before the first block."""
        return STEMS[self.stem](self.stem_channels)

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Total stride up to each stage's output, in pixels of the input along a side."""
        stem = self.stem_layers
        before = math.prod(layer.stride for layer in stem.layers) * (2 if stem.pool else 1)
        return tuple(itertools.accumulate(self.strides, operator.mul, initial=before))[1:]

    @property
    def total_stride(self) -> int:
        """Total stride up to the last stage's output, in pixels of the input along a side."""
        return self.stage_strides[-1]

    def pixels(self, stage: int, size: tuple[int, int]) -> int:
        """Number of pixels in a map of a stage, for images of height and width `size`."""
        if self.stem_layers.flatten:
            return 1
        return math.prod(-(-side // self.stage_strides[stage]) for side in size)

    def branch(self, stage: int, first: bool, gains: tuple[float, ...] | None) -> tuple[Layer, ...]:
        """The layers of a block: the first one of a stage, or one of the rest."""
        strided = 1 if self.block == "bottleneck" and self.stride_in == "3x3" else 0
        return tuple(
            Layer(
                channels=self.inner(stage) if unit.inner else self.output(stage),
                size=1 if self.stem == "dense" else unit.size,
                stride=self.strides[stage] if first and place == strided else 1,
                groups=self.groups if unit.grouped else 1,
                gain=gains[place] if gains else 1.0,
            )
            for place, unit in enumerate(BLOCKS[self.block].units)
        )

    def output(self, stage: int) -> int:
        """Channels of the output of a stage's blocks."""
        return BLOCKS[self.block].expansion * self.channels[stage]

    def inner(self, stage: int) -> int:
        """Channels of the inner layers of a stage's blocks."""
        return int(self.channels[stage] * self.bottleneck_width)


def _solve(family: str, depth: int, factor: int, others: int) -> int:
    """The n of a family whose networks have factor * n + others layers.

    Raises:
      ValueError: if there is none, with the nearest depths.
    """
    n, left = divmod(depth - others, factor)
    if left or n < 1:
        known = [factor * more + others for more in (max(1, n), max(1, n) + 1)]
        raise _no_such_depth(family, depth, f"{factor}n+{others}", known)
    return n


def _no_such_depth(family: str, depth: int, rule: str, known: list[int]) -> ValueError:
    nearest = sorted(sorted(known, key=lambda other: (abs(other - depth), other))[:2])
    return ValueError(
        f"{family} depth {depth} is not {rule}; nearest: {', '.join(map(str, nearest))}"
    )


def cifar(depth: int, width: int = 16, block: str = "basic") -> Spec:
    """He et al. 2015, section 4.2: a 3x3 convolution and three stages of n blocks.

    The stages have `width`, 2 `width` and 4 `width` channels on maps of full, half, quarter size.
    There are 6n+2 layers with basic blocks, 9n+2 with bottlenecks, 3n+2 with single layers.

    >>> cifar(56).stages
    (9, 9, 9)
    >>> cifar(57)
    Traceback (most recent call last):
    ValueError: CIFAR depth 57 is not 6n+2; nearest: 56, 62

    Raises:
      ValueError: for another depth, naming the nearest.
    """
    n = _solve("CIFAR", depth, factor=3 * len(BLOCKS[block].units), others=2)
    return Spec((n, n, n), (width, 2 * width, 4 * width), (1, 2, 2), block, "small", width)


IMAGENET_STAGES: dict[int, tuple[tuple[int, ...], str]] = {
    # He et al. 2015, table 1; 200: He et al. 2016, section 5.
    18: ((2, 2, 2, 2), "basic"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
    200: ((3, 24, 36, 3), "bottleneck"),
}


def imagenet(depth: int, width: int = 64, block: str | None = None) -> Spec:
    """He et al. 2015, table 1: a 7x7 convolution, a max-pool and four stages.

    Raises:
      ValueError: for a depth that the table does not have, or with other blocks.
    """
    if depth not in IMAGENET_STAGES:
        known = list(IMAGENET_STAGES)
        raise _no_such_depth("ImageNet", depth, f"one of {', '.join(map(str, known))}", known)
    stages, own = IMAGENET_STAGES[depth]
    if block not in (None, own):
        raise ValueError(f"ImageNet depth {depth} has {own} blocks; leave model.block at 'auto'")
    channels = (width, 2 * width, 4 * width, 8 * width)
    return Spec(stages, channels, (1, 2, 2, 2), own, "imagenet", width)


def wrn(depth: int, width: int = 160, block: str = "basic") -> Spec:
    """Zagoruyko and Komodakis 2016, table 1: a widened CIFAR family of 6n+4 layers.

    Their count includes the projections of the three stages and not the dense layer. `width` is
    that of the first stage, 16 k; the stem always has 16 channels.

    Raises:
      ValueError: for another depth, naming the nearest, or for other blocks.
    """
    if block != "basic":
        raise ValueError(f"WRN has no {block} blocks; use model.name=cifar with a model.width")
    n = _solve("WRN", depth, factor=6, others=4)
    return dataclasses.replace(cifar(6 * n + 2, width, block), stem_channels=16)


def mlp(depth: int, width: int = 256, block: str = "basic") -> Spec:
    """A fully connected network: a dense layer, blocks of equal width, a dense head.

    Layers are h = activation(BN(W x + b)) on flattened images `[N, ...]`, in blocks with any
    shortcut and order. The bias b is left out under a normalisation, which subtracts it (Ioffe and
    Szegedy 2015, section 3.2), unless `model.bias` is "always". There are m n + 2 layers: n blocks
    of m, which is 2 with basic and 1 with single blocks.

    Raises:
      ValueError: for another depth, or bottlenecks.
    """
    if BLOCKS[block].expansion != 1:
        raise ValueError(f"an MLP has no {block} blocks; use model.block=basic or single")
    n = _solve("MLP", depth, factor=len(BLOCKS[block].units), others=2)
    return Spec((n,), (width,), (1,), block, "dense", width)


@dataclasses.dataclass(frozen=True)
class Family:
    """Networks that differ by depth, width and block.

    Attributes:
      spec: makes the spec of a network from depth, width and block, of which the last two are
        optional.
      image_shape, classes: image shape and classes of the data that the family was published on.
    """

    spec: Callable[..., Spec]
    image_shape: tuple[int, int, int]
    classes: int


FAMILIES = Table(
    "model.name",
    {
        "cifar": Family(cifar, (32, 32, 3), 10),
        "imagenet": Family(imagenet, (224, 224, 3), 1000),
        "wrn": Family(wrn, (32, 32, 3), 10),
        "mlp": Family(mlp, (8, 8, 1), 10),
    },
)
