"""The probes by name."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from resjax.config import choose
from resjax.probes.branches import branches
from resjax.probes.gates import gates
from resjax.probes.gradients import gradients
from resjax.probes.lesions import lesions
from resjax.probes.normalisation import normalisation
from resjax.probes.paths import path_gradients
from resjax.probes.responses import responses
from resjax.probes.surface import surface


class Probe(NamedTuple):
    """A subject and how it is measured.

    Attributes:
      measure: `measure(model, variables, batch)`, a pure function to {name: array}; the first axis
        of an array is that of the blocks, in the order of the network, and a number is of the whole
        network. Empty if the network has nothing of the kind.
      split: that the images are of.
      by_block: whether there are arrays by block at all.
      quantity: what all its arrays are of, with the unit, if they are of one.
    """

    measure: Callable[..., dict[str, jax.Array]]
    split: str = "train"
    by_block: bool = True
    quantity: str = ""


PROBES: dict[str, Probe] = {
    "gradients": Probe(gradients),
    "paths": Probe(path_gradients),
    "responses": Probe(responses),
    "branches": Probe(branches),
    "gates": Probe(gates),
    "lesions": Probe(lesions, split="test", quantity="test error (fraction)"),
    "normalisation": Probe(normalisation),
    "surface": Probe(surface, by_block=False),
}


def chosen(names: str, what: str) -> list[str]:
    """The probes in a list with commas; none if it is empty.

    Raises:
      ConfigError: for a name that is not in the table; `what` says where it comes from.
    """
    found = [name.strip() for name in names.split(",") if name.strip()]
    for name in found:
        choose(PROBES, name, what)
    return list(dict.fromkeys(found))
