"""Training of a run from its config to its result: the loop, and the order of its steps.

From evaluation to evaluation the state is moved by calls of some steps each; after an evaluation
come its line, probes, growth if it is due, and a checkpoint if it was the best.
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from resjax import process
from resjax.config import flatten, use_own_values
from resjax.config.paths import place
from resjax.interruption import deferred
from resjax.runs.group import RunGroup, run_of
from resjax.runs.keeper import Keeper
from resjax.runs.manifest import versions
from resjax.runs.opening import open_directory
from resjax.runs.plans import Plans
from resjax.runs.run import OpenRun
from resjax.runs.scratch import workplace
from resjax.runs.summary import Progress, Summary
from resjax.runs.sync import refresh
from resjax.training import hosts
from resjax.training.network import Network
from resjax.training.plan import Plan

CALLS_AHEAD, SECONDS_AHEAD = 16, 0.5
"""Limits on how far the host dispatches ahead of the device: 16 calls or 0.5 s, whichever is less.

It is one call at least.
"""

SECONDS_BETWEEN_REPORTS = 0.25
"""Minimum seconds between two reports of the progress."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path | str,
    observe: Callable[[Progress], None] = lambda progress: None,
    plans: Plans | None = None,
) -> Summary:
    """Trains one network and evaluates it, or reads the result if the run is done.

    A run that was interrupted, in whatever way and however often, resumes from its last checkpoint
    and ends with the same bits as one that was not. If a signal asks it to end, it saves its state
    and leaves.

    Args:
      config: config of the run, as made by `default_config`.
      workdir: directory of this run; made if it does not exist. Or an address in a bucket.
      observe: called with the progress a few times a second.
      plans: those that are made already.

    Raises:
      ConfigError: before anything is written, if the config is wrong, `workdir` is another run's,
        or its data have changed since the run began.
      Claimed: if another process runs in `workdir`; a ConfigError.
      Diverged: if the training loss stops being finite; the directory then says so.
      Interrupted: if the run has left because it was asked to; a KeyboardInterrupt.
      NoRoom: if the disk is full, or the quota used up; the checkpoints until then are kept.
    """
    plan = plan_of(config, plans or Plans())
    directory = Path(hosts.on_first(lambda: str(workplace(place(workdir)))))
    hosts.on_first(lambda: refresh([directory]))
    with open_directory(directory, config, observe) as opened:
        return opened.result or fit(run_of(plan, [opened]))[directory]


def plan_of(config: ConfigDict, plans: Plans) -> Plan:
    """Makes the plan of a run that is about to start in this process, the same on every host."""
    use_own_values(config)
    process.set_up()
    hosts.refuse_different(flatten(config) | versions())
    return plans.of(config)


def fit(run: OpenRun | RunGroup) -> dict[Path, Summary]:
    """Trains a run, or several side by side, from their current state to the end.

    Returns:
      {directory: result}, which is also written, of each that has not failed.

    Raises:
      Diverged: if all have failed.
    """
    plan = run.plan
    with deferred() as request, run.opened() as feed:
        keeper = Keeper(run, request)
        with run.starting():
            keeper.state = run.start(keeper.save_or_leave)
            model = plan.shallow if plan.shallow and not run.at.grown else plan.model
            network = Network(plan, model, keeper.state, feed, keeper.save_or_leave)
            network.compile_evaluation()
        if plan.start and not run.at.step and not run.at.lines:
            with run.timed("eval"):
                found = network.evaluate(keeper.state, 0)
            with request.uncut:
                run.add_start(found)
                run.write_line(keeper.state)
        for mark in plan.marks:
            if mark > run.at.evaluated:
                with run.timed("train"):
                    _train(run, network, keeper, mark)
                network = _evaluate(run, network, keeper, mark)
        with run.timed("eval"):
            compared = network.compare_statistics(keeper.state, run.at.step)
            variables = network.evaluated(keeper.state, run.at.step)
        keeper.save()
        results = run.end(keeper.state, variables, compared)
    run.write_results(results)
    return results


def _train(run: OpenRun | RunGroup, network: Network, keeper: Keeper, stop: int) -> None:
    """Takes training steps until `stop` have been taken.

    Before the host waits for the device, as it is far ahead or to read the loss, it makes the
    arguments of the next call.
    """

    def prepared() -> tuple[tuple, int] | None:
        """Arguments and end of the next call, made while the device is at work; None at `stop`."""
        start = run.at.step
        if start == stop:
            return None
        keeper.save_or_leave()
        end = min(start + run.plan.steps_per_call, stop)
        return network.arguments(start, end), end

    ahead, calls, since = 1, 0, time.monotonic()
    reported = since
    call = prepared()
    while call:
        keeper.move(network.steps, *call)
        calls, call = calls + 1, prepared()
        if calls == ahead:
            jax.block_until_ready(keeper.state.step)
            each = (time.monotonic() - since) / calls
            ahead = min(max(1, int(SECONDS_AHEAD / each)), CALLS_AHEAD)
            calls, since = 0, time.monotonic()
        if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            metrics = keeper.state.metrics
            if np.all(metrics.examples):  # skipped updates end a run at an evaluation, not now
                run.look_at(metrics)
            run.report_progress("training")
            reported = time.monotonic()
    jax.block_until_ready(keeper.state)


def _evaluate(run: OpenRun | RunGroup, network: Network, keeper: Keeper, mark: int) -> Network:
    """Evaluates, records, and grows if it is due; returns the network to train further."""
    plan, state = run.plan, keeper.state
    run.look_at(state.metrics)
    run.refuse_divergence(state.metrics)
    run.report_progress("evaluating")
    with run.timed("eval"):
        found = network.evaluate(state, mark)
        run.probe(network.model, state)
    if mark == plan.grow_at:
        with run.timed("compile"):
            state = run.grow(state)
            network = Network(plan, plan.model, state, network.feed, keeper.save_or_leave)
            network.compile_evaluation()
        with run.timed("eval"):
            grown = network.evaluate(state, mark)
            found |= {f"grown_{name}": value for name, value in grown.items()}
    state = state.replace(metrics=jax.tree.map(jnp.zeros_like, state.metrics))
    with keeper.request.uncut:
        improved = run.add_evaluation(found, state)
        keeper.state = state
        run.write_line(state)  # with histograms, which a checkpoint of the evaluation lacks
    if improved:
        keeper.save()
    return network
