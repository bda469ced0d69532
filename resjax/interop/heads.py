"""Heads under other names than those of the codebase, as fine-tuning leaves them."""

from collections.abc import Mapping
from typing import NamedTuple

from resjax.interop.formats import listed
from resjax.interop.names import NAMINGS, Naming, in_block
from resjax.interop.rebuilding import Tensor
from resjax.interop.recognise import fitting_namings, stages_of
from resjax.runs.weights import Shapes

MODULES = ("fc", "head", "classifier", "linear")
"""Modules that scripts put a head into, in the network or beside it."""


class Head(NamedTuple):
    """A head that was found.

    Attributes:
      tensors: its tensors, by the names of the codebase; {} if it is no single dense layer.
      names: names of all tensors that belong to it.
      note: line to be printed.
    """

    tensors: dict[str, Tensor]
    names: tuple[str, ...]
    note: str


def find_head(network: Mapping[str, Tensor], candidates: Mapping[str, Tensor]) -> Head | None:
    """Finds the head of a network that has none by the names of its codebase.

    It is a single dense layer on the features, wherever it lies in one of `MODULES`. A head of
    several layers, such as the projection head of self-supervised learning, is none of a ResNet.

    Args:
      network: {name: tensor} of the network.
      candidates: tensors among which its head is searched for.

    Returns:
      The head; None if it has one, or nothing here belongs to one.
    """
    shapes = {name: tensor.shape for name, tensor in network.items()}
    namings = fitting_namings(shapes)
    names = tuple(name for name in candidates if name.split(".")[0] in MODULES)
    if not namings or not names:
        return None
    naming = NAMINGS[namings[0][0]]
    if any(name.startswith(f"{naming.head}.weight") for name in network):
        return None
    module = _dense_layer({name: candidates[name] for name in names}, _features(naming, shapes))
    if not module:
        what = (
            "the head is no dense layer on the features and was left out, as projection heads are"
        )
        return Head({}, names, f"{what}: {listed(names)}")
    tensors = {
        f"{naming.head}{name.removeprefix(module)}": candidates[name]
        for name in names
        if name.startswith(f"{module}.")
    }
    weight = f"{naming.head}.weight"
    tensors[weight] = _with_axes(tensors[weight], naming.head_axes)
    return Head(tensors, names, f"{module!r} was taken as the head")


def _dense_layer(tensors: Mapping[str, Tensor], features: int) -> str:
    """The module of these tensors, if they are a single layer on so many features; "" if not."""
    module = next(iter(tensors)).rpartition(".")[0]
    weight = tensors.get(f"{module}.weight")
    if weight is None or len(weight.shape) != 2 or weight.shape[1] != features:
        return ""
    return module if tensors.keys() <= {f"{module}.weight", f"{module}.bias"} else ""


def _features(naming: Naming, shapes: Shapes) -> int:
    """The number of channels of the last stage, or 0 if its layers have no axes."""
    last, number = len(stages_of(naming, shapes)), 1
    while f"{in_block(naming.layer, last, 0, number + 1)}.weight" in shapes:
        number += 1
    return next(iter(shapes[f"{in_block(naming.layer, last, 0, number)}.weight"]), 0)


def _with_axes(tensor: Tensor, axes: int) -> Tensor:
    """The same tensor `[O, I]`, with further axes of 1 for codebases that have a convolution."""
    shape = (*tensor.shape, *[1] * (axes - len(tensor.shape)))
    read = tensor.read
    return tensor._replace(shape=shape, read=read and (lambda: read().reshape(shape)))
