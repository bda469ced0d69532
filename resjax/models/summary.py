"""What a network costs, counted exactly from the layers that it is built of."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.models.layers import Convolution
from resjax.models.networks import STEMS, Spec
from resjax.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """A weighted layer of a built network.

    Attributes:
      path: names of the modules that it is in, then its own.
      kernel: shape of its kernel, `[size, size, C / groups, channels]` or `[F, channels]`.
      input_shape, output_shape: for one image, without the batch.
      times: how often it is there, once for each block of a stage's rest.
    """

    path: tuple[str, ...]
    kernel: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    times: int

    @property
    def multiply_adds(self) -> int:
        """For one image; a tap of a kernel that falls on padding counts like any other."""
        return self.times * math.prod(self.kernel[:-1]) * math.prod(self.output_shape)

    @property
    def in_shortcut(self) -> bool:
        """Whether it is part of a shortcut and not of a branch, the stem or the head."""
        return "shortcut" in self.path


@dataclasses.dataclass(frozen=True)
class Section:
    """A stem, a stage or a head.

    Attributes:
      name: stem, stage1, ..., head.
      output: shape for one image.
      blocks: number of them, 0 for stem and head.
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
      projections: 1x1 convolutions on shortcuts.
      image_shape: what the multiply-adds are for.
    """

    layers: int
    params: int
    batch_stats: int
    multiply_adds: int
    projections: int
    image_shape: tuple[int, int, int]
    sections: tuple[Section, ...]


def count_parameters(variables: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


def count_multiply_adds(model: ResNet, image_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and dense layers for one image of shape `[H, W, C]`."""
    return sum(record.multiply_adds for record in layer_records(model, image_shape))


def variable_shapes(model: ResNet, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """The shapes of all variables, without computing them."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)


def layer_records(model: ResNet, image_shape: tuple[int, ...]) -> list[LayerRecord]:
    """The weighted layers in the order in which they are applied to images `[H, W, C]`.

    They are observed while the network is traced, so this is what is executed and not a plan of it.
    """
    return _trace(model, image_shape)[1]


def sizes(model: ResNet, image_shape: tuple[int, ...]) -> tuple[int, int]:
    """Numbers of parameters, and of multiply-adds for one image of shape `[H, W, C]`."""
    variables, records = _trace(model, image_shape)
    return count_parameters(variables["params"]), sum(record.multiply_adds for record in records)


def _trace(model: ResNet, image_shape: tuple[int, ...]) -> tuple[dict[str, Any], list[LayerRecord]]:
    """The shapes of all variables and the layers, from one tracing of the network."""
    records: dict[tuple[str, ...], LayerRecord] = {}

    def observe(next_call, args, kwargs, context):
        output = next_call(*args, **kwargs)
        module = context.module
        if isinstance(module, Convolution | nn.Dense) and context.method_name == "__call__":
            stage = module.path[0].removeprefix("stage")
            times = model.spec.stages[int(stage) - 1] - 1 if "rest" in module.path else 1
            kernel = module.variables["params"]["kernel"].shape
            records[module.path] = LayerRecord(
                module.path, kernel, args[0].shape[1:], output.shape[1:], times
            )
        return output

    with nn.intercept_methods(observe):
        variables = variable_shapes(model, image_shape)
    return variables, list(records.values())


def describe(model: ResNet, image_shape: tuple[int, int, int]) -> Description:
    """Counts a network, by section and in all, for images of shape `[H, W, C]`.

    >>> from resjax.models.build import named_model
    >>> found = describe(named_model("cifar-resnet20"), (32, 32, 3))
    >>> found.layers, found.params, found.multiply_adds
    (20, 269722, 40551040)
    """
    variables, records = _trace(model, image_shape)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    stages = [f"stage{number}" for number in range(1, len(model.spec.stages) + 1)]
    members = {"stem": ["stem"]} | {stage: [stage] for stage in stages} | {"head": ["norm", "head"]}
    following = dict(zip(["stem", *stages], [*stages, "head"], strict=True))
    inputs = {record.path[0]: record.input_shape for record in reversed(records)}
    fields = _receptive_fields(model.spec)

    def section(name: str) -> Section:
        own = [record for record in records if record.path[0] in members[name]]
        output = inputs[following[name]] if name in following else (model.classes,)
        if name == stages[-1]:
            output = next(r.output_shape for r in reversed(records) if r.path[0] == name)
        return Section(
            name=name,
            output=output,
            blocks=model.spec.stages[stages.index(name)] if name in stages else 0,
            params=sum(count_parameters(params.get(member, {})) for member in members[name]),
            batch_stats=sum(
                count_parameters(batch_stats.get(member, {})) for member in members[name]
            ),
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
    """Side of the receptive field at the end of stem and stages, through every branch."""
    if spec.stem == "dense":
        return {}
    field, pitch, fields = 1, 1, {}
    stem = STEMS[spec.stem](spec.stem_channels)
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
