"""Parameters and multiply-adds of a network, counted exactly from its layers."""

import dataclasses
import math
from typing import Any

import jax

from resjax.models.networks import Spec
from resjax.models.resnet import ResNet
from resjax.models.trace import LayerRecord, trace, variable_shapes


@dataclasses.dataclass(frozen=True)
class NetworkSection:
    """A part of a network: the stem, a stage or the head.

    Attributes:
      name: stem, stage1, ..., head.
      output: shape of the output for one image.
      blocks: number of blocks, 0 for stem and head.
      params, batch_stats, multiply_adds: sums over the section.
      receptive_field: pixels of the input, along one side, that an output can depend on; None if
        the network is fully connected. It may exceed the image.
    """

    name: str
    output: tuple[int, ...]
    blocks: int
    params: int
    batch_stats: int
    multiply_adds: int
    receptive_field: int | None


@dataclasses.dataclass(frozen=True)
class Description:
    """A network in numbers.

    Attributes:
      layers: weighted layers from input to output, without shortcuts, as the two papers count. (WRN
        names count the projections and not the head, and resnet50d keeps the name of resnet50.)
      projections: number of 1x1 convolutions on shortcuts.
      image_shape: shape `[H, W, C]` of the image that the multiply-adds are for.
    """

    layers: int
    params: int
    batch_stats: int
    multiply_adds: int
    projections: int
    image_shape: tuple[int, int, int]
    sections: tuple[NetworkSection, ...]


def count_parameters(variables: Any) -> int:
    """The number of scalars in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


def count_multiply_adds(model: ResNet, image_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and dense layers for one image of shape `[H, W, C]`."""
    return sum(record.multiply_adds for record in layer_records(model, image_shape))


def layer_records(model: ResNet, image_shape: tuple[int, ...]) -> tuple[LayerRecord, ...]:
    """The weighted layers in the order in which they are applied to images `[H, W, C]`."""
    return trace(model, image_shape).layers


def sizes(model: ResNet, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Numbers of parameters, and of multiply-adds for one image of shape `[H, W, C]`."""
    params = variable_shapes(model, image_shape)["params"]
    return count_parameters(params), count_multiply_adds(model, image_shape)


def describe(model: ResNet, image_shape: tuple[int, int, int]) -> Description:
    """Counts a network, by section and in total, for images of shape `[H, W, C]`.

    >>> from resjax.models.build import named_model
    >>> found = describe(named_model("cifar-resnet20"), (32, 32, 3))
    >>> found.layers, found.params, found.multiply_adds
    (20, 269722, 40551040)
    """
    variables, records = variable_shapes(model, image_shape), layer_records(model, image_shape)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    stages = [f"stage{number}" for number in range(1, len(model.spec.stages) + 1)]
    members = {"stem": ["stem"]} | {stage: [stage] for stage in stages} | {"head": ["norm", "head"]}
    following = dict(zip(["stem", *stages], [*stages, "head"], strict=True))
    inputs = {record.path[0]: record.input_shape for record in reversed(records)}
    fields = _receptive_fields(model.spec)

    def section(name: str) -> NetworkSection:
        own = [record for record in records if record.path[0] in members[name]]
        output = inputs[following[name]] if name in following else (model.classes,)
        if name == stages[-1]:
            output = next(r.output_shape for r in reversed(records) if r.path[0] == name)

        def count(tree: dict) -> int:
            return sum(count_parameters(tree.get(member, {})) for member in members[name])

        return NetworkSection(
            name=name,
            output=output,
            blocks=model.spec.stages[stages.index(name)] if name in stages else 0,
            params=count(params),
            batch_stats=count(batch_stats),
            multiply_adds=sum(record.multiply_adds for record in own),
            receptive_field=fields.get(name),
        )

    return Description(
        layers=sum(record.times for record in records if not record.in_shortcut),
        params=count_parameters(params),
        batch_stats=count_parameters(batch_stats),
        multiply_adds=sum(record.multiply_adds for record in records),
        projections=sum(record.times for record in records if record.path[-1] == "projection"),
        image_shape=image_shape,
        sections=tuple(map(section, members)),
    )


def _receptive_fields(spec: Spec) -> dict[str, int]:
    """Side of the receptive field in pixels at the end of stem and stages, through all branches."""
    if spec.stem == "dense":
        return {}
    field, pitch, fields = 1, 1, {}
    stem = spec.stem_layers
    sections = {"stem": [(layer.size, layer.stride) for layer in stem.layers]}
    sections["stem"] += [(3, 2)] if stem.pool else []
    for i, blocks in enumerate(spec.stages):
        layers = spec.branch(i, True, None) + (blocks - 1) * spec.branch(i, False, None)
        sections[f"stage{i + 1}"] = [(layer.size, layer.stride) for layer in layers]
    for name, steps in sections.items():
        for size, stride in steps:
            field += (size - 1) * pitch
            pitch *= stride
        fields[name] = field
    return fields
