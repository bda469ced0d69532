"""Divergence of a run: its training loss, and the error if that is not finite."""

import math
from collections.abc import Callable

import numpy as np

from resjax.training.metrics import Metrics


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


class LossWatch:
    """The training loss of a run, checked now and then.

    Args:
      rates: learning rate of every step.

    Attributes:
      finite: number of steps after which the loss was last seen to be a finite number.
      batch: mean error and loss over the training batches since the last evaluation, when last
        looked at; empty before.
    """

    def __init__(self, rates: np.ndarray):
        self.rates, self.finite = rates, 0
        self.batch: dict[str, float] = {}

    def look_at(self, metrics: Metrics, step: int) -> None:
        """Reads the metrics of the training batches since the last evaluation, after `step` steps.

        Raises:
          Diverged: if the updates by all of them were skipped.
        """
        if not int(metrics.examples):
            raise Diverged(
                f"no update between {self._unknown_until(step)} had a finite loss and gradient; "
                "lower optim.learning_rate"
            )
        self.batch = {name: float(value) for name, value in metrics.means().items()}

    def refuse_divergence(
        self, metrics: Metrics, step: int, newest: Callable[[], int | None]
    ) -> None:
        """Raises Diverged unless the loss until `step` is finite.

        `newest` returns the step of the newest checkpoint, if there is one.
        """
        loss = float(metrics.loss)
        if not math.isfinite(loss):
            saved = newest()
            raise Diverged(
                f"the training loss became {loss} between {self._unknown_until(step)}, at a "
                f"learning rate of up to {self.rates[self.finite : step].max():g}; "
                + (f"the last checkpoint is of step {saved}; " if saved else "")
                + "lower optim.learning_rate, or leave such updates out by train.on_nan=skip"
            )
        self.finite = step

    def _unknown_until(self, step: int) -> str:
        return f"steps {self.finite + 1} and {step}"
