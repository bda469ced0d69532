"""The probes by name."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from resjax.config.keys import KEYS
from resjax.config.tables import Table
from resjax.probes.branches import branches
from resjax.probes.gates import gates
from resjax.probes.gradients import gradients
from resjax.probes.lesions import lesions
from resjax.probes.normalisation import normalisation
from resjax.probes.paths import path_gradients
from resjax.probes.responses import responses
from resjax.probes.surface import surface


class Probe(NamedTuple):
    """A measurement inside a network.

    Attributes:
      measure: `measure(model, variables, batch)`, a pure function to {name: array}. The first axis
        of an array is that of the blocks, in the order of the network; a scalar is for the whole
        network. The result is {} if the network has nothing of the kind.
      of_loss: whether it depends on the loss of the run, which it then takes as `loss=`.
      split: the split that the images are taken from.
      by_block: whether there are arrays by block at all.
      quantity: the quantity that all arrays hold, with its unit; empty if they differ.
    """

    measure: Callable[..., dict[str, jax.Array]]
    of_loss: bool = False
    split: str = "train"
    by_block: bool = True
    quantity: str = ""


PROBES = Table(
    "eval.probes",
    {
        "gradients": Probe(gradients, of_loss=True),
        "paths": Probe(path_gradients, of_loss=True),
        "responses": Probe(responses),
        "branches": Probe(branches),
        "gates": Probe(gates),
        "lesions": Probe(lesions, split="test", quantity="test error (fraction)"),
        "normalisation": Probe(normalisation),
        "surface": Probe(surface, of_loss=True, by_block=False),
    },
    entry="a Probe",
    fits=lambda entry: isinstance(entry, Probe),
)


def chosen(names: str, what: str) -> list[str]:
    """The names in a comma-separated list of probes, without repetitions.

    Raises:
      ConfigError: for a name that is not in the table; `what` says where it comes from.
    """
    found = KEYS["eval.probes"].names_in(names)
    for name in found:
        PROBES.choose(name, what)
    return found
