"""A whole run, from a config and a directory to a result."""

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import EXECUTION_KEYS, ConfigError, flatten, run_id
from resjax.models.grow import grow
from resjax.models.resnet import blocks_per_iteration
from resjax.models.summary import count_multiply_adds, count_parameters, variable_shapes
from resjax.ops import native
from resjax.training import hosts, rundir
from resjax.training.feeds import Feed, make_feed
from resjax.training.left_out import record_left_out
from resjax.training.manifest import describe_machine, versions
from resjax.training.network import Network
from resjax.training.plan import Plan, prepare
from resjax.training.state import TrainState, begin_training, create_state

STEPS_AHEAD = 16
"""Steps that the host may run ahead of the device, whose progress it shows; at least one call."""

TELL_EVERY = 0.25
"""Seconds between two reports of the progress, if no call takes longer."""

IMAGES_TO_GROW_ON = 1024
"""Training images whose statistics the new blocks of a grown network start with."""


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a run is doing: told to the observer of `train_and_evaluate` a few times a second.

    Attributes:
      phase: compiling, training or evaluating.
      step, steps: taken, and in all.
      epoch, epochs: the same in passes over the training set.
      loss: mean over the training batches since the last evaluation, None before the first.
    """

    phase: str
    step: int
    steps: int
    epoch: float
    epochs: float
    loss: float | None


@dataclasses.dataclass(frozen=True)
class Summary:
    """The outcome of a run, as in `result.json`.

    Attributes:
      train_error, train_loss, test_error, test_loss: of a clean evaluation of the whole split after
        the last step; errors are fractions, losses nats per example.
      params: number of parameters.
      multiply_adds: of a forward pass of one image.
      steps: training steps taken.
      seconds: {"compile", "train", "eval"}.
      validation_error, validation_loss: likewise, if a validation split was asked for.
      selection: which evaluation is the run's answer, as `eval.select` says: final, or best, that
        with the lowest validation error (the first such).
      best_step: steps taken at the best evaluation; all with `best_` are None unless selected.
      best_train_error, best_validation_error, best_test_error: of the best evaluation.
      statistics: where precise statistics were measured, the same errors and losses by what
        evaluation normalised by: {"batch", "running", "precise"}.
    """

    train_error: float
    train_loss: float
    test_error: float
    test_loss: float
    params: int
    multiply_adds: int
    steps: int
    seconds: dict[str, float]
    validation_error: float | None = None
    validation_loss: float | None = None
    selection: str = "final"
    best_step: int | None = None
    best_train_error: float | None = None
    best_validation_error: float | None = None
    best_test_error: float | None = None
    statistics: dict[str, dict[str, float]] | None = None


def train_and_evaluate(
    config: ConfigDict,
    workdir: Path | str,
    observe: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Trains one network and evaluates it, or reads the result of the run that did.

    Args:
      config: as made by `default_config`.
      workdir: directory of this run; made if it does not exist.
      observe: is called with the progress a few times a second.

    Raises:
      ConfigError: before anything is written, if the config is wrong or `workdir` is another run's.
      Diverged: if the training loss stops being finite; the directory then says so.
    """
    hosts.refuse_different(flatten(config) | versions())
    plan, directory = prepare(config), Path(workdir)
    with ExitStack() as until_it_ends:
        done = hosts.on_first(lambda: _begin(directory, config, until_it_ends))
        if done is not None:
            return Summary(**done)
        try:
            summary = _Run(plan, directory, observe).execute()
        except Diverged as error:
            if hosts.is_first():
                (directory / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            raise
        if hosts.is_first():
            rundir.write_json(directory / "result.json", _recorded(summary))
    return summary


def _begin(directory: Path, config: ConfigDict, until_it_ends: ExitStack) -> dict[str, Any] | None:
    """Makes the directory this run's and keeps others out; the result, if it is done already."""
    rundir.refuse_other_config(directory, config)
    if rundir.run_state(directory) != rundir.DONE:
        rundir.make_directory(directory)
        until_it_ends.enter_context(rundir.locked(directory))
    if rundir.run_state(directory) == rundir.DONE:  # also by the process that had the lock before
        return _recorded(read_summary(directory))
    rundir.begin_run(directory, config)
    return None


def _recorded(summary: Summary) -> dict[str, Any]:
    fields = dataclasses.asdict(summary)
    return {key: value for key, value in fields.items() if value is not None}


def read_summary(directory: Path) -> Summary:
    """The result of a run that is done; fields that this version does not know are left out.

    Raises:
      ConfigError: if it is damaged.
    """
    path = directory / "result.json"
    content = rundir.read_json(path)
    fields = dataclasses.fields(Summary)
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if missing := ", ".join(sorted(needed - content.keys())):
        raise ConfigError(f"{path} lacks {missing}; remove its directory to run it again")
    known = {field.name for field in fields}
    return Summary(**{key: value for key, value in content.items() if key in known})


class _Run:
    """The parts of one run while it lasts."""

    def __init__(self, plan: Plan, directory: Path, observe: Callable[[Progress], None]):
        self.plan, self.directory, self.observe = plan, directory, observe
        self.batch_size = plan.config.train.batch_size
        self.examples = len(plan.source.train)
        self.seconds = {"compile": 0.0, "train": 0.0, "eval": 0.0}
        self.recorded = dict(self.seconds)
        self.loss: float | None = None

    def execute(self) -> Summary:
        """From the initial state to the result; writes everything but `result.json`."""
        self._tell("compiling", 0)
        feed = make_feed(self.plan)
        try:
            return self._execute(feed)
        finally:
            feed.close()

    def _execute(self, feed: Feed) -> Summary:
        plan, config = self.plan, self.plan.config
        with self._timed("compile"):
            model = plan.shallow or plan.model
            state = create_state(
                model, plan.optimizer, config.seed, plan.image_shape, config.train.ema_decay
            )
            state = plan.parallel.whole(state)
            network = Network(plan, model, state, feed)
        variables = variable_shapes(plan.model, plan.image_shape)
        sizes = {
            "params": count_parameters(variables["params"]),
            "multiply_adds": count_multiply_adds(plan.model, plan.image_shape),
        }
        manifest = self._manifest() | sizes
        self._write_manifest(manifest)

        done, clean, best = 0, {}, {}
        for mark in plan.marks:
            with self._timed("train"):
                state = self._train(network, state, done, mark)
            batch = state.metrics.means()
            self.loss = batch["loss"]
            self._refuse_divergence(done, mark)
            self._tell("evaluating", mark)
            with self._timed("eval"):
                clean = network.evaluate(state, mark)
            if config.eval.select == "best":
                best = _better(best, clean, mark)
            grown = {}
            if mark == plan.grow_at:
                with self._timed("compile"):
                    state = self._grow(state, feed)
                    network = Network(plan, plan.model, state, feed)
                with self._timed("eval"):
                    after = network.evaluate(state, mark)
                grown = {f"grown_{name}": value for name, value in after.items()}
            self._record(mark, batch, clean | grown)
            left_out = record_left_out(self.directory, feed.left_out)
            state = state.replace(metrics=jax.tree.map(jnp.zeros_like, state.metrics))
            done = mark
        with self._timed("eval"):
            compared = network.compare_statistics(state, done)
        if left_out:
            manifest["data"] |= {"left_out": left_out}
        self._write_manifest(manifest | {"seconds": self.seconds})
        return Summary(
            **clean,
            **sizes,
            **best,
            steps=done,
            seconds=self.seconds,
            selection=config.eval.select,
            statistics=compared,
        )

    def _write_manifest(self, manifest: dict[str, Any]) -> None:
        if hosts.is_first():
            rundir.write_json(self.directory / "manifest.json", manifest)

    def _manifest(self) -> dict[str, Any]:
        config, source = self.plan.config, self.plan.source
        model = self.plan.model
        execution = {key: flatten(config)[key] for key in sorted(EXECUTION_KEYS)} | {
            "steps_per_call": self.plan.steps_per_call,
            "devices": self.plan.parallel.count,
            "hosts": self.plan.parallel.hosts,
            "blocks_per_iteration": [
                blocks_per_iteration(model.unroll, size - 1) for size in model.spec.stages
            ],
            "kernels": "native" if native.in_use() else "xla",
        }
        return {
            "run": run_id(config),
            **describe_machine(),
            "batch_norm_examples": self.plan.batch_norm_examples,
            "execution": execution,
            "data": {
                "name": config.data.name,
                "fingerprint": source.fingerprint,
                **{name: len(split) for name, split in source.splits.items()},
            },
        }

    def _grow(self, state: TrainState, feed: Feed) -> TrainState:
        """The deep net's state that computes what the shallow one does; momentum starts anew."""
        seen = feed.first_images(IMAGES_TO_GROW_ON)
        key = jax.random.key(self.plan.config.seed)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        variables = grow(variables, self.plan.shallow, self.plan.model, key, seen)
        begun = begin_training(
            variables,
            self.plan.optimizer,
            state.metrics.loss.dtype,
            self.plan.config.train.ema_decay,
        )
        return self.plan.parallel.whole(begun.replace(step=state.step, metrics=state.metrics))

    def _train(self, network: Network, state: TrainState, start: int, stop: int) -> TrainState:
        told, reached = time.monotonic(), start
        for t in range(start, stop, self.plan.steps_per_call):
            end = min(t + self.plan.steps_per_call, stop)
            given = network.arguments(t, end)  # while the device is at work
            if t - reached >= STEPS_AHEAD:
                jax.block_until_ready(state.step)
                reached = t
            state = network.steps(state, *given)
            if time.monotonic() - told > TELL_EVERY:
                self.loss = state.metrics.means()["loss"]
                self._tell("training", end)
                told = time.monotonic()
        return jax.block_until_ready(state)

    def _refuse_divergence(self, start: int, stop: int) -> None:
        if not math.isfinite(self.loss):
            raise Diverged(
                f"the training loss became {self.loss} between steps {start + 1} and {stop}, at a "
                f"learning rate of up to {self.plan.rates[start:stop].max():g}; "
                "lower optim.learning_rate"
            )

    def _record(self, step: int, batch: dict[str, float], clean: dict[str, float]) -> None:
        line = {
            "step": step,
            "epoch": step * self.batch_size / self.examples,
            "learning_rate": float(self.plan.rates[step - 1]),
            "batch_error": batch["error"],
            "batch_loss": batch["loss"],
            **clean,
        }
        spent = {what: self.seconds[what] - self.recorded[what] for what in self.seconds}
        if hosts.is_first():
            rundir.append_line(self.directory / "metrics.jsonl", line)
            rundir.append_line(self.directory / "timing.jsonl", {"step": step, **spent})
        self.recorded = dict(self.seconds)

    def _tell(self, phase: str, step: int) -> None:
        per_epoch = self.examples / self.batch_size
        steps = self.plan.marks[-1]
        self.observe(Progress(phase, step, steps, step / per_epoch, steps / per_epoch, self.loss))

    def _timed(self, what: str) -> "_Timer":
        return _Timer(self.seconds, what)


def _better(best: dict[str, float], clean: dict[str, float], step: int) -> dict[str, float]:
    """The evaluation with the lower validation error, as fields of a summary; first is best."""
    if best and best["best_validation_error"] <= clean["validation_error"]:
        return best
    errors = {f"best_{name}": clean[name] for name in clean if name.endswith("_error")}
    return {"best_step": step, **errors}


class _Timer:
    """Adds the seconds spent inside to `seconds[what]`."""

    def __init__(self, seconds: dict[str, float], what: str):
        self.seconds, self.what = seconds, what

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.what] += time.monotonic() - self.start
