"""Weights from which a run starts instead of random ones: another network's, grown if necessary."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from resjax.models.grow import grow
from resjax.models.resnet import ResNet


@dataclasses.dataclass(frozen=True)
class Start:
    """The weights that a run starts from.

    Attributes:
      name: where they are, as a person names it.
      read: returns their {"params", "batch_stats"}.
      shallow: network of the weights, if it is to be grown before the first step.
      classes: number of outputs that the weights have, if it differs and the head is drawn anew; 0
        if they have no head.
    """

    name: str
    read: Callable[[], dict[str, Any]]
    shallow: ResNet | None = None
    classes: int | None = None

    def variables(self, drawn: Any, deep: ResNet, key: jax.Array, images: jax.Array | None) -> Any:
        """The {"params", "batch_stats"} of the network before the first step.

        Args:
          drawn: variables that it would start with otherwise; a new head is taken from them.
          deep: network to grow to.
          key: random key that new blocks are drawn from.
          images: images to measure the statistics of new blocks on; see `grow`.
        """
        variables = self.read()
        if self.classes is not None:
            variables["params"] = variables["params"] | {"head": drawn["params"]["head"]}
        if self.shallow is not None:
            variables = grow(variables, self.shallow, deep, key, images)
        return variables


FindStart = Callable[[str, ResNet, tuple[int, int, int], bool], Start]
"""Function that finds the weights that a run starts from; see `resjax.runs.start.find_start`."""
