"""The search for the weights that a run starts from, and their check."""

import functools
from pathlib import Path
from typing import Any

from resjax.buckets.places import reading_file
from resjax.config import ConfigError
from resjax.config.paths import place
from resjax.models.build import build_model
from resjax.models.resnet import ResNet
from resjax.models.trace import variable_shapes
from resjax.runs import needed
from resjax.runs.matching import refuse_broken, refuse_other_function, refuse_other_tensors
from resjax.runs.weights import Header, paths, read_header, read_weights
from resjax.training.start import Start

HEAD = "params/head/"


def find_start(
    init_from: str, model: ResNet, image_shape: tuple[int, int, int], grown: bool
) -> Start:
    """Checks that a network can start from some weights, without reading their tensors.

    Args:
      init_from: directory of a run, or file of weights; or its address, and it is copied to the
        cache.
      model: network that must have the same tensors, apart from those of the head.
      image_shape: `[H, W, C]` of its images.
      grown: whether `model` will be grown before the first step.

    Raises:
      ConfigError: if the weights are of another network.
    """
    where = place(init_from, "train.init_from=")
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
    return Start(
        name=str(where),
        read=functools.partial(_read, path, what),
        shallow=model if grown else None,
        classes=classes if new_head else None,
    )


def _read(path: Path, what: str) -> dict[str, Any]:
    weights = read_weights(path)
    refuse_broken(weights.tensors, what)
    return weights.variables


def _remedy(there: Header) -> str:
    model = there.about.config.model
    return (
        f"it is {model.name}-{model.depth} with {model.shortcut}: set model.* as its config does, "
        f"or grow it by train.grow_from={model.depth}"
    )
