"""Recognition of a network by the names and shapes of its tensors alone."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config
from resjax.interop.names import NAMINGS, Naming, in_block
from resjax.models.networks import BLOCKS, FAMILIES, IMAGENET_STAGES
from resjax.runs.weights import Shapes

READ = "resjax reads ResNets of torchvision, timm and transformers, and akamaster's for CIFAR"


class Recognised(NamedTuple):
    """A network of another codebase.

    Attributes:
      naming: key of `NAMINGS`.
      stem: key of `resjax.models.networks.STEMS`.
      config: config whose `model` and `norm` make the network.
      classes: number of outputs of its head; 0 is a network without one.
      channels: number of channels of its images.
    """

    naming: str
    stem: str
    config: ConfigDict
    classes: int
    channels: int


def recognise(shapes: Shapes, what: str) -> Recognised:
    """Recognises the network that has tensors {name: shape}; `what` is their file, for errors.

    What leaves no trace in names and shapes is as usual: the stride of a bottleneck in its 3x3
    layer (v1.5), relu, and the epsilon and momentum of PyTorch. It does not check whether the
    shapes fit each other.

    Raises:
      ConfigError: if the network is none that resjax has.
    """
    name, stem = _naming(shapes, what)
    naming = NAMINGS[name]

    def shape(module: str, axes: int = 4) -> tuple[int, ...]:
        found = shapes[f"{module}.weight"]
        if len(found) != axes or not all(found):
            raise ConfigError(
                f"{what}: {module!r} has a weight of {found}, not {axes} axes; {READ}"
            )
        return found

    def layer(number: int) -> str:
        return in_block(naming.layer, 1, 0, number)

    kind = "bottleneck" if f"{layer(3)}.weight" in shapes else "basic"
    if f"{layer(2)}.weight" not in shapes:
        raise ConfigError(f"{what} has blocks of one layer; {READ}")
    stages = stages_of(naming, shapes)
    last = shape(layer(len(BLOCKS[kind].units)))
    width = max(1, last[0] // BLOCKS[kind].expansion)

    config = default_config()
    config.norm.unbiased_running_var = True
    model = config.model
    model.update({**naming.settings, **_shortcut(naming, shapes, len(stages), what)})
    model.name = naming.family
    model.depth = _depth(naming.family, stages, kind, what)
    family = FAMILIES[naming.family]
    usual = family.spec(model.depth, block=kind)
    model.block = "auto" if usual == family.spec(model.depth) else kind
    model.stem = "auto" if stem == usual.stem else stem
    model.width = 0 if width == usual.channels[0] else width
    if kind == "bottleneck":
        inner = shape(layer(2))
        model.groups = max(1, inner[0] // inner[1])
        model.bottleneck_width = inner[0] / width
    head = f"{naming.head}.weight" in shapes
    classes = shape(naming.head, naming.head_axes)[0] if head else 0
    return Recognised(name, stem, config, classes, shape(naming.stems[stem][0][0])[1])


def prefixes(names: Iterable[str]) -> list[str]:
    """Prefixes, such as "module.", of the names of each network among the tensors.

    >>> prefixes(["net.conv1.weight", "net.layer1.0.conv1.weight", "loss.weight"])
    ['net.']
    """
    blocks = {f"{in_block(naming.layer, 1, 0)}.weight" for naming in NAMINGS.values()}
    found: dict[str, None] = {}
    for name in names:
        ends = [block for block in blocks if f".{name}".endswith(f".{block}")]
        if ends:
            found[name.removesuffix(max(ends, key=len))] = None
    return list(found)


def fitting_namings(shapes: Shapes) -> list[tuple[str, str]]:
    """Keys of the namings that have a stem and a block among the tensors, and of their stems."""
    fitting = []
    for name, naming in _with_blocks(shapes).items():
        stems = [
            stem for stem, (layers, _) in naming.stems.items()
            if all(f"{layer}.weight" in shapes for layer in layers)
        ]  # fmt: skip
        if stems and _projections(naming, shapes):
            fitting.append((name, stems[0]))
    return fitting


def _with_blocks(shapes: Shapes) -> dict[str, Naming]:
    return {
        name: naming
        for name, naming in NAMINGS.items()
        if f"{in_block(naming.layer, 1, 0)}.weight" in shapes
    }


def _naming(shapes: Shapes, what: str) -> tuple[str, str]:
    """The key of the naming of the tensors, and that of its stem.

    Of several that fit it is the first that has a head among them, too, or else the first.
    """
    if fitting := fitting_namings(shapes):
        with_head = [each for each in fitting if f"{NAMINGS[each[0]].head}.weight" in shapes]
        return (with_head or fitting)[0]
    partly = ""
    for name, naming in _with_blocks(shapes).items():
        lacking = f"{next(iter(naming.stems.values()))[0][0]}.weight"
        if lacking not in shapes:
            partly = f", names blocks like {name} and has no {lacking!r}"
    names = list(shapes)
    has = f"has {len(names)} tensors" + (f", the first {names[0]!r}" if names else "")
    raise ConfigError(f"{what} {has}{partly}; {READ}")


def _projections(naming: Naming, shapes: Shapes) -> list[str]:
    """The shortcuts whose projection some first block has, or else the one without any."""
    found = [
        kind for kind, (projection, _) in naming.shortcuts.items()
        if any(
            len(shapes.get(f"{in_block(projection, stage, 0)}.weight", ())) == 4
            for stage in range(1, len(stages_of(naming, shapes)) + 1)
        )
    ]  # fmt: skip
    return found or ([naming.unprojected["shortcut"]] if naming.unprojected else [])


def _shortcut(naming: Naming, shapes: Shapes, stages: int, what: str) -> Mapping[str, Any]:
    (kind, *others) = _projections(naming, shapes)
    if others:
        raise ConfigError(f"{what} has shortcuts of two kinds, {kind} and {others[0]}; {READ}")
    return {"shortcut": kind} if kind in naming.shortcuts else naming.unprojected


def stages_of(naming: Naming, shapes: Shapes) -> tuple[int, ...]:
    """The number of blocks in every stage."""
    stages: list[int] = []
    while f"{in_block(naming.layer, len(stages) + 1, 0)}.weight" in shapes:
        blocks = 1
        while f"{in_block(naming.layer, len(stages) + 1, blocks)}.weight" in shapes:
            blocks += 1
        stages.append(blocks)
    return tuple(stages)


def _depth(family: str, stages: tuple[int, ...], kind: str, what: str) -> int:
    if family == "imagenet":
        for depth, known in IMAGENET_STAGES.items():
            if known == (stages, kind):
                return depth
        depths = ", ".join(map(str, IMAGENET_STAGES))
        raise ConfigError(
            f"{what} has stages of {', '.join(map(str, stages))} {kind} blocks, as no ResNet of "
            f"{depths} layers; import one of these"
        )
    if len(stages) != 3 or len(set(stages)) != 1:
        raise ConfigError(
            f"{what} has stages of {', '.join(map(str, stages))} blocks; a net for CIFAR has three "
            "equal ones"
        )
    return 3 * len(BLOCKS[kind].units) * stages[0] + 2
