"""An interpreter for programs that run once, which are not worth compiling as a whole.

The initial variables of a network are zeros and random numbers, in a few shapes that recur. As one
program, each network would be compiled anew; interpreted, all networks share one program per shape.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun

from resjax.ops.scan import ScanEquation

COMPILER_OPTIONS = {"cpu": {"xla_backend_optimization_level": 0}}
"""Options of XLA by platform; on a CPU, optimising what runs once takes nearly all of the time."""


def interpret(program: ClosedJaxpr, arguments: Sequence[Any]) -> list[np.ndarray]:
    """The results of a traced program, on the host; only what they depend on is computed.

    Functions that it calls by `jax.jit` are compiled, once for each function and shape; constants
    are arrays of NumPy, scans are loops, and all else is run operation by operation.
    """
    values = _Values(program, arguments)
    return jax.device_get([values.of(atom) for atom in program.jaxpr.outvars])


class _Values:
    """The values of a program, computed on demand."""

    def __init__(self, program: ClosedJaxpr, arguments: Sequence[Any]):
        jaxpr = program.jaxpr
        given = [*zip(jaxpr.constvars, program.consts, strict=True)]
        given += zip(jaxpr.invars, arguments, strict=True)
        self.known: dict[Var, Any] = dict(given)
        self.origins = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
        self.iterations: dict[JaxprEqn, list[_Values]] = {}

    def of(self, atom: Var | Literal) -> Any:
        """The value of a variable or literal of the program."""
        if isinstance(atom, Literal):
            return atom.val
        if atom not in self.known:
            self._compute(atom, self.origins[atom])
        value = self.known[atom]
        if isinstance(value, _Deferred):
            value = self.known[atom] = value.values.of(value.atom)
        return value

    def _compute(self, var: Var, eqn: JaxprEqn) -> None:
        if eqn.primitive.name == "scan":
            self.known[var] = self._scanned(eqn, eqn.outvars.index(var))
            return
        if eqn.primitive.name == "broadcast_in_dim" and isinstance(eqn.invars[0], Literal):
            self.known[var] = np.full(var.aval.shape, eqn.invars[0].val, var.aval.dtype)
            return
        inputs = list(map(self.of, eqn.invars))
        if eqn.primitive.name in ("jit", "pjit"):
            results = _compiled(eqn.params["jaxpr"], jax.default_backend())(*inputs)
        else:
            results = eqn.primitive.bind(*inputs, **eqn.params)
            results = results if eqn.primitive.multiple_results else [results]
        self.known.update(zip(eqn.outvars, results, strict=True))

    def _scanned(self, eqn: JaxprEqn, result: int) -> Any:
        """A result of a scan: the last carried value, or the stack of values of all iterations."""
        scan = ScanEquation.of(eqn)
        if eqn not in self.iterations:
            self.iterations[eqn] = self._iterations(scan, eqn.invars)
        iterations, atom = self.iterations[eqn], scan.body.jaxpr.outvars[result]
        if result < scan.carried:
            return iterations[-1].of(atom)
        return np.stack(jax.device_get([values.of(atom) for values in iterations]))

    def _iterations(self, scan: ScanEquation, inputs: Sequence[Var | Literal]) -> list["_Values"]:
        constants, carry, stacks = scan.split(inputs)
        constants = [_Deferred(self, atom) for atom in constants]
        carry = [_Deferred(self, atom) for atom in carry]
        stacked = list(map(self.of, stacks))
        iterations = []
        for number in range(scan.length):
            elements = [_element(value, number) for value in stacked]
            iterations.append(_Values(scan.body, [*constants, *carry, *elements]))
            ends = scan.body.jaxpr.outvars[: scan.carried]
            carry = [_Deferred(iterations[-1], atom) for atom in ends]
        return iterations


class _Deferred(NamedTuple):
    """A value of another program, which is asked for when it is needed."""

    values: _Values
    atom: Var | Literal


def _element(value: Any, number: int) -> Any:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(value))[number]
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(value))
    return value[number]


@functools.lru_cache(256)
def _compiled(program: ClosedJaxpr, platform: str) -> Callable:
    return jax.jit(jaxpr_as_fun(program), compiler_options=COMPILER_OPTIONS.get(platform))
