"""The names of a residual network's tensors in other codebases, and their layouts.

There is one table for each, read in both directions: `places` pairs every tensor of a network, by
the name that it has there, with a leaf of our tree of variables or a row of one.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from resjax.config import ConfigError
from resjax.models.resnet import STACKED

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
          "var": "running_var"}  # fmt: skip

BATCHES = "num_batches_tracked"
"""Counter that PyTorch stores beside running statistics and does not use in evaluation."""

Modules = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Naming:
    """The naming scheme of one codebase.

    In the names of modules in blocks, {stage} and {layer} count from 1, and {stage0}, {layer0} and
    {block} from 0.

    Attributes:
      family: key of `resjax.models.networks.FAMILIES`, the family of its networks.
      stems: {key of STEMS: (names of the layers, names of the normalisations)}.
      layer, norm: names of a layer and of its normalisation in the residual branch of a block.
      shortcuts: {key of SHORTCUTS: (name of the projection, that of its normalisation)}.
      head: name of the dense layer.
      head_axes: number of axes of its weight; 4 for a convolution of 1x1.
      last: name of the normalisation ahead of the head; empty if there is none.
      settings: keys of config.model that all of its networks share.
      standardise: key of `resjax.data.statistics.STATISTICS`, of most of its networks.
      interpolation: key of `resjax.data.transforms.INTERPOLATIONS`, of most of its networks.
      unprojected: keys of config.model of a network without any projection; empty if it has no
        such network.
    """

    family: str
    stems: Mapping[str, tuple[Modules, Modules]]
    layer: str
    norm: str
    shortcuts: Mapping[str, tuple[str, str]]
    head: str
    head_axes: int = 2
    last: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unprojected: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    standardise: str = "imagenet"
    interpolation: str = "bilinear"


def in_block(template: str, stage: int, block: int, layer: int = 1) -> str:
    """The name of a module in a block; stage and layer count from 1, blocks from 0."""
    return template.format(
        stage=stage, stage0=stage - 1, block=block, layer=layer, layer0=layer - 1
    )


_TORCHVISION = Naming(
    family="imagenet",
    stems={"imagenet": (("conv1",), ("bn1",))},
    layer="layer{stage}.{block}.conv{layer}",
    norm="layer{stage}.{block}.bn{layer}",
    shortcuts={
        "projection": ("layer{stage}.{block}.downsample.0", "layer{stage}.{block}.downsample.1")
    },
    head="fc",
)

_TIMM_V2 = Naming(
    family="imagenet",
    stems={"imagenet": (("stem.conv",), ())},
    layer="stages.{stage0}.blocks.{block}.conv{layer}",
    norm="stages.{stage0}.blocks.{block}.norm{layer}",
    shortcuts={"projection": ("stages.{stage0}.blocks.{block}.downsample.conv", "")},
    head="head.fc",
    head_axes=4,
    last="norm",
    settings={"order": "preact", "opening": "block"},
    standardise="half",
)


def _transformers(prefix: str) -> Naming:
    """The names of transformers, all of which begin with a prefix but that of the head."""
    stem = f"{prefix}embedder.embedder"
    block = f"{prefix}encoder.stages.{{stage0}}.layers.{{block}}"
    return Naming(
        family="imagenet",
        stems={"imagenet": ((f"{stem}.convolution",), (f"{stem}.normalization",))},
        layer=f"{block}.layer.{{layer0}}.convolution",
        norm=f"{block}.layer.{{layer0}}.normalization",
        shortcuts={
            "projection": (f"{block}.shortcut.convolution", f"{block}.shortcut.normalization")
        },
        head="classifier.1",
        interpolation="bicubic",
    )


NAMINGS: dict[str, Naming] = {
    "torchvision": _TORCHVISION,
    # The names of torchvision, and more for the networks that only timm has.
    "timm": dataclasses.replace(
        _TORCHVISION,
        stems=_TORCHVISION.stems
        | {"deep": (("conv1.0", "conv1.3", "conv1.6"), ("conv1.1", "conv1.4", "bn1"))},
        shortcuts=_TORCHVISION.shortcuts
        | {
            "avgpool_projection": (
                "layer{stage}.{block}.downsample.1",
                "layer{stage}.{block}.downsample.2",
            )
        },
    ),
    "timm-v2": _TIMM_V2,
    # A pool in the shortcut has no tensor to be seen by; in timm it goes with the deep stem.
    "timm-v2d": dataclasses.replace(
        _TIMM_V2,
        stems={"deep": (("stem.conv1", "stem.conv2", "stem.conv3"), ("stem.norm1", "stem.norm2"))},
        shortcuts={"avgpool_projection": _TIMM_V2.shortcuts["projection"]},
    ),
    "transformers": _transformers("resnet."),
    "transformers-backbone": _transformers(""),
    "akamaster": Naming(
        family="cifar",
        stems={"small": (("conv1",), ("bn1",))},
        layer="layer{stage}.{block}.conv{layer}",
        norm="layer{stage}.{block}.bn{layer}",
        shortcuts={
            "projection": ("layer{stage}.{block}.shortcut.0", "layer{stage}.{block}.shortcut.1")
        },
        head="linear",
        unprojected={"shortcut": "identity", "identity_pad": "both"},
    ),
}


class Place(NamedTuple):
    """The place of another codebase's tensor among our variables, and its shape there.

    Attributes:
      path: path of a leaf of our variables.
      row: row of that leaf that the tensor is; None is all of it.
      shape: shape of the tensor in the other codebase.
      axes: number of axes of the tensor in our layout.
    """

    path: str
    row: int | None
    shape: tuple[int, ...]
    axes: int


def places(
    naming: Naming, stem: str, shortcut: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Place]:
    """Returns {name in a codebase: place} for every leaf of a network.

    Args:
      naming: names of the codebase.
      stem: key of STEMS.
      shortcut: key of SHORTCUTS.
      shapes: {path: shape} of our leaves.

    Raises:
      ConfigError: for a leaf that the codebase has no name for.
    """
    found = {}
    for path, shape in shapes.items():
        rows = range(shape[0]) if STACKED in path.split("/") else [None]
        for row in rows:
            own = shape if row is None else shape[1:]
            name = _name(naming, stem, shortcut, path, row)
            found[name] = Place(path, row, _their_shape(own, naming.head_axes), len(own))
    return found


def to_ours(tensor: np.ndarray, axes: int) -> np.ndarray:
    """Converts a tensor to our layout: `[O, I, H, W]` to `[H, W, I, O]`, `[O, I]` to `[I, O]`."""
    if axes == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.reshape(tensor.shape[:axes]).T


def to_theirs(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Converts a leaf to the layout and the shape of another codebase; the inverse of `to_ours`."""
    axes = (3, 2, 0, 1) if leaf.ndim == 4 else None
    return np.ascontiguousarray(leaf.transpose(axes)).reshape(shape)


def _their_shape(shape: tuple[int, ...], head_axes: int) -> tuple[int, ...]:
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        return (outputs, inputs, height, width)
    return (*shape[::-1], *[1] * (head_axes - 2)) if len(shape) == 2 else shape


def _name(naming: Naming, stem: str, shortcut: str, path: str, row: int | None) -> str:
    kind, *modules, leaf = path.split("/")
    try:
        module = _module(naming, stem, shortcut, modules, 0 if row is None else row + 1)
        if not module:
            raise KeyError
        return f"{module}.{LEAVES[leaf]}"
    except (KeyError, IndexError):
        raise ConfigError(
            f"{kind}/{'/'.join(modules)}/{leaf} of the network has no name there; choose other "
            "names, or write StableHLO"
        ) from None


def _module(naming: Naming, stem: str, shortcut: str, modules: list[str], block: int) -> str:
    first, *inner = modules
    if first == "stem":
        what, number = _numbered(inner[0])
        return naming.stems[stem][("conv", "norm").index(what)][number - 1]
    if first == "head":
        return naming.head
    if first == "norm":
        return naming.last
    stage = int(first.removeprefix("stage"))
    _, *inner = inner
    if inner[0] == "shortcut":
        template = naming.shortcuts[shortcut][("projection", "norm").index(inner[1])]
        return in_block(template, stage, block)
    what, number = _numbered(inner[0])
    return in_block({"conv": naming.layer, "norm": naming.norm}[what], stage, block, number)


def _numbered(name: str) -> tuple[str, int]:
    """Splits a name such as conv2 into its word and its number."""
    match = re.fullmatch(r"([a-z]+)([0-9]+)", name)
    if not match:
        raise KeyError(name)
    return match[1], int(match[2])
