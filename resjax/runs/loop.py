"""The loop of a run: trains, evaluates, saves, and leaves when it is asked to."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from resjax.interruption import Interrupted, Request
from resjax.runs.begin import grow_all, start_or_resume
from resjax.runs.member import Diverged, Member
from resjax.runs.summary import Summary
from resjax.training import hosts
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.plan import Plan
from resjax.training.state import TrainState

STEPS_AHEAD, SECONDS_AHEAD = 16, 0.5
"""Most that the host dispatches ahead of the device: 16 steps or 0.5 s, whichever is less.

It is one call at least.
"""

TELL_EVERY = 0.25
"""Least seconds between two reports of the progress."""

SECONDS_TO_AGREE = 20.0
"""Seconds that several hosts have to agree on the step at which they leave.

A single host needs no agreement and saves its state by itself.
"""


class Training:
    """Training of the runs in the lanes of one program, from where they are to their ends.

    All runs are at the same step. A lane without a run computes on a copy of another's state; the
    lane of a run that has failed keeps computing on whatever its state is by then.
    """

    def __init__(self, plan: Plan, members: list[Member], request: Request):
        self.plan, self.members, self.request = plan, members, request
        self.agreement = hosts.Agreement(request, plan.config.checkpoint.seconds)
        self.state: TrainState | None = None
        request.rescue = self._rescue
        if plan.parallel.hosts > 1:
            request.rescue, request.patience = None, SECONDS_TO_AGREE

    def execute(self) -> dict[Path, Summary]:
        """Trains from the initial state, or the last checkpoint, to the end; returns the results.

        It writes all files of the runs but those of the results.
        """
        self._tell("compiling")
        with ExitStack() as until_it_ends:
            self.feed = make_feed(self.plan)
            until_it_ends.callback(self.feed.close)
            for member in self.members:
                member.open(self.feed, until_it_ends)
            try:
                return self._execute()
            except Diverged:
                return {}
            except Exception as error:
                with contextlib.suppress(OSError):  # the disk may be full
                    for member in self.members:
                        member.stopped(error)
                raise

    def _execute(self) -> dict[Path, Summary]:
        with self._timed("compile"):
            self.members, self.state = start_or_resume(self.plan, self.members, self.feed)
            compiled = [member.at.seconds["compile"] for member in self.members]
            for member in self.members:
                member.journal.begin()
            network = self._network()
            for member in self.members:
                member.recorder = self._recorder(member)
        for member, before in zip(self.members, compiled, strict=True):
            if before:  # it counts once
                member.at.seconds["compile"] = before
        if self.plan.start and not self.at.step and not self.at.lines:
            self._record_start(network)
        for mark in self.plan.marks:
            if mark > self.at.evaluated:
                with self._timed("train"):
                    self._train(network, mark)
                network = self._evaluate(network, mark)
        with self._timed("eval"):
            compared = network.compare_statistics(self.state, self.at.step)
            variables = self.plan.lanes.split(network.evaluated(self.state, self.at.step))
        self._save()
        summaries = {}
        for member, state in self._states():
            member.checkpoints.wait()
            member.write_weights(variables[member.lane])
            summaries[member.directory] = member.end(compared[member.lane], state)
        return summaries

    @property
    def at(self) -> Any:
        """Position that all runs are at."""
        return self.members[0].at

    def _states(self) -> list[tuple[Member, TrainState]]:
        """Pairs each run with its state, which is on the host if there are several."""
        states = self.plan.lanes.split(self.state)
        return [(member, states[member.lane]) for member in self.members]

    def _record_start(self, network: Network) -> None:
        """Evaluates and records, before the first step, the weights that the runs start from."""
        with self._timed("eval"):
            clean = network.evaluate(_without_average(self.state), 0)
        lines = [{"step": 0, "epoch": 0.0, **clean[member.lane]} for member in self.members]
        with self.request.uncut:
            for member, line in zip(self.members, lines, strict=True):
                member.at.lines.append(line)
        for (member, state), line in zip(self._states(), lines, strict=True):
            member.add(line, state)

    def _network(self) -> Network:
        shallow = self.plan.shallow is not None and not self.at.grown
        model = self.plan.shallow if shallow else self.plan.model
        return Network(self.plan, model, self.state, self.feed, self._save_or_leave)

    def _recorder(self, member: Member) -> Any:
        from resjax.probes.record import Recorder  # built upon training, so imported where used

        at = member.at.evaluated
        return Recorder(member.plan, member.directory, self.feed, at, self._save_or_leave)

    # ------------------------------------------------------------------------ training, evaluating

    def _train(self, network: Network, stop: int) -> None:
        ahead, reached, since = 1, self.at.step, time.monotonic()
        told = since
        while (start := self.at.step) < stop:
            end = min(start + self.plan.steps_per_call, stop)
            self._save_or_leave()
            given = network.arguments(start, end)  # while the device is at work
            if start - reached >= ahead:
                jax.block_until_ready(self.state.step)
                each = (time.monotonic() - since) / (start - reached)
                ahead = min(max(1, int(SECONDS_AHEAD / each)), STEPS_AHEAD)
                reached, since = start, time.monotonic()
            with self.request.uncut:
                self.state = network.steps(self.state, *given)
                for member in self.members:
                    member.at.step = end
            if time.monotonic() - told > TELL_EVERY:
                self._look(Member.look_at)
                self._tell("training")
                told = time.monotonic()
        jax.block_until_ready(self.state)

    def _evaluate(self, network: Network, mark: int) -> Network:
        """Evaluates, records, and grows if it is time to; returns the network to train on."""
        plan = self.plan
        self._look(Member.look_at)
        self._look(Member.refuse_divergence)
        self._tell("evaluating")
        with self._timed("eval"):
            clean = network.evaluate(self.state, mark)
            for member, state in self._states():
                member.recorder.record(network.model, state, mark)
        state = self.state
        if mark == plan.grow_at:
            with self._timed("compile"):
                state = grow_all(plan, self._states(), self.feed)
                network = Network(plan, plan.model, state, self.feed, self._save_or_leave)
            with self._timed("eval"):
                grown = network.evaluate(_without_average(state), mark)
                for own, after in zip(clean, grown, strict=True):
                    own |= {f"grown_{name}": value for name, value in after.items()}
        state = state.replace(metrics=jax.tree.map(jnp.zeros_like, state.metrics))
        improved = False
        with self.request.uncut:
            for member, own in self._states():
                improved |= member.evaluated(mark, clean[member.lane], own)
            self.state = state
        for member, own in self._states():
            member.add(member.at.lines[-1], own)
        if improved:
            self._save()
        return network

    def _look(self, look: Callable[[Member, Any], None]) -> None:
        """Calls `look` with the metrics of each run, and drops the runs that have diverged.

        Raises:
          Diverged: if none is left.
        """
        metrics = self.plan.lanes.split(self.state.metrics)
        for member in list(self.members):
            try:
                look(member, metrics[member.lane])
            except Diverged as error:
                member.fail(error)
                left = [other for other in self.members if other is not member]
                if not left:
                    raise
                self.members = left

    # -------------------------------------------------------------------------- saving and leaving

    def _save_or_leave(self) -> None:
        """Saves the state, or saves and leaves, if it is time to; called between device calls."""
        settle = functools.partial(jax.block_until_ready, self.state.step)
        what = self.agreement(settle)
        if what == hosts.SAVE or any(member.checkpoints.failed() for member in self.members):
            self._save()
        if what == hosts.LEAVE:
            with self.request.uncut:
                self._rescue()
                self.request.leaving = True
            raise Interrupted

    def _save(self) -> None:
        with self.request.uncut:
            self._write_checkpoints()

    def _rescue(self) -> None:
        """Saves the state of runs that are about to end, if there is one, and waits for that."""
        if self.state is not None:
            self._write_checkpoints()
            for member in self.members:
                member.checkpoints.wait()
        for member in self.members:
            member.journal.note("stopped", why=self.request.name)

    def _write_checkpoints(self) -> None:
        if self.at.step > self.at.evaluated:
            self._look(Member.refuse_divergence)
        for member, state in self._states():
            member.save(state)

    def _tell(self, phase: str) -> None:
        for member in self.members:
            member.tell(phase)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        """Counts the seconds spent inside, an equal share for each run."""
        with ExitStack() as until_it_ends:
            for member in self.members:
                member.journal.share = 1 / len(self.members)
                until_it_ends.enter_context(member.journal.timed(what))
            yield


def _without_average(state: TrainState) -> TrainState:
    """Drops the moving average, which has no steps yet, so that the parameters are evaluated."""
    return state.replace(average=None)
