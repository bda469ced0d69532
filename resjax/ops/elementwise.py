"""Elementwise work of a program as few calls of one kernel of ours, on CPUs.

Between convolutions and sums, a network is chains of additions, multiplications and selections. XLA
compiles a kernel for each chain, which is most of the time that it takes to compile a network. Here
a traced program is walked through instead: elementwise operations wait until something else needs
their result, and all that it takes is then one call, of a tape of loops. Views, such as slices and
broadcasts, are no work at all; straight-line stages are views of their stacked parameters.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from resjax.ops import norm
from resjax.ops.scan import ScanEquation
from resjax.ops.schedule import compute
from resjax.ops.tape import contiguous
from resjax.ops.values import (
    VIEWS,
    ArrayView,
    Node,
    Stack,
    Value,
    array_of,
    broadcast,
    constant,
    drop,
    element_key,
    hold,
    is_known,
    leaf,
    reshaped,
    taken,
)


def in_few_calls(function: Callable, donate_argnums: Sequence[int] = ()) -> Callable:
    """Has a function of trees of arrays do its elementwise work in few calls of our CPU kernel.

    The function is traced when it is called, with the axes of devices that are then bound. The
    arguments whose positions are in `donate_argnums` may be overwritten.
    """

    def called(*arguments: Any) -> Any:
        traced, shape = jax.make_jaxpr(function, return_shape=True)(*arguments)
        spare = [
            number in donate_argnums
            for number, argument in enumerate(arguments)
            for _ in jax.tree.leaves(argument)
        ]
        results = _Walk().results(traced, jax.tree.leaves(arguments), spare)
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    named = function.func if isinstance(function, functools.partial) else function
    called.__name__ = getattr(named, "__name__", type(named).__name__)
    return called


# -------------------------------------------------------------------------------------- operations

_NUMBERS = ("add", "sub", "mul", "div", "max", "min", "neg", "abs", "sqrt", "rsqrt")
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
_TRUTHS = ("and", "or", "not")


def _operation(eqn: JaxprEqn, inputs: Sequence[Value]) -> tuple[str, tuple[Value, ...]] | None:
    """The operation of the tape for an equation, and its operands; None if the tape has none.

    The dtypes of the inputs are known.
    """
    name, params = eqn.primitive.name, eqn.params
    truths = np.dtype(bool) in {value.dtype for value in inputs}
    if name == "select_n" and len(inputs) == 3:
        return "select", tuple(inputs)
    if name == "convert_element_type" and truths and is_known(params["new_dtype"]):
        return "number", tuple(inputs)
    if name in _TRUTHS and truths:
        return name, tuple(inputs)
    if truths:
        return None
    if name in _NUMBERS + _COMPARISONS:
        return name, tuple(inputs)
    if name == "add_any":
        return "add", tuple(inputs)
    if name == "square" or (name == "integer_pow" and params["y"] == 2):
        return "mul", (inputs[0], inputs[0])
    return None


def _is_one(value: Value) -> bool:
    return (
        isinstance(value, ArrayView)
        and value.node.operation == "constant"
        and value.node.value == 1
    )


# ----------------------------------------------------------------------------------- control flow


INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
           "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}  # fmt: skip
"""Primitives that call another program, and the parameter that holds it."""

BODIES = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",),
          "remat2": ("jaxpr",)}  # fmt: skip
"""Primitives that stay as they are while their inner programs are rewritten; their parameters."""


def _rewritten(program: Any) -> Any:
    """A program, or several, with its elementwise work in few calls."""
    if isinstance(program, tuple):
        return tuple(map(_rewritten, program))
    if not isinstance(program, ClosedJaxpr):
        closed = _rewritten(ClosedJaxpr(program, ()))
        return program if closed.consts else closed.jaxpr
    return jax.make_jaxpr(lambda *leaves: _Walk().results(program, leaves))(*program.in_avals)


def _as_elementwise(name: str, params: tuple, shapes: tuple) -> ClosedJaxpr:
    """Traces the function of a primitive in `norm.AS_ELEMENTWISE` for (shape, dtype) pairs."""
    function = functools.partial(norm.AS_ELEMENTWISE[name], **dict(params))
    return jax.make_jaxpr(function)(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))


def _last_uses(jaxpr: Jaxpr) -> tuple[dict[Var, int], list[list[Var]]]:
    """The equation that uses each variable last, {variable: index}, and the variables by index.

    The results of the program count as used by one more equation after the last.
    """
    last: dict[Var, int] = {}
    for index, eqn in enumerate(jaxpr.eqns):
        last |= {atom: index for atom in eqn.invars if not isinstance(atom, Literal)}
    end = len(jaxpr.eqns)
    last |= {atom: end for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    ending: list[list[Var]] = [[] for _ in range(end + 1)]
    for var, index in last.items():
        ending[index].append(var)
    return last, ending


# ------------------------------------------------------------------------------------------ walking


class _Walk:
    """Walks through a traced program and computes it, its elementwise work in few calls."""

    def __init__(self) -> None:
        self.made: dict[tuple, Node] = {}
        # Equal layers of a network are one program, or one primitive, again and again.
        self.last_uses = functools.cache(_last_uses)
        self.as_elementwise = functools.cache(_as_elementwise)

    def results(
        self, program: ClosedJaxpr, arrays: Sequence[Any], spare: Sequence[bool] | None = None
    ) -> list[jax.Array]:
        """The results of a program for arrays; those that `spare` marks may be overwritten."""
        arguments = [leaf(array, spare=False) for array in arrays]
        hold(arguments)
        free = [view.node for view, own in zip(arguments, spare or (), strict=False) if own]
        results = self._run(program, arguments)
        for value in results:
            # As JAX decides which result takes the memory of which argument.
            home = next((node for node in free if node.like(value)), None)
            if home is not None:
                free.remove(home)
                if isinstance(value, ArrayView):
                    value.node.home = home
        return self._arrays(results)

    def _run(self, program: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
        """The values of a program's results, each held once; drops one hold of each argument."""
        jaxpr = program.jaxpr
        last, ending = self.last_uses(jaxpr)
        names: dict[Var, Value] = {}

        def name(variables: Sequence[Var], values: Sequence[Value]) -> None:
            """Gives variables their values, which are held; drops values that nothing reads."""
            for var, value in zip(variables, values, strict=True):
                if var in last:
                    names[var] = value
                else:
                    drop([value])

        def read(atom: Var | Literal) -> Value:
            return constant(atom) if isinstance(atom, Literal) else names[atom]

        constants = [leaf(constant, spare=False) for constant in program.consts]
        hold(constants)
        name([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments])
        for index, eqn in enumerate(jaxpr.eqns):
            inputs = list(map(read, eqn.invars))
            hold(inputs)
            drop([names.pop(var) for var in ending[index]])
            name(eqn.outvars, self._step(eqn, inputs))
        results = list(map(read, jaxpr.outvars))
        hold(results)
        drop(list(names.values()))
        return results

    def _step(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """The values of an equation's results, each held once; drops one hold of each input."""
        name, params = eqn.primitive.name, eqn.params
        if name in INLINED:
            return self._run(params[INLINED[name]], inputs)
        if name in norm.AS_ELEMENTWISE:
            shapes = tuple((each.shape, each.dtype) for each in inputs)
            return self._run(self.as_elementwise(name, tuple(params.items()), shapes), inputs)
        if name == "scan" and 0 < (scan := ScanEquation.of(eqn)).length <= scan.unroll:
            return self._unrolled(scan, inputs)
        values = self._elementwise(eqn, inputs) or self._other(eqn, inputs)
        hold(values)
        drop(inputs)
        return values

    def _elementwise(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value] | None:
        name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
        if not inputs or not all(is_known(value.dtype) for value in inputs):
            return None
        if any(0 in each for each in (shape, *(value.shape for value in inputs))):
            return None
        if name in VIEWS or name == "unstack":
            view = self._whole_view(inputs[0])
            if name == "unstack":
                return [taken(view, eqn.params["axis"], i) for i in range(len(eqn.outvars))]
            if seen := VIEWS[name](view, eqn.params, shape):
                return [seen]
        if name == "pad":
            return self._padded(eqn, inputs)
        if name in ("mul", "div") and _is_one(inputs[1]) and inputs[0].shape == shape:
            return [inputs[0]]
        if found := _operation(eqn, inputs):
            views = tuple(map(self._whole_view, found[1]))
            return [self._made(found[0], views, shape, eqn.outvars[0].aval.dtype)]
        return None

    def _made(
        self, operation: str, inputs: tuple[ArrayView, ...], shape: tuple[int, ...], dtype: Any,
        places: tuple = (),
    ) -> ArrayView:  # fmt: skip
        """The result of an operation; the node is shared if the same was asked for before."""
        key = (operation, shape, np.dtype(dtype), places, *map(element_key, inputs))
        node = self.made.get(key)
        if node is None or (node.array is None and not node.waits):
            node = Node(shape, np.dtype(dtype), None, operation, inputs, places)
            self.made[key] = node
            hold(inputs)
            for view in inputs:
                view.node.users.append(node)
        return ArrayView.of(node)

    def _whole_view(self, value: Value) -> ArrayView:
        """A view of one node; a stack becomes an array of its own."""
        if isinstance(value, ArrayView):
            return value
        shape, strides = value.shape, contiguous(value.shape)
        if len(value.parts) == 1 and (single := reshaped(value.parts[0], {}, shape)):
            return single
        places = tuple((i * strides[0], strides[1:]) for i in range(len(value.parts)))
        return self._made("place", value.parts, shape, value.dtype, places)

    def _padded(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value] | None:
        """Pads by two loops: one fills the whole result, one writes the operand into it."""
        config, shape = eqn.params["padding_config"], eqn.outvars[0].aval.shape
        if any(low < 0 or high < 0 for low, high, _ in config):
            return None
        view, filling = map(self._whole_view, inputs)
        steps = contiguous(shape)
        offset = sum(int(low) * step for (low, _, _), step in zip(config, steps, strict=True))
        strides = tuple(
            (int(inside) + 1) * step for (_, _, inside), step in zip(config, steps, strict=True)
        )
        everywhere = broadcast(filling, {"broadcast_dimensions": ()}, shape)
        places = (0, steps), (offset, strides)
        return [self._made("place", (everywhere, view), shape, view.dtype, places)]

    def _unrolled(self, scan: ScanEquation, inputs: list[Value]) -> list[Value]:
        """Runs a scan as straight-line code; the elements of its inputs and results are views."""
        constants, carry, stacks = scan.split(inputs)
        rows: list[list[Value]] = [[] for _ in range(scan.length)]
        order = range(scan.length)
        for i in reversed(order) if scan.backwards else order:
            elements = [self._element(value, i) for value in stacks]
            hold([*constants, *elements])
            results = self._run(scan.body, [*constants, *carry, *elements])
            carry, rows[i] = results[: scan.carried], results[scan.carried :]
        drop([*constants, *stacks])
        return [*carry, *map(self._stacked, zip(*rows, strict=True))]

    def _element(self, value: Value, i: int) -> Value:
        if isinstance(value, Stack):
            return value.parts[i]
        if is_known(value.dtype):
            return taken(value, 0, i)
        return leaf(jax.lax.index_in_dim(*self._arrays([value]), i, keepdims=False))

    def _stacked(self, parts: Sequence[Value]) -> Value:
        """The parts along a new first axis, as one value; takes over their holds."""
        if all(isinstance(part, ArrayView) and is_known(part.dtype) for part in parts):
            return Stack(tuple(parts))
        stacked = leaf(jnp.stack(self._arrays(parts)))
        hold([stacked])
        drop(parts)
        return stacked

    def _other(self, eqn: JaxprEqn, inputs: list[Value]) -> list[Value]:
        """Applies a primitive that is not elementwise to the arrays of its inputs."""
        name, params = eqn.primitive.name, dict(eqn.params)
        params |= {key: _rewritten(params[key]) for key in BODIES.get(name, ())}
        with eqn.ctx.manager:
            results = eqn.primitive.bind(*self._arrays(inputs), **params)
        results = results if eqn.primitive.multiple_results else [results]
        return list(map(leaf, results))

    # ---------------------------------------------------------------------------------- computing

    def _arrays(self, values: Sequence[Value]) -> list[jax.Array]:
        """The arrays of values; those that wait are computed in one call."""
        views = [self._solid(value) for value in values]
        compute([view.node for view in views if view.node.waits])
        return list(map(array_of, views))

    def _solid(self, value: Value) -> ArrayView:
        """A view of all elements of a node, in their order, with the same values."""
        view = self._whole_view(value)
        if view.whole or view.node.operation == "constant":
            return view
        return self._made("copy", (view,), view.shape, view.dtype)
