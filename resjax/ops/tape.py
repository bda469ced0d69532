"""Elementwise operations in loops, as a tape that one CPU kernel runs in one call.

A loop has a shape. Its operands are numbers, or arrays seen by offset and strides as NumPy sees
them, its operations are those of `OPERATIONS`, and its results are written to arrays. A later loop
may read what an earlier one has written.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Collection, Sequence

import jax
import numpy as np

from resjax.ops import native

OPERATIONS = (
    "add", "sub", "mul", "div", "max", "min", "neg", "abs", "sqrt", "rsqrt",
    "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "select", "number",
    "multiply_add", "normalise", "normalise_add", "normalise_multiply_add", "relu",
    "normalise_relu", "normalise_add_relu", "positive",
)  # fmt: skip
"""Names in the order of `kernels/elementwise.cc`; "number" is 1 for true and 0 for false."""

MOST_OPERANDS = 6

JOINED = {
    # a * b + c
    ("mul", "add", (0, 1)): "multiply_add",
    # (a - b) * c + d, then + e, or + e * f
    ("sub", "multiply_add", (0, 1)): "normalise",
    ("normalise", "add", (0, 1)): "normalise_add",
    ("normalise", "multiply_add", (2,)): "normalise_multiply_add",
    # max(a, 0) of these
    ("normalise", "relu", (0,)): "normalise_relu",
    ("normalise_add", "relu", (0,)): "normalise_add_relu",
}
"""Pairs of operations that one replaces: {(first, second, positions in the second): joined}.

The result of the first is the operand of the second at one of the positions. The joined operation
takes the operands of the first, then the others of the second. Each operation is a pass over a
tile, and these make up a network.
"""

WHOLE, REPEATED, STRIDED, CONSTANT = range(4)
"""Layouts: in the order of the loop, the same in every tile, with other strides, no array."""

TILE = 512
"""Maximum number of elements computed at a time, unless a period of an operand is longer."""

LONGEST_PERIOD = 4096

TARGET = "resjax_elementwise"
"""Name of the kernel; a change of the tape's format needs a new one, as programs are cached."""


@dataclasses.dataclass(frozen=True)
class Array:
    """Part of an array, as a loop sees it.

    Attributes:
      number: index of the array, among those that are read or those that are written.
      written: whether it is one of those that are written.
      boolean: whether its elements are truth values.
      offset: index of the first element.
      strides: steps in elements, for each axis of the loop.
    """

    number: int
    written: bool
    boolean: bool
    offset: int
    strides: tuple[int, ...]


@dataclasses.dataclass
class Loop:
    """A loop; registers count its operands first, then the results of its operations.

    Attributes:
      shape: the shape that it walks through, the last axis fastest.
      wide: whether it computes in float64, otherwise in float32.
      operands: arrays or numbers.
      steps: (operation, registers of its operands), in order.
      stores: (register, the array that it is written to).
    """

    shape: tuple[int, ...]
    wide: bool
    operands: list[Array | float | bool] = dataclasses.field(default_factory=list)
    steps: list[tuple[str, tuple[int, ...]]] = dataclasses.field(default_factory=list)
    stores: list[tuple[int, Array]] = dataclasses.field(default_factory=list)


def run_loops(
    loops: Sequence[Loop],
    arrays: Sequence[jax.Array],
    results: Sequence[jax.ShapeDtypeStruct],
    spare: Sequence[Collection[int]],
) -> list[jax.Array]:
    """Runs loops one after the other, which read `arrays` and write `results`, by their numbers.

    `spare` has for each result the numbers of arrays that nothing else needs, whose memory the
    result may take.
    """
    loops, tape, constants = list(map(_joined, loops)), [], []
    for loop in loops:
        tape += _words(loop, len(arrays), constants)
    overwritten = {
        number: result
        for number, result in _overwritten(loops, spare).items()
        if _kind(arrays[number]) == _kind(results[result])
    }
    call = native.call(TARGET, list(results), input_output_aliases=overwritten)
    return call(*arrays, tape=np.array(tape, np.int64), constants=np.array([*constants, 0.0]))


def _joined(loop: Loop) -> Loop:
    """The same loop with fewer steps."""
    loop = _of_zero(loop)
    for (first, second, operands), name in JOINED.items():
        loop = _joining(loop, first, second, operands, name)
    return loop


def _of_zero(loop: Loop) -> Loop:
    """Replaces max(a, 0) by relu(a), and a > 0 that is only stored by positive(relu(a))."""
    zeros = [
        number for number, each in enumerate(loop.operands) if each == 0.0 and each is not False
    ]
    needed = {register for _, of in loop.steps for register in of}
    steps, relu = [], {}
    for number, (operation, of) in enumerate(loop.steps, start=len(loop.operands)):
        others = [register for register in of if register not in zeros]
        if operation == "max" and len(others) == 1:
            operation, of = "relu", tuple(others)
            relu[others[0]] = number
        elif operation == "gt" and of[1] in zeros and number not in needed:
            operation, of = "positive", (relu.get(of[0], of[0]),)
        steps.append((operation, of))
    return dataclasses.replace(loop, steps=steps)


def _joining(loop: Loop, before: str, after: str, operands: tuple[int, ...], name: str) -> Loop:
    """Merges each step `before` into the step `after` that alone reads it, as step `name`."""
    taken = collections.Counter(register for _, of in loop.steps for register in of)
    taken.update(register for register, _ in loop.stores)
    first = len(loop.operands)
    steps = dict(enumerate(loop.steps, start=first))
    into = {}
    for number, (operation, of) in steps.items():
        if operation == after:
            single = (
                of[k]
                for k in operands
                if of[k] >= first and steps[of[k]][0] == before and taken[of[k]] == 1
            )
            into.update((number, one) for one in itertools.islice(single, 1))
    now, joined = {register: register for register in range(first)}, []
    for number, (operation, of) in steps.items():
        if number in into.values():
            continue
        if number in into:
            one = into[number]
            operation, of = (
                name,
                (*steps[one][1], *(register for register in of if register != one)),
            )
        now[number] = first + len(joined)
        joined.append((operation, tuple(now[register] for register in of)))
    stores = [(now[register], place) for register, place in loop.stores]
    return dataclasses.replace(loop, steps=joined, stores=stores)


def _words(loop: Loop, read: int, constants: list[float]) -> list[int]:
    """A loop as the integers that the kernel reads; appends its constants to `constants`."""
    arrays = [each for each in loop.operands if isinstance(each, Array)]
    axes = _axes(loop.shape, [*arrays, *(place for _, place in loop.stores)])
    shape = [math.prod(loop.shape[axis] for axis in own) for own in axes]
    periods = [1]

    def place(array: Array, result: bool) -> list[int]:
        strides = [array.strides[own[-1]] for own in axes]
        period = _period(shape, strides)
        if strides == list(contiguous(shape)):
            mode = WHOLE
        elif result or period > LONGEST_PERIOD:
            mode = STRIDED
        else:
            mode = REPEATED
            periods.append(period)
        number = array.number + read * array.written
        return [number, array.boolean, mode, array.offset, *strides]

    def constant(value: float | bool) -> list[int]:
        constants.append(float(value))
        return [len(constants) - 1, isinstance(value, bool), CONSTANT, 0, *[0] * len(shape)]

    operands = [
        place(each, False) if isinstance(each, Array) else constant(each) for each in loop.operands
    ]
    stores = [[register, *place(array, True)] for register, array in loop.stores]
    steps = [
        [OPERATIONS.index(name), *registers, *[0] * (MOST_OPERANDS - len(registers))]
        for name, registers in loop.steps
    ]
    tile = max(1, TILE // max(periods)) * max(periods)  # each period divides the longer ones
    head = [loop.wide, len(shape), *shape, tile, len(operands), len(steps), len(stores)]
    return [int(word) for part in (head, *operands, *steps, *stores) for word in part]


def _kind(array: jax.Array | jax.ShapeDtypeStruct) -> tuple:
    return array.shape, array.dtype


def _overwritten(loops: Sequence[Loop], spare: Sequence[Collection[int]]) -> dict[int, int]:
    """Arrays that results can be written over, {number of the array: number of the result}.

    The loop that writes the result reads the array for the last time, element by element.
    """
    reading = collections.Counter(
        each.number
        for loop in loops
        for each in loop.operands
        if isinstance(each, Array) and not each.written
    )
    found: dict[int, int] = {}
    for loop in loops:
        straight = (0, contiguous(loop.shape))
        last = {
            register: number
            for number, (_, of) in enumerate(loop.steps, start=len(loop.operands))
            for register in of
        }
        for register, place in loop.stores:
            for operand, array in enumerate(loop.operands):
                if (
                    isinstance(array, Array)
                    and not array.written
                    and array.number in spare[place.number]
                    and array.number not in found
                    and place.number not in found.values()
                    and reading[array.number] == 1
                    and (array.offset, array.strides) == (place.offset, place.strides) == straight
                    and last.get(operand, operand) <= register
                ):
                    found[array.number] = place.number
    return found


def _axes(shape: tuple[int, ...], arrays: Sequence[Array]) -> list[list[int]]:
    """The axes of more than one element, in groups that every array can walk as one axis."""
    axes: list[list[int]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if axes and all(a.strides[axes[-1][-1]] == size * a.strides[axis] for a in arrays):
            axes[-1].append(axis)
        else:
            axes.append([axis])
    return axes


def _period(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Number of consecutive elements after which an array with these strides repeats itself."""
    fixed = next((axis for axis, stride in enumerate(strides) if stride), len(shape))
    return math.prod(shape[fixed:])


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of an array whose elements lie side by side, the last axis fastest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
