"""A whole run, from a config and a directory to a result."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import ConfigError, differences, flatten, run_id
from resjax.interruption import Interrupted, Request, deferred
from resjax.models.grow import grow
from resjax.training import checkpoint, hosts, rundir
from resjax.training.checkpoint import Checkpoints, Facts
from resjax.training.claims import Claim, Claimed, claimed
from resjax.training.feeds import make_feed
from resjax.training.journal import Journal, Position
from resjax.training.left_out import record_left_out
from resjax.training.manifest import WITHOUT_EFFECT, describe_execution, versions
from resjax.training.network import Network
from resjax.training.plan import Plan, prepare
from resjax.training.state import TrainState, begin_training, create_state
from resjax.training.summary import Progress, Summary, read_summary
from resjax.training.weights import FILE as WEIGHTS_FILE
from resjax.training.weights import About, Weights, write_weights

STEPS_AHEAD, SECONDS_AHEAD = 16, 0.5
"""Of which the host may run ahead of the device, the fewer steps; at least one call."""

TELL_EVERY = 0.25
"""Seconds between two reports of the progress, if no call takes longer."""

SECONDS_TO_AGREE = 20.0
"""For several hosts, to agree on the step at which they leave; a single one saves for itself."""

IMAGES_TO_GROW_ON = 1024
"""Training images whose statistics the new blocks of a grown network start with."""


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path | str,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Trains one network and evaluates it, or reads the result of the run that did.

    A run that was interrupted, in whatever way and however often, goes on from its last checkpoint
    and ends with the same bits as one that was not. Asked to end by SIGINT or SIGTERM it saves its
    state and leaves.

    Args:
      config: as made by `default_config`.
      workdir: directory of this run; made if it does not exist.
      observe: is called with the progress a few times a second.

    Raises:
      ConfigError: before anything is written, if the config is wrong, `workdir` is another run's,
        or its data have changed since the run began.
      Claimed: if another process runs in `workdir`; a ConfigError.
      Diverged: if the training loss stops being finite; the directory then says so.
      Interrupted: if the run has left because it was asked to; a KeyboardInterrupt.
      OSError: if the disk is full; the checkpoints until then are kept.
    """
    hosts.refuse_different(flatten(config) | versions())
    plan, directory = prepare(config), Path(workdir)
    with ExitStack() as until_it_ends:
        claims: list[Claim] = []
        done = hosts.on_first(lambda: _begin(directory, config, until_it_ends, claims))
        if done is not None:
            return Summary(**done)
        request = until_it_ends.enter_context(deferred())
        try:
            summary = _Run(plan, directory, observe, request, claims).execute()
        except Diverged as error:
            if hosts.is_first():
                rundir.write_text(directory / "error.txt", f"{error}\n")
            raise
        if hosts.is_first():
            rundir.write_result(directory, summary.recorded())
            (directory / "progress.json").unlink(missing_ok=True)
    return summary


def _begin(
    directory: Path, config: ConfigDict, until_it_ends: ExitStack, claims: list[Claim]
) -> dict[str, Any] | None:
    """Makes the directory this run's and claims it; the result, if it is done already."""
    rundir.refuse_other_config(directory, config)
    if rundir.run_state(directory) != rundir.DONE:
        rundir.make_directory(directory)
        claims.append(until_it_ends.enter_context(claimed(directory)))
    if rundir.run_state(directory) == rundir.DONE:  # also by the process that had the lock before
        return read_summary(directory).recorded()
    rundir.begin_run(directory, config)
    checkpoint.remove_partial(directory)
    return None


class _Run:
    """The parts of one run while it lasts."""

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        observe: Callable[[Progress], None],
        request: Request,
        claims: list[Claim],
    ):
        self.plan, self.directory, self.request, self.claims = plan, directory, request, claims
        self.agreement = hosts.Agreement(request, plan.config.checkpoint.seconds)
        self.at = Position()
        self.journal = Journal(plan, directory, self.at, observe)
        self.state: TrainState | None = None
        self.loss: float | None = None
        self.finite = 0  # steps after which the loss was last seen to be a number
        request.rescue = self._rescue
        if plan.parallel.hosts > 1:
            request.rescue, request.patience = None, SECONDS_TO_AGREE

    def execute(self) -> Summary:
        """From the initial state, or the last checkpoint, to the result; writes all but that."""
        self._tell("compiling")
        with ExitStack() as until_it_ends:
            self.feed = make_feed(self.plan)
            until_it_ends.callback(self.feed.close)
            self.checkpoints = Checkpoints(
                self.directory, self.plan.parallel, self.plan.config.checkpoint.keep
            )
            until_it_ends.callback(self.checkpoints.close)
            until_it_ends.callback(self.journal.close)
            try:
                return self._execute()
            except Exception as error:
                with contextlib.suppress(OSError):  # the disk may be full
                    self.journal.note("stopped", why=" ".join(str(error).split()))
                raise

    def _execute(self) -> Summary:
        plan, config = self.plan, self.plan.config
        with self._timed("compile"):
            self._start_or_resume()
            compiled = self.at.seconds["compile"]
            network = self._network()
            self.probes = self._probes()
        if compiled:  # before; it counts once
            self.at.seconds["compile"] = compiled
        if plan.start and not self.at.step and not self.at.lines:
            self._record_start(network)
        for mark in plan.marks:
            if mark > self.at.evaluated:
                with self._timed("train"):
                    self._train(network, mark)
                network = self._evaluate(network, mark)
        with self._timed("eval"):
            compared = network.compare_statistics(self.state, self.at.step)
        self._save()
        self.checkpoints.wait()
        self._write_weights(network)
        self.journal.note("done")
        self.journal.write_manifest(seconds=self.at.seconds)
        return Summary(
            **self._last_evaluation(),
            **self.journal.sizes,
            **self.at.best,
            steps=self.at.step,
            seconds=self.at.seconds,
            selection=config.eval.select,
            statistics=compared,
            **self._skipped_updates(),
        )

    # ------------------------------------------------------------------------- where the run starts

    def _start_or_resume(self) -> None:
        """The state before the first step, or that of the newest checkpoint that is whole."""
        plan = self.plan
        resumed = hosts.on_first(self._newest_checkpoint)
        if resumed is not None:
            facts = Facts(**resumed["facts"])
            self.at.go_on_from(facts)
            self.finite = self.at.step
        model = plan.shallow if plan.shallow and not self.at.grown else plan.model
        state = create_state(
            model, plan.optimizer, plan.config.seed, plan.image_shape, plan.config.train.ema_decay
        )
        if resumed is None:
            self.state = plan.parallel.whole(self._started(state) if plan.start else state)
        else:
            self.state = self.checkpoints.restore(Path(resumed["path"]), facts, state)
            self.feed.set_state(facts.data["feed"])
            self._tell("compiling", _how_it_goes_on(facts, self._facts()))
        self.journal.begin()

    def _started(self, drawn: TrainState) -> TrainState:
        """The state before the first step of a run that starts from the weights of another."""
        plan, config = self.plan, self.plan.config
        seen = self.feed.first_examples("train", IMAGES_TO_GROW_ON) if plan.start.shallow else None
        variables = {"params": drawn.params, "batch_stats": drawn.batch_stats}
        key = jax.random.key(config.seed)
        images = None if seen is None else seen.images
        variables = plan.start.variables(variables, plan.model, key, images)
        dtype = drawn.metrics.loss.dtype
        return begin_training(variables, plan.optimizer, dtype, config.train.ema_decay)

    def _record_start(self, network: Network) -> None:
        """What weights that were trained before are worth before the first step."""
        with self._timed("eval"):
            # An average of no steps is nothing yet.
            clean = network.evaluate(self.state.replace(average=None), 0)
        line = {"step": 0, "epoch": 0.0, **clean}
        with self.request.uncut:
            self.at.lines.append(line)
        self._add(line)

    def _newest_checkpoint(self) -> dict[str, Any] | None:
        path, facts, complaints = checkpoint.newest(self.directory)
        for complaint in complaints:
            self._tell("compiling", complaint)
        if path is None:
            return None
        here = self._facts()
        if facts.run != here.run:
            raise ConfigError(
                f"{path} is of another run, {facts.run}; choose another directory, or remove it"
            )
        if facts.data["fingerprint"] != here.data["fingerprint"]:
            raise ConfigError(
                f"the data of {self.plan.config.data.name} have changed since {self.directory} was "
                "begun; bring back those, or choose another directory"
            )
        return {"path": str(path), "facts": dataclasses.asdict(facts)}

    def _facts(self) -> Facts:
        """Of the run as it is now."""
        return Facts(
            run=run_id(self.plan.config),
            data={
                "fingerprint": self.plan.source.fingerprint,
                "feed": self.feed.get_state(),
            },
            execution={
                key: value
                for key, value in describe_execution(self.plan).items()
                if key not in WITHOUT_EFFECT
            },
            **dataclasses.asdict(self.at),
        )

    def _network(self) -> Network:
        shallow = self.plan.shallow is not None and not self.at.grown
        model = self.plan.shallow if shallow else self.plan.model
        return Network(self.plan, model, self.state, self.feed, self._save_or_leave)

    def _probes(self) -> Any:
        from resjax.probes.record import Recorder  # what is built upon training, where it is used

        return Recorder(
            self.plan, self.directory, self.feed, self.at.evaluated, self._save_or_leave
        )

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
                self.state, self.at.step = network.steps(self.state, *given), end
            if time.monotonic() - told > TELL_EVERY:
                self.loss = self._batch_means()["loss"]
                self._tell("training")
                told = time.monotonic()
        jax.block_until_ready(self.state)

    def _evaluate(self, network: Network, mark: int) -> Network:
        """Evaluates, grows if it is time to, and records; the network that is trained on."""
        batch = self._batch_means()
        self.loss = batch["loss"]
        self._refuse_divergence()
        self._tell("evaluating")
        with self._timed("eval"):
            clean = network.evaluate(self.state, mark)
            self.probes.record(network.model, self.state, mark)
        best, state, grown = self.at.best, self.state, {}
        if self.plan.config.eval.select == "best":
            best = _better(best, clean, mark)
        if mark == self.plan.grow_at:
            with self._timed("compile"):
                state = self._grow()
                network = Network(self.plan, self.plan.model, state, self.feed, self._save_or_leave)
            with self._timed("eval"):
                after = network.evaluate(state, mark)
            grown = {f"grown_{name}": value for name, value in after.items()}
        line = self._line(mark, batch, clean | grown)
        improved = best != self.at.best
        with self.request.uncut:
            self.state = state.replace(metrics=jax.tree.map(jnp.zeros_like, state.metrics))
            self.at.evaluated, self.at.best = mark, best
            self.at.grown = self.at.grown or bool(grown)
            self.at.lines.append(line)
        self._add(line)
        if improved:
            self._save()
        return network

    def _grow(self) -> TrainState:
        """The deep net's state that computes what the shallow one does; momentum starts anew."""
        plan, state = self.plan, self.state
        seen = self.feed.first_examples("train", IMAGES_TO_GROW_ON).images
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        key = jax.random.key(plan.config.seed)
        variables = grow(variables, plan.shallow, plan.model, key, seen)
        begun = begin_training(
            variables, plan.optimizer, state.metrics.loss.dtype, plan.config.train.ema_decay
        )
        kept = {name: getattr(state, name) for name in ("step", "metrics", "skipped_updates")}
        return plan.parallel.whole(begun.replace(**kept))

    def _batch_means(self) -> dict[str, float]:
        """Of the training batches since the last evaluation that were not left out."""
        if not int(self.state.metrics.examples):
            raise Diverged(
                f"no update between {self._unknown_steps()} had a finite loss and gradient; "
                "lower optim.learning_rate"
            )
        return self.state.metrics.means()

    def _refuse_divergence(self) -> None:
        """Raises Diverged unless the loss until this step is finite."""
        loss = float(self.state.metrics.loss)
        if not math.isfinite(loss):
            rates = self.plan.rates[self.finite : self.at.step]
            saved = self.checkpoints.newest_step()
            raise Diverged(
                f"the training loss became {loss} between {self._unknown_steps()}, at a learning "
                f"rate of up to {rates.max():g}; "
                + (f"the last checkpoint is of step {saved}; " if saved else "")
                + "lower optim.learning_rate, or leave such updates out by train.on_nan=skip"
            )
        self.finite = self.at.step

    def _unknown_steps(self) -> str:
        return f"steps {self.finite + 1} and {self.at.step}"

    # -------------------------------------------------------------------------- saving and leaving

    def _save_or_leave(self) -> None:
        """Between two calls of the device: saves the state, or leaves, if it is time to."""
        settle = functools.partial(jax.block_until_ready, self.state.step)
        what = self.agreement(settle)
        if what == hosts.SAVE or self.checkpoints.failed():
            self._save()
        if what == hosts.LEAVE:
            with self.request.uncut:
                self._rescue()
                self.request.leaving = True
            raise Interrupted

    def _save(self) -> None:
        with self.request.uncut:
            self._write_checkpoint()

    def _rescue(self) -> None:
        """Saves the state of a run that is about to end, if it has one; waits until it is there."""
        if self.state is not None:
            self._write_checkpoint()
            self.checkpoints.wait()
        self.journal.note("stopped", why=self.request.name)

    def _write_checkpoint(self) -> None:
        if any(claim.lost for claim in self.claims):
            raise Claimed(
                f"{self.directory} was taken over by another process while this one stood still; "
                "leave it to that one"
            )
        if self.at.step > self.at.evaluated:
            self._refuse_divergence()
        self.journal.count("train")  # an evaluation that is cut off is done again
        self.checkpoints.save(self.state, self._facts())
        self.journal.note("saved")

    # ----------------------------------------------------------------------------- what is recorded

    def _line(self, step: int, batch: dict[str, float], clean: dict[str, float]) -> dict[str, Any]:
        line = {
            "step": step,
            "epoch": step * self.plan.config.train.batch_size / len(self.plan.source.train),
            "learning_rate": float(self.plan.rates[step - 1]),
            "batch_error": batch["error"],
            "batch_loss": batch["loss"],
            **clean,
        }
        return line | self._skipped_updates()

    def _skipped_updates(self) -> dict[str, int]:
        """Their number, where a run skips any."""
        if self.plan.config.train.on_nan != "skip":
            return {}
        return {"skipped_updates": int(self.state.skipped_updates)}

    def _last_evaluation(self) -> dict[str, float]:
        """The errors and losses of the last line; null is what is not finite."""
        names = [f"{split}_{what}" for split in self.feed.evaluated for what in ("error", "loss")]
        values = {name: self.at.lines[-1][name] for name in names}
        return {name: math.nan if value is None else value for name, value in values.items()}

    def _add(self, line: dict[str, Any]) -> None:
        self.journal.add(line, self.state)
        if hosts.is_first() and (news := record_left_out(self.directory, self.feed.left_out)):
            self._tell("evaluating", news)

    def _write_weights(self, network: Network) -> None:
        """The network of the last evaluation, for what comes after the run."""
        plan, data = self.plan, self.feed.data
        with self._timed("eval"):
            variables = network.evaluated(self.state, self.at.step)
        if hosts.is_first():
            names = plan.source.class_names
            about = About(plan.config, names, tuple(plan.image_shape), batches=self.at.step)
            weights = Weights(about, variables, data.mean, data.deviation)
            write_weights(self.directory / WEIGHTS_FILE, weights)

    def _tell(self, phase: str, note: str | None = None) -> None:
        self.journal.tell(phase, self.loss, note)

    def _timed(self, what: str) -> AbstractContextManager:
        return self.journal.timed(what)


def _how_it_goes_on(facts: Facts, here: Facts) -> str:
    """The line about a run that is resumed."""
    differing = differences(facts.execution, here.execution, "before", "now")
    return f"goes on from step {facts.step}" + (
        f"; the bits may be others, since {differing}" if differing else ""
    )


def _better(best: dict[str, float], clean: dict[str, float], step: int) -> dict[str, float]:
    """The evaluation with the lower validation error, as fields of a summary; first is best."""
    if best and best["best_validation_error"] <= clean["validation_error"]:
        return best
    errors = {f"best_{name}": clean[name] for name in clean if name.endswith("_error")}
    return {"best_step": step, **errors}
