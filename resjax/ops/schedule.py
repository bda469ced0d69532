"""A schedule for pending operations: the loops of one call, and the values that they write."""

import collections
import itertools
from collections.abc import Sequence

import jax
import numpy as np

from resjax.ops import tape
from resjax.ops.tape import Array, Loop, contiguous
from resjax.ops.values import ArrayView, Node, drop, squeezed


def compute(wanted: Sequence[Node]) -> None:
    """Computes pending nodes, and others that need the same values, in one call of the kernel."""
    if not wanted:
        return
    nodes = _with_siblings(_needed(wanted), wanted)
    inner = collections.Counter(view.node for node in nodes for view in node.inputs)
    kept = {node for node in nodes if node.uses > inner[node]} | set(wanted)
    schedule = _Schedule(nodes, kept)
    loops, arrays, shapes = schedule.tape()
    read = schedule.numbers.items()
    unused = {number: node for node, number in read if node.uses == inner[node]}
    spare = [
        [number for number, own in unused.items() if (own is node.home if node.home else own.spare)]
        for node in schedule.written
    ]
    results = tape.run_loops(loops, arrays, shapes, spare)
    for node, array in zip(schedule.written, results, strict=True):
        node.array = array
    for node in nodes:
        inputs, node.inputs, node.operation = node.inputs, (), None
        drop(inputs)
        node.users.clear()


def _needed(wanted: Sequence[Node]) -> list[Node]:
    """All nodes that have to be computed for some nodes, in the order of their requests."""
    found, stack = set(wanted), list(wanted)
    while stack:
        for view in stack.pop().inputs:
            if view.node.waits and view.node not in found:
                found.add(view.node)
                stack.append(view.node)
    return sorted(found, key=lambda node: node.number)


def _with_siblings(nodes: list[Node], wanted: Sequence[Node]) -> list[Node]:
    """Adds the waiting nodes that read a value computed on the way, which is then not written."""
    found = set(nodes)
    for node in nodes:
        for user in [] if node in wanted else node.users:
            if user in found or not user.waits or not user.uses or user.places:
                continue
            if squeezed(user.shape) == squeezed(node.shape) and all(
                view.node in found or not view.node.waits for view in user.inputs
            ):
                found.add(user)
    return sorted(found, key=lambda node: node.number)


class _Schedule:
    """An assignment of nodes to loops.

    Attributes:
      written: nodes whose values are written, in the order of the results.
    """

    def __init__(self, nodes: list[Node], kept: set[Node]):
        self.nodes = nodes
        self.keys = {node: self._key(node) for node in nodes}
        self.loop = self._loops()
        read = {
            view.node
            for node in nodes
            for view in node.inputs
            if view.node in self.loop and not self._in_registers(view, node)
        }
        self.written = [node for node in nodes if node in kept | read or node.places]
        self.arrays: list[jax.Array] = []
        self.numbers: dict[Node, int] = {}

    @staticmethod
    def _key(node: Node) -> tuple:
        """The key that nodes of one loop share: shape and width; a "place" is alone in its loop.

        Truth values have the width of the values that they are computed from.
        """
        own = [node.dtype, *(view.dtype for view in node.inputs)]
        wide = any(dtype == np.float64 for dtype in own)
        return (squeezed(node.shape), wide, node.number if node.places else None)

    def _loops(self) -> dict[Node, tuple]:
        """The loop of each node as (level, key); no loop comes before one that it reads from.

        A node is as late as those that read it allow, so that it is computed where it is used.
        """
        first: dict[Node, int] = {}
        for node in self.nodes:
            before = [(view, first[view.node]) for view in node.inputs if view.node in first]
            levels = (level + (not self._joins(view, node)) for view, level in before)
            first[node] = max(levels, default=0)
        last: dict[Node, int] = {}
        for node in reversed(self.nodes):
            level = last.setdefault(node, first[node])
            for view in node.inputs:
                if view.node in first:
                    latest = level - (not self._joins(view, node))
                    last[view.node] = min(last.get(view.node, latest), latest)
        return {node: (last[node], self.keys[node]) for node in self.nodes}

    def _joins(self, view: ArrayView, user: Node) -> bool:
        """Tells whether the user reads the elements of a value in the order of its loop."""
        key = self.keys[user]
        return self.keys[view.node] == key and view.whole and squeezed(view.shape) == key[0]

    def _in_registers(self, view: ArrayView, user: Node) -> bool:
        return self.loop[view.node] == self.loop[user] and self._joins(view, user)

    def tape(self) -> tuple[list[Loop], list[jax.Array], list[jax.ShapeDtypeStruct]]:
        """The loops, the arrays that they read, and the shapes of those that they write."""
        loops: dict[tuple, list[Loop]] = {}
        # Loops of a level in the order of their nodes: all processes make the same program.
        for loop in sorted(dict.fromkeys(self.loop.values()), key=lambda loop: loop[0]):
            nodes = [node for node in self.nodes if self.loop[node] == loop]
            loops[loop] = self._placing(*nodes) if nodes[0].places else [self._computing(nodes)]
        results = [jax.ShapeDtypeStruct(node.shape, node.dtype) for node in self.written]
        return list(itertools.chain(*loops.values())), self.arrays, results

    def _computing(self, nodes: list[Node]) -> Loop:
        """The loop of nodes of one shape."""
        shape, wide, _ = self.keys[nodes[0]]
        loop, operands, registers = Loop(shape, wide), {}, {}
        for node in nodes:
            for view in node.inputs:
                if view.node not in self.loop or not self._in_registers(view, node):
                    operands.setdefault(self._operand(view, node.shape), len(operands))
        loop.operands += operands
        for node in nodes:
            own = tuple(
                registers[view.node]
                if view.node in self.loop and self._in_registers(view, node)
                else operands[self._operand(view, node.shape)]
                for view in node.inputs
            )
            if node.operation == "copy":
                registers[node] = own[0]
            else:
                registers[node] = len(operands) + len(loop.steps)
                loop.steps.append((node.operation, own))
            if node in self.written:
                loop.stores.append((registers[node], self._array(node, 0, contiguous(shape))))
        return loop

    def _placing(self, node: Node) -> list[Loop]:
        """The loops that write parts of a node, one after the other."""
        loops = []
        for view, (offset, strides) in zip(node.inputs, node.places, strict=True):
            loop = Loop(squeezed(view.shape), node.dtype == np.float64)
            loop.operands.append(self._operand(view, view.shape))
            strides = tuple(s for s, size in zip(strides, view.shape, strict=True) if size > 1)
            loop.stores.append((0, self._array(node, offset, strides)))
            loops.append(loop)
        return loops

    def _operand(self, view: ArrayView, shape: tuple[int, ...]) -> Array | float | bool:
        """The operand for a view in a loop over a shape: part of an array, or a constant."""
        if view.node.operation == "constant":
            return view.node.value
        pairs = zip(view.spread(shape), shape, strict=True)
        return self._array(view.node, view.offset, tuple(s for s, size in pairs if size > 1))

    def _array(self, node: Node, offset: int, strides: tuple[int, ...]) -> Array:
        boolean, written = node.dtype == np.bool_, node in self.loop
        if written:
            return Array(self.written.index(node), True, boolean, offset, strides)
        if node not in self.numbers:
            self.numbers[node] = len(self.arrays)
            self.arrays.append(node.array)
        return Array(self.numbers[node], False, boolean, offset, strides)
