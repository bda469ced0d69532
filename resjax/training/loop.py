"""A whole run, from a config and a directory to a result."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from resjax.config import EXECUTION_KEYS, ConfigError, flatten, run_id
from resjax.data import resident
from resjax.models.grow import grow
from resjax.models.resnet import ResNet, blocks_per_iteration
from resjax.models.summary import count_multiply_adds, count_parameters, variable_shapes
from resjax.ops import native
from resjax.training import rundir
from resjax.training.evaluation import evaluator
from resjax.training.manifest import describe_machine
from resjax.training.metrics import Metrics
from resjax.training.plan import Plan, prepare
from resjax.training.programs import program
from resjax.training.state import TrainState, create_state
from resjax.training.step import train_steps

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
    """

    train_error: float
    train_loss: float
    test_error: float
    test_loss: float
    params: int
    multiply_adds: int
    steps: int
    seconds: dict[str, float]


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
    plan, directory = prepare(config), Path(workdir)
    rundir.refuse_other_config(directory, config)
    if rundir.run_state(directory) == rundir.DONE:
        return read_summary(directory)
    rundir.make_directory(directory)
    with rundir.locked(directory):
        if rundir.run_state(directory) == rundir.DONE:  # by the process that had the lock before
            return read_summary(directory)
        rundir.begin_run(directory, config)
        try:
            summary = _Run(plan, directory, observe).execute()
        except Diverged as error:
            (directory / "error.txt").write_text(f"{error}\n", encoding="utf-8")
            raise
        rundir.write_json(directory / "result.json", dataclasses.asdict(summary))
    return summary


def read_summary(directory: Path) -> Summary:
    """The result of a run that is done; fields that this version does not know are left out.

    Raises:
      ConfigError: if it is damaged.
    """
    path = directory / "result.json"
    content = rundir.read_json(path)
    known = {field.name for field in dataclasses.fields(Summary)}
    try:
        return Summary(**{key: value for key, value in content.items() if key in known})
    except TypeError:
        missing = ", ".join(sorted(known - content.keys()))
        raise ConfigError(f"{path} lacks {missing}; remove its directory to run it again") from None


class _Run:
    """The parts of one run while it lasts."""

    def __init__(self, plan: Plan, directory: Path, observe: Callable[[Progress], None]):
        self.plan, self.directory, self.observe = plan, directory, observe
        self.seed = plan.config.seed
        self.batch_size = plan.config.train.batch_size
        self.examples = len(plan.source.train)
        self.seconds = {"compile": 0.0, "train": 0.0, "eval": 0.0}
        self.recorded = dict(self.seconds)
        self.loss: float | None = None

    def execute(self) -> Summary:
        """From the initial state to the result; writes everything but `result.json`."""
        self._tell("compiling", 0)
        source = self.plan.source
        make_statistics = resident.STATISTICS[self.plan.config.data.standardise]
        statistics = make_statistics(source.train.images)
        splits = {
            "train": resident.to_device(source.train, *statistics),
            "test": resident.to_device(source.test, *statistics),
        }
        image_shape = source.train.images.shape[1:]
        with self._timed("compile"):
            model = self.plan.shallow or self.plan.model
            state = create_state(model, self.plan.optimizer, self.seed, image_shape)
            steps, evaluate = self._compile(model, state, splits)
        variables = variable_shapes(self.plan.model, image_shape)
        sizes = {
            "params": count_parameters(variables["params"]),
            "multiply_adds": count_multiply_adds(self.plan.model, image_shape),
        }
        manifest = self._manifest() | sizes
        rundir.write_json(self.directory / "manifest.json", manifest)

        done, clean = 0, {}
        for mark in self.plan.marks:
            with self._timed("train"):
                state = self._train(steps, state, splits["train"], done, mark)
            batch = state.metrics.means()
            self.loss = batch["loss"]
            self._refuse_divergence(done, mark)
            self._tell("evaluating", mark)
            clean = self._evaluate(evaluate, state, splits)
            grown = {}
            if mark == self.plan.grow_at:
                with self._timed("compile"):
                    state = self._grow(state, splits["train"])
                    steps, evaluate = self._compile(self.plan.model, state, splits)
                after = self._evaluate(evaluate, state, splits)
                grown = {f"grown_{name}": value for name, value in after.items()}
            self._record(mark, batch, clean | grown)
            state = state.replace(metrics=Metrics.zero(state.metrics.loss.dtype))
            done = mark
        rundir.write_json(self.directory / "manifest.json", manifest | {"seconds": self.seconds})
        return Summary(**clean, **sizes, steps=done, seconds=self.seconds)

    def _manifest(self) -> dict[str, Any]:
        config, source = self.plan.config, self.plan.source
        model = self.plan.model
        execution = {key: flatten(config)[key] for key in sorted(EXECUTION_KEYS)} | {
            "steps_per_call": self.plan.steps_per_call,
            "blocks_per_iteration": [
                blocks_per_iteration(model.unroll, size - 1) for size in model.spec.stages
            ],
            "kernels": "native" if native.in_use() else "xla",
        }
        return {
            "run": run_id(config),
            **describe_machine(),
            "batch_norm_examples": self.batch_size,
            "execution": execution,
            "data": {
                "name": config.data.name,
                "fingerprint": source.fingerprint,
                "train": len(source.train),
                "test": len(source.test),
            },
        }

    def _evaluate(self, evaluate, state: TrainState, splits) -> dict[str, float]:
        with self._timed("eval"):
            means = {name: evaluate(state, split) for name, split in splits.items()}
        return {f"{name}_{key}": means[name][key] for name in means for key in means[name]}

    def _grow(self, state: TrainState, train: resident.Resident) -> TrainState:
        """The deep net's state that computes what the shallow one does; momentum starts anew."""
        seen = train.take(np.arange(min(self.examples, IMAGES_TO_GROW_ON))).images
        key = jax.random.key(self.seed)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        variables = grow(variables, self.plan.shallow, self.plan.model, key, seen)
        return state.replace(
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=self.plan.optimizer.init(variables["params"]),
        )

    def _compile(self, model: ResNet, state: TrainState, splits: dict[str, resident.Resident]):
        """The compiled training steps, and a function that evaluates a whole split."""
        train, update = splits["train"], self.plan.optimizer.update
        arguments = (state, train, *self._batches(0, 0), jax.random.key(self.seed))
        steps = program(train_steps, (model, update), arguments, donate_argnums=0)
        largest = max(len(split.labels) for split in splits.values())
        size = min(self.plan.config.eval.batch_size, largest)
        return steps, evaluator(model, state, train, size)

    def _train(self, steps, state: TrainState, train, start: int, stop: int) -> TrainState:
        told, key, reached = time.monotonic(), jax.random.key(self.seed), start
        for t in range(start, stop, self.plan.steps_per_call):
            end = min(t + self.plan.steps_per_call, stop)
            index, rates, number = self._batches(t, end)  # while the device is at work
            if t - reached >= STEPS_AHEAD:
                jax.block_until_ready(state.step)
                reached = t
            state = steps(state, train, index, rates, number, key)
            if time.monotonic() - told > TELL_EVERY:
                self.loss = state.metrics.means()["loss"]
                self._tell("training", end)
                told = time.monotonic()
        return jax.block_until_ready(state)

    def _batches(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.int32]:
        """What one call is given: indices `[k, batch]`, learning rates `[k]`, number of steps.

        Only the first stop - start rows are used.
        """
        k, number = self.plan.steps_per_call, stop - start
        index, rates = np.zeros((k, self.batch_size), np.int32), np.zeros(k, np.float32)
        for row, t in enumerate(range(start, stop)):
            index[row] = resident.training_order(self.seed, t, self.batch_size, self.examples)
        rates[:number] = self.plan.rates[start:stop]
        return index, rates, np.int32(number)

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
        rundir.append_line(self.directory / "metrics.jsonl", line)
        spent = {what: self.seconds[what] - self.recorded[what] for what in self.seconds}
        rundir.append_line(self.directory / "timing.jsonl", {"step": step, **spent})
        self.recorded = dict(self.seconds)

    def _tell(self, phase: str, step: int) -> None:
        per_epoch = self.examples / self.batch_size
        steps = self.plan.marks[-1]
        self.observe(Progress(phase, step, steps, step / per_epoch, steps / per_epoch, self.loss))

    def _timed(self, what: str) -> "_Timer":
        return _Timer(self.seconds, what)


class _Timer:
    """Adds the seconds spent inside to `seconds[what]`."""

    def __init__(self, seconds: dict[str, float], what: str):
        self.seconds, self.what = seconds, what

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.what] += time.monotonic() - self.start
