"""Values of a program: arrays, pending operations, and views of both.

A view sees an array by offset and strides, as NumPy does; slices, broadcasts and most reshapes are
views, and no work.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from resjax.ops.tape import contiguous

DTYPES = (np.float32, np.float64, np.bool_)
"""The dtypes that the kernel computes with."""


@dataclasses.dataclass(eq=False)
class Node:
    """An array, or the elementwise operation that will compute it.

    Attributes:
      array: the array, once it is computed.
      operation: one of `tape.OPERATIONS`, "constant", or "place", which writes parts to places.
      inputs: the operands of the operation; none once there is an array.
      places: for each input of "place", offset and strides of where it is written.
      spare: whether its memory may be another's once nothing uses it.
      home: the argument of the program whose memory it should take.
      value: the number, of a constant.
      uses: how many names in the program, and inputs of nodes that wait, stand for it.
      users: nodes that have it as an input.
      number: its place in the order in which nodes are made.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    array: jax.Array | None = None
    operation: str | None = None
    inputs: tuple["ArrayView", ...] = ()
    places: tuple[tuple[int, tuple[int, ...]], ...] = ()
    value: Any = None
    spare: bool = True
    home: "Node | None" = None
    uses: int = 0
    users: list["Node"] = dataclasses.field(default_factory=list)
    number: int = dataclasses.field(default_factory=itertools.count().__next__)

    @property
    def waits(self) -> bool:
        return self.array is None and self.operation not in (None, "constant")

    def like(self, other: "Node | Value") -> bool:
        """Tells whether both have the same shape and dtype."""
        return (self.shape, self.dtype) == (other.shape, other.dtype)


@dataclasses.dataclass(frozen=True)
class ArrayView:
    """Part of a node, seen by offset and strides as NumPy sees arrays."""

    node: Node
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, node: Node) -> "ArrayView":
        return cls(node, 0, node.shape, contiguous(node.shape))

    @property
    def dtype(self) -> np.dtype:
        return self.node.dtype

    @property
    def whole(self) -> bool:
        """Tells whether it has all elements of the node, in their order."""
        alike = all(
            own == other or size == 1
            for own, other, size in zip(
                self.strides, contiguous(self.shape), self.shape, strict=True
            )
        )
        return alike and math.prod(self.shape) == math.prod(self.node.shape)

    def spread(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Strides of the view broadcast to a shape: 0 along axes where one element is repeated."""
        if not self.shape:
            return (0,) * len(shape)
        pairs = zip(self.shape, shape, self.strides, strict=True)
        return tuple(stride if own == size else 0 for own, size, stride in pairs)


@dataclasses.dataclass(frozen=True)
class Stack:
    """Values of one shape, which are the elements of an array along its first axis."""

    parts: tuple[ArrayView, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.parts), *self.parts[0].shape)

    @property
    def dtype(self) -> np.dtype:
        return self.parts[0].dtype


Value = ArrayView | Stack


def nodes_of(value: Value) -> list[Node]:
    """The nodes that a value depends on."""
    return [part.node for part in value.parts] if isinstance(value, Stack) else [value.node]


def is_known(dtype: Any) -> bool:
    """Tells whether the kernel computes with a dtype."""
    return dtype in DTYPES


def hold(values: Sequence[Value]) -> None:
    """Adds one use to each value."""
    for value in values:
        for node in nodes_of(value):
            node.uses += 1


def drop(values: Sequence[Value]) -> None:
    """Removes one use from each value; a pending node without uses is discarded."""
    for value in values:
        for node in nodes_of(value):
            node.uses -= 1
            if not node.uses:
                inputs, node.inputs = node.inputs, ()
                node.operation = node.operation if node.operation == "constant" else None
                drop(inputs)


def leaf(array: Any, spare: bool = True) -> ArrayView:
    """An array as a value; `spare` tells whether its memory may be reused after its last use."""
    return ArrayView.of(Node(np.shape(array), array.dtype, array, spare=spare))


def constant(literal: Literal) -> ArrayView:
    """A literal of the program as a value."""
    dtype = literal.aval.dtype
    if not is_known(dtype) or np.ndim(literal.val):
        return leaf(jnp.asarray(literal.val, dtype))
    value = bool(literal.val) if dtype == np.bool_ else float(literal.val)
    return ArrayView.of(Node((), dtype, operation="constant", value=value))


def taken(view: ArrayView, axis: int, i: int) -> ArrayView:
    """The element i along an axis."""
    without = lambda of: (*of[:axis], *of[axis + 1 :])  # noqa: E731
    offset = view.offset + i * view.strides[axis]
    return ArrayView(view.node, offset, without(view.shape), without(view.strides))


def element_key(view: ArrayView) -> tuple:
    """A key that is equal for two views of the same elements."""
    node = view.node
    of = (node.value, node.dtype) if node.operation == "constant" else node
    return of, view.offset, view.shape, view.strides


def array_of(view: ArrayView) -> jax.Array:
    """The array of a view, which has all elements of a node that is computed."""
    node = view.node
    if node.operation == "constant":
        return jnp.full(view.shape, node.value, node.dtype)
    if node.array.shape == view.shape:
        return node.array
    return jax.lax.reshape(node.array, view.shape)


# ------------------------------------------------------------------------------------ more views
# Each takes a view, the parameters of the primitive and the shape of the result; None is no view.


def broadcast(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView:
    """Repeats a view along new axes, and along those in which it has one element."""
    strides = [0] * len(shape)
    for axis, into in enumerate(params["broadcast_dimensions"]):
        strides[into] = view.strides[axis] if view.shape[axis] == shape[into] else 0
    return ArrayView(view.node, view.offset, shape, tuple(strides))


def reshaped(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView | None:
    """Reshapes a view without copying; None if that is impossible.

    A `whole` view takes any shape; in others only axes of one element come and go.
    """
    if view.whole:
        return ArrayView(view.node, view.offset, shape, contiguous(shape))
    kept = [axis for axis, size in enumerate(view.shape) if size > 1]
    if [view.shape[axis] for axis in kept] != [size for size in shape if size > 1]:
        return None
    strides = iter([view.strides[axis] for axis in kept])
    return ArrayView(
        view.node, view.offset, shape, tuple(next(strides) if n > 1 else 0 for n in shape)
    )


def _in_order(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView | None:
    """Reshapes a view without copying; None if the primitive permutes the axes first."""
    return reshaped(view, params, shape) if params["dimensions"] is None else None


def _sliced(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView:
    starts, steps = params["start_indices"], params["strides"] or [1] * len(shape)
    offset = sum(int(start) * own for start, own in zip(starts, view.strides, strict=True))
    strides = tuple(int(step) * own for step, own in zip(steps, view.strides, strict=True))
    return ArrayView(view.node, view.offset + offset, shape, strides)


def _cut_by_padding(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView | None:
    config = params["padding_config"]
    if any(low > 0 or high > 0 or inside for low, high, inside in config):
        return None
    return _sliced(view, {"start_indices": [-low for low, _, _ in config], "strides": None}, shape)


def _summed(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView | None:
    """Sums a view along axes of one element; None if an axis has more."""
    alone = all(view.shape[axis] == 1 for axis in params["axes"])
    return reshaped(view, params, shape) if alone else None


def _converted(view: ArrayView, params: dict, shape: tuple[int, ...]) -> ArrayView | None:
    return view if params["new_dtype"] == view.dtype else None


VIEWS: dict[str, Callable[[ArrayView, dict, tuple[int, ...]], ArrayView | None]] = {
    "broadcast_in_dim": broadcast,
    "reshape": _in_order,
    "squeeze": reshaped,
    "expand_dims": reshaped,
    "slice": _sliced,
    "pad": _cut_by_padding,
    "reduce_sum": _summed,
    "convert_element_type": _converted,
    "copy": lambda view, params, shape: view,
    "stop_gradient": lambda view, params, shape: view,
}


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its axes of one element."""
    return tuple(size for size in shape if size > 1)
