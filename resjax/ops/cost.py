"""The arithmetic of a traced program, and the bytes it moves to and from memory.

Convolutions, matrix products and reductions are kernels, which read their operands from memory and
write their results to it. Elementwise work between them is fused into the kernel that needs its
result, or into one that writes the operand of a convolution, and computed again where it is needed
again; views are no work at all.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from resjax.ops.scan import ScanEquation


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel of a program.

    Attributes:
      flops: floating-point operations of a convolution or a matrix product; 0 of others.
      dtype: the dtype of the operands of a convolution or a matrix product; "" of others.
      moved: bytes read and written.
    """

    flops: float
    dtype: str
    moved: float


def kernels_of(jaxpr: Jaxpr) -> Counter[Kernel]:
    """Counts how often a program runs each kernel; a loop of unknown length counts as one pass."""
    walk = _Walk()
    results = walk.run(jaxpr, [_in_memory(var.aval) for var in jaxpr.invars], 1)
    for result in results:
        walk.write(result, 1)
    return walk.kernels


PRODUCTS = ("conv_general_dilated", "dot_general")

REDUCTIONS = (
    "reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax", "argmin",
    "reduce_window_max", "reduce_window_sum", "reduce_window", "select_and_scatter_add",
    "cumsum", "gather", "scatter", "scatter-add", "sort", "psum", "all_gather",
)  # fmt: skip
"""Primitives besides `PRODUCTS` that are kernels of their own."""


class _Array:
    """An array of the program: in memory, or fused into its consumers.

    Attributes:
      size: its bytes.
      reads: {identity: bytes} of the arrays in memory that it is computed from.
    """

    def __init__(self, size: float, reads: dict[int, float]):
        self.size, self.reads = size, reads

    @property
    def is_in_memory(self) -> bool:
        return id(self) in self.reads

    def put_into_memory(self) -> None:
        self.reads = {id(self): self.size}


def _bytes(aval: Any) -> float:
    return math.prod(aval.shape) * getattr(aval.dtype, "itemsize", 4)


def _in_memory(aval: Any) -> _Array:
    array = _Array(_bytes(aval), {})
    array.put_into_memory()
    return array


class _Walk:
    """A walk through a program that tracks the size of every array and whether it is in memory."""

    def __init__(self):
        self.kernels: Counter[Kernel] = Counter()
        self.alive: list[_Array] = []  # so that no identity is used twice

    def run(self, jaxpr: Jaxpr, arguments: Sequence[_Array], times: int) -> list[_Array]:
        """Counts the kernels of a program that runs `times` times; returns its results."""
        known = dict(zip(jaxpr.invars, arguments, strict=True))
        known |= {var: _in_memory(var.aval) for var in jaxpr.constvars}
        together: set[tuple] = set()  # reductions of the same arrays are one kernel

        def value(atom: Any) -> _Array:
            return _Array(0.0, {}) if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            results = self._equation(eqn, list(map(value, eqn.invars)), times, together)
            known |= dict(zip(eqn.outvars, results, strict=True))
            self.alive += results
        return list(map(value, jaxpr.outvars))

    def write(self, array: _Array, times: int) -> None:
        """Puts an array into memory, and counts a kernel that writes it if it is not there yet."""
        if not array.is_in_memory:
            moved = array.size + sum(array.reads.values())
            if moved:
                self.kernels[Kernel(0.0, "", moved)] += times
            array.put_into_memory()

    def _equation(
        self, eqn: JaxprEqn, inputs: list[_Array], times: int, together: set[tuple]
    ) -> list[_Array]:
        name = eqn.primitive.name
        if name == "scan":
            return self._scan(eqn, inputs, times)
        if name == "while":
            return self._while(eqn, inputs, times)
        inner = list(jaxprs_in_params(eqn.params))
        if inner and name not in REDUCTIONS:
            jaxpr, *_ = inner
            return self.run(jaxpr, inputs[-len(jaxpr.invars) :], times)
        if name in PRODUCTS:
            for each in inputs:
                self.write(each, times)
            [out] = eqn.outvars
            result = _in_memory(out.aval)
            moved = result.size + sum(each.size for each in inputs)
            dtype = str(np.dtype(eqn.invars[0].aval.dtype))
            self.kernels[Kernel(_flops(eqn), dtype, moved)] += times
            return [result]
        reads: dict[int, float] = {}
        for each in inputs:
            reads |= each.reads
        if name not in REDUCTIONS:
            return [_Array(_bytes(out.aval), dict(reads)) for out in eqn.outvars]
        results = [_in_memory(out.aval) for out in eqn.outvars]
        key = name, tuple(sorted(reads))
        if key not in together:
            together.add(key)
            moved = sum(each.size for each in results) + sum(reads.values())
            self.kernels[Kernel(0.0, "", moved)] += times
        return results

    def _scan(self, eqn: JaxprEqn, inputs: list[_Array], times: int) -> list[_Array]:
        """Walks through a scan; an element of a stack has 1/length of its size."""
        scan = ScanEquation.of(eqn)
        constants, begun, stacks = scan.split(inputs)
        for each in begun:
            self.write(each, times)
        slices = [_scaled(each, 1 / max(scan.length, 1)) for each in stacks]
        _, carried, _ = scan.split(scan.body.jaxpr.invars)
        started = [_in_memory(var.aval) for var in carried]
        results = self.run(scan.body.jaxpr, [*constants, *started, *slices], times * scan.length)
        for each in results[: scan.carried]:
            self.write(each, times * scan.length)
        self.alive += [*slices, *started, *results]
        ended = [_in_memory(out.aval) for out in eqn.outvars[: scan.carried]]
        return [*ended, *(_scaled(each, scan.length) for each in results[scan.carried :])]

    def _while(self, eqn: JaxprEqn, inputs: list[_Array], times: int) -> list[_Array]:
        skipped = eqn.params["cond_nconsts"]
        results = self.run(eqn.params["body_jaxpr"].jaxpr, inputs[skipped:], times)
        for each in results:
            self.write(each, times)
        return results


def _scaled(array: _Array, factor: float) -> _Array:
    """An array with its size multiplied by a factor, in memory if the given one is."""
    scaled = _Array(array.size * factor, {})
    if array.is_in_memory:
        scaled.put_into_memory()
    else:
        scaled.reads = {key: size * factor for key, size in array.reads.items()}
    return scaled


def _flops(eqn: JaxprEqn) -> float:
    """Floating-point operations: two for each multiply-add; none for zeros that dilate an image."""
    a, b = (var.aval for var in eqn.invars)
    out = math.prod(eqn.outvars[0].aval.shape)
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        return 2 * out * math.prod(a.shape[axis] for axis in contracted)
    features = eqn.params["dimension_numbers"].rhs_spec[0]
    spread = math.prod(eqn.params["lhs_dilation"])
    return 2 * out * math.prod(b.shape) / b.shape[features] / spread
