"""Comparison of weights with a network: names and shapes, numbers, and function."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from resjax.config import ConfigError, differences
from resjax.models.resnet import ResNet
from resjax.runs.weights import Shapes


def refuse_other_tensors(found: Shapes, expected: Shapes, what: str, remedy: str) -> None:
    """Raises ConfigError if names or shapes differ, naming the first that do.

    Args:
      found: {name: shape} of the tensors that were found.
      expected: {name: shape}, in the order of the network.
      what: name of what has been found, such as that of a file.
      remedy: the end of the message.
    """
    differing = [name for name in expected if found.get(name, expected[name]) != expected[name]]
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if differing:
        tensors = ", ".join(
            f"{name!r} is {_by(found[name])} there, {_by(expected[name])} here"
            for name in differing[:3]
        )
        raise ConfigError(
            f"{what} is another network: {tensors}{_more(len(differing) - 3)}; {remedy}"
        )
    for names, verb in ((missing, "lacks"), (extra, "has beside the network's")):
        if names:
            listed = ", ".join(map(repr, names[:3]))
            raise ConfigError(f"{what} {verb} {listed}{_more(len(names) - 3)}; {remedy}")


class Broken(ConfigError):
    """Tensors have numbers that no network can have."""


def refuse_broken(tensors: Mapping[str, Any], what: str) -> None:
    """Raises ConfigError if a network has values that training cannot yield, naming the first.

    Such are values that are not finite and variances below zero. A network can hide them: the
    maximum of zero and what is not a number is zero to some compilers.

    Args:
      tensors: the arrays of a network by their paths, as `Weights` and its file have them.
      what: name of what has the numbers, such as that of a file.
    """
    for name, values in tensors.items():
        if wrong := broken(name, np.asarray(values), variance=name.endswith("/var")):
            raise Broken(f"{what}: {wrong}; {BROKEN}")


BROKEN = "its training diverged, or the file was damaged before it was sealed"


def broken(name: str, values: np.ndarray, variance: bool) -> str:
    """The complaint about the values of a tensor; empty if they are sound.

    >>> broken("bn1.running_var", np.array([1.0, -2.0]), variance=True)
    "'bn1.running_var' has 1 of 2 values that are no variances, the first -2.0 at 1"
    """
    wrong = ~np.isfinite(values)
    kind = "not finite" if wrong.any() else "no variances"
    wrong |= variance & (values < 0)
    if not wrong.any():
        return ""
    first = np.unravel_index(wrong.argmax(), wrong.shape)
    place = f" at {', '.join(map(str, first))}" if first else ""
    return (
        f"{name!r} has {wrong.sum()} of {wrong.size} values that are {kind}, the first "
        f"{float(values[first])}{place}"
    )


def refuse_other_function(found: ResNet, expected: ResNet, what: str, remedy: str) -> None:
    """Raises ConfigError if networks with equal tensors compute different functions."""
    there, here = computation(found), computation(expected)
    if differing := differences(there, here, "there", "here"):
        raise ConfigError(f"{what} is another network: {differing}; {remedy}")


def computation(model: ResNet) -> dict[str, str]:
    """Settings, by key, that affect a network's outputs besides its tensors."""
    spec, parts = model.spec, model.parts
    norm = parts.norm()
    said = {
        "model.opening": spec.opening,
        "model.order": parts.order,
        "model.activation": parts.activation,
        "model.shortcut": _kind(parts.shortcut),
        "model.residual_scale": parts.residual_scale,
        "norm.kind": type(norm),
        "norm.epsilon": getattr(norm, "epsilon", None),
        "norm.groups": getattr(norm, "groups", None),
    }
    said |= {"model.stride_in": spec.stride_in} if spec.block == "bottleneck" else {}
    return {key: getattr(value, "__name__", str(value)) for key, value in said.items()}


def _kind(shortcut: functools.partial) -> str:
    options = ", ".join(
        f"{name}={_kind(value) if isinstance(value, functools.partial) else value}"
        for name, value in sorted(shortcut.keywords.items())
        if name != "name"
    )
    return f"{shortcut.func.__name__}({options})"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""
