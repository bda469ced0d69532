"""Weights from which a run starts instead of random ones: another run's, grown if necessary."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from resjax.buckets.places import reading_file
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.models.build import build_model
from resjax.models.grow import grow
from resjax.models.resnet import ResNet
from resjax.models.trace import variable_shapes
from resjax.runs import needed
from resjax.runs.matching import refuse_broken, refuse_other_function, refuse_other_tensors
from resjax.runs.weights import Header, paths, read_header, read_weights

HEAD = "params/head/"


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a run starts from.

    Attributes:
      path: directory of a run, or file of weights, or a copy of it.
      name: the path, or the address of what it is a copy of.
      shallow: network of the weights, if it is to be grown before the first step.
      classes: number of outputs that the weights have, if it differs and the head is drawn anew; 0
        if they have no head.
    """

    path: Path
    name: str
    shallow: ResNet | None = None
    classes: int | None = None

    def variables(self, drawn: Any, deep: ResNet, key: jax.Array, images: jax.Array | None) -> Any:
        """Reads {"params", "batch_stats"} of the network before the first step.

        Args:
          drawn: variables that it would start with otherwise; a new head is taken from them.
          deep: network to grow to.
          key: random key that new blocks are drawn from.
          images: images to measure the statistics of new blocks on; see `grow`.
        """
        weights = read_weights(self.path)
        refuse_broken(weights.tensors, f"train.init_from={self.name}")
        variables = weights.variables
        if self.classes is not None:
            variables["params"] = variables["params"] | {"head": drawn["params"]["head"]}
        if self.shallow is not None:
            variables = grow(variables, self.shallow, deep, key, images)
        return variables


def find_start(
    where: Path | Address, model: ResNet, image_shape: tuple[int, int, int], grown: bool = False
) -> Start:
    """Checks that a network can start from some weights, without reading their tensors.

    Args:
      where: directory of a run, or file of weights; or its address, and it is copied to the cache.
      model: network that must have the same tensors, apart from those of the head.
      image_shape: `[H, W, C]` of its images.
      grown: whether `model` will be grown before the first step.

    Raises:
      ConfigError: if the weights are of another network.
    """
    with reading_file(where, needed.weights) as path:
        there = read_header(path)
    ours = {name: leaf.shape for name, leaf in paths(variable_shapes(model, image_shape)).items()}
    what, remedy = f"train.init_from={where}", _remedy(there)
    seen = there.about.image_shape[-1]
    if seen != image_shape[-1]:
        raise ConfigError(
            f"{what} sees {seen} channels, and the images have {image_shape[-1]}"
            + (f"; set data.channels={seen}" if seen in (1, 3) else "")
        )
    classes = len(there.about.class_names)
    new_head = classes != model.classes
    found, expected = (
        {name: shape for name, shape in shapes.items() if not new_head or HEAD not in name}
        for shapes in (there.shapes, ours)
    )
    refuse_other_tensors(found, expected, what, remedy)
    refuse_other_function(build_model(there.about.config, classes), model, what, remedy)
    return Start(path, str(where), model if grown else None, classes if new_head else None)


def _remedy(there: Header) -> str:
    model = there.about.config.model
    return (
        f"it is {model.name}-{model.depth} with {model.shortcut}: set model.* as its config does, "
        f"or grow it by train.grow_from={model.depth}"
    )
