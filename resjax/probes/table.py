"""The probes by name."""

from collections.abc import Callable, Mapping
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
      labels: {array: what it holds, with its unit}, for the axes of figures. A fraction whose unit
        is % is shown in percent; an array without a label is shown under its name.
    """

    measure: Callable[..., dict[str, jax.Array]]
    of_loss: bool = False
    split: str = "train"
    by_block: bool = True
    labels: Mapping[str, str] = {}

    def label(self, array: str) -> str:
        """The label of an array."""
        return self.labels.get(array, array.replace("_", " "))

    def unit(self, array: str) -> float:
        """The factor by which an array is shown: 100 in percent."""
        return 100.0 if self.label(array).endswith("(%)") else 1.0


PROBES = Table(
    "eval.probes",
    {
        "gradients": Probe(
            gradients,
            of_loss=True,
            labels={
                "input": "gradient norm at the input",
                "parameters": "gradient norm of the parameters",
            },
        ),
        "paths": Probe(
            path_gradients,
            of_loss=True,
            labels={
                "through_shortcut": "gradient norm through the shortcut",
                "through_branch": "gradient norm through the branch",
                "shortcut_share": "share of the shortcut (%)",
            },
        ),
        "responses": Probe(
            responses,
            labels={
                "deviation": "standard deviation of the responses",
            },
        ),
        "branches": Probe(
            branches,
            labels={
                "branch_over_input": "norm of the branch over that of the input",
                "from_identity": "distance from the identity over norm of the input",
                "branch_over_shortcut": "norm of the branch over that of the shortcut",
            },
        ),
        "gates": Probe(
            gates,
            labels={
                "openness": "mean openness of the gate (%)",
                "deviation": "standard deviation of openness (%)",
            },
        ),
        "lesions": Probe(
            lesions,
            split="test",
            labels={
                "deleted": "test error without the block (%)",
                "swapped": "test error, swapped with the next block (%)",
            },
        ),
        "normalisation": Probe(
            normalisation,
            labels={
                "batch_mean": "deviation of the batch mean (sd)",
                "batch_var": "deviation of the batch variance (log)",
                "running_mean": "deviation of the running mean (sd)",
                "running_var": "deviation of the running variance (log)",
                "dead": "dead channels (%)",
            },
        ),
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
