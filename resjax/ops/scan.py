"""The parts of a scan in a traced program, whose parameters differ between versions of jax."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from jax.extend.core import ClosedJaxpr, JaxprEqn

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ScanEquation:
    """An equation of `jax.lax.scan`.

    Its inputs are constants, initial values of what is carried, and stacks of elements; its results
    are the last values of what is carried, and stacks of elements.

    Attributes:
      body: the program of one iteration, from constants, carried values and elements to carried
        values and elements.
      length: number of iterations.
      constants: number of inputs that all iterations share.
      carried: number of values that an iteration hands to the next.
      backwards: whether the last elements come first.
      unroll: iterations of the scan in one iteration of the compiled loop.
    """

    body: ClosedJaxpr
    length: int
    constants: int
    carried: int
    backwards: bool
    unroll: int

    @classmethod
    def of(cls, eqn: JaxprEqn) -> "ScanEquation":
        """Reads an equation whose primitive is `scan`."""
        params = eqn.params
        if "num_carry" in params:
            constants, carried = params["num_consts"], params["num_carry"]
        else:  # since jax 0.11
            constants, carried, _ = map(len, params["ft_in"].unpack())
        return cls(
            params["jaxpr"], params["length"], constants, carried, params["reverse"],
            params["unroll"],
        )  # fmt: skip

    def split(self, inputs: Sequence[T]) -> tuple[list[T], list[T], list[T]]:
        """Splits the inputs of the scan or of its body: constants, carried values, the rest."""
        first = self.constants + self.carried
        constants, carried = inputs[: self.constants], inputs[self.constants : first]
        return list(constants), list(carried), list(inputs[first:])
