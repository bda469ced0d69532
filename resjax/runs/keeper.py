"""Saving of a run's state during training: from time to time, and before the run stops."""

import functools
from collections.abc import Callable

import jax

from resjax.interruption import Interrupted, Request
from resjax.runs.group import RunGroup
from resjax.runs.run import OpenRun
from resjax.training import hosts
from resjax.training.state import TrainState

SECONDS_TO_AGREE = 20.0
"""Seconds for several hosts to agree on the step at which they stop.

A single host needs no agreement and saves its state by itself.
"""


class Keeper:
    """The current state of a run, and the decision when to save it.

    Args:
      run: the run, or several side by side.
      request: request to end the process, whose `rescue` saves the state.
    """

    def __init__(self, run: OpenRun | RunGroup, request: Request):
        self.run, self.request = run, request
        self._state: TrainState | None = None
        self.agreement = hosts.Agreement(request, run.plan.config.checkpoint.seconds)
        request.rescue = self._rescue
        if run.plan.parallel.hosts > 1:
            request.rescue, request.patience = None, SECONDS_TO_AGREE

    @property
    def state(self) -> TrainState:
        """The state, which agrees with `run.at`; there is one once the run has started."""
        assert self._state is not None, "the run has not started"
        return self._state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._state = state

    def move(self, steps: Callable[..., TrainState], arguments: tuple, stop: int) -> None:
        """Advances the state by a call of the training steps, the last of them `stop - 1`."""
        with self.request.uncut:
            self.state = steps(self.state, *arguments)
            self.run.at_step(stop)

    def save_or_leave(self) -> None:
        """Saves the state, or saves and stops, if it is due; called between device calls.

        Raises:
          Interrupted: if the run is asked to leave.
        """
        settle = functools.partial(jax.block_until_ready, self.state.step)
        what = self.agreement(settle)
        if what == hosts.SAVE or self.run.failed_to_save():
            self.save()
        if what == hosts.LEAVE:
            with self.request.uncut:
                self._rescue()
                self.request.leaving = True
            raise Interrupted

    def save(self) -> None:
        """Starts to write a checkpoint of the state."""
        with self.request.uncut:
            self._write()

    def _rescue(self) -> None:
        """Saves the state of a run that is about to end, if there is one, and waits for it."""
        if self._state is not None:
            self._write()
            self.run.wait()
        self.run.note("stopped", why=self.request.name)

    def _write(self) -> None:
        if self.run.at.step > self.run.at.evaluated:
            self.run.refuse_divergence(self.state.metrics)
        self.run.save(self.state)
