"""One network of a run on its devices: what is compiled of it, and how it is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from resjax.data.resident import Resident, training_epochs, training_order
from resjax.models.resnet import ResNet
from resjax.training.evaluation import Evaluator, Measurer, measuring
from resjax.training.plan import Plan
from resjax.training.state import TrainState
from resjax.training.step import train_steps

Splits = dict[str, Resident]
"""The training and the test set on the devices: {"train", "test"}."""


class Feed(NamedTuple):
    """What one call of the training steps is given, beside state and data.

    Attributes:
      index: numbers of the examples, `[k, micro_batches, N]`, cut over the devices.
      epochs: that they are seen in, likewise.
      rates: learning rates `[k]`.
      steps: how many of the k steps are taken.
      seed: of the run.
    """

    index: Any
    epochs: Any
    rates: Any
    steps: Any
    seed: Any


def feed(plan: Plan, start: int, stop: int) -> Feed:
    """For the steps from `start` to before `stop`, at most as many as a call takes."""
    config, pieces = plan.config, plan.parallel.pieces
    k, batch_size, examples = plan.steps_per_call, config.train.batch_size, len(plan.source.train)
    index, epochs = np.zeros((2, k, batch_size), np.int32)
    rates = np.zeros(k, np.float32)
    for row, step in enumerate(range(start, stop)):
        index[row] = training_order(config.seed, step, batch_size, examples)
        epochs[row] = training_epochs(step, batch_size, examples)
    rates[: stop - start] = plan.rates[start:stop]
    shape = (k, config.train.micro_batches, -1)
    return Feed(
        index=pieces(index.reshape(shape), 2),
        epochs=pieces(epochs.reshape(shape), 2),
        rates=pieces(rates),
        steps=pieces(np.int32(stop - start)),
        seed=pieces(np.uint32(config.seed)),
    )


def compile_steps(plan: Plan, model: ResNet, state: TrainState, train: Resident) -> Callable:
    """The training steps of a network: `steps(state, train, *feed)`; the state is used up."""
    return plan.parallel.program(
        train_steps,
        (model, plan.optimizer.update, plan.augmentation),
        (state, train, *feed(plan, 0, 0)),
        cut=(None, None, 2, 2, None, None, None),
        donate_argnums=(0,),
    )


class Network:
    """The compiled programs of a network, for a state and splits like those given."""

    def __init__(self, plan: Plan, model: ResNet, state: TrainState, splits: Splits):
        self.plan = plan
        parallel, config, train = plan.parallel, plan.config, splits["train"]
        self.steps = compile_steps(plan, model, state, train)
        variables = jax.eval_shape(TrainState.evaluated, state)
        largest = max(len(split.labels) for split in splits.values())
        size = min(config.eval.batch_size, largest)
        self.evaluator = Evaluator(model, variables, train, size, parallel)
        if config.eval.precise_batches:
            size = config.train.batch_size // config.train.micro_batches
            self.measurer = Measurer(model, variables, train, size, plan.augmentation, parallel)
            self.by_batch = Evaluator(measuring(model), variables, train, size, parallel)

    def evaluate(self, state: TrainState, splits: Splits, step: int) -> dict[str, float]:
        """{"train_error", "train_loss", "test_error", "test_loss"}, by `eval.statistics`.

        Precise ones are measured over the batches that would be trained on from `step` on.
        """
        variables = state.evaluated()
        if self.plan.config.eval.statistics == "precise":
            variables = self._precise(variables, splits, step)
        return _on(splits, self.evaluator, variables)

    def compare_statistics(
        self, state: TrainState, splits: Splits, step: int
    ) -> dict[str, dict[str, float]] | None:
        """The same by {"batch", "running", "precise"}; None unless precise ones are asked for."""
        if not self.plan.config.eval.precise_batches:
            return None
        running = state.evaluated()
        return {
            "batch": _on(splits, self.by_batch, running),
            "running": _on(splits, self.evaluator, running),
            "precise": _on(splits, self.evaluator, self._precise(running, splits, step)),
        }

    def _precise(self, variables: Any, splits: Splits, step: int) -> Any:
        config, examples = self.plan.config, len(self.plan.source.train)
        size, parts = config.train.batch_size, config.train.micro_batches
        batches = [
            micro_batch
            for at in range(step, step + config.eval.precise_batches)
            for micro_batch in zip(
                np.split(training_order(config.seed, at, size, examples), parts),
                np.split(training_epochs(at, size, examples), parts),
                strict=True,
            )
        ]
        measured = self.measurer(variables, splits["train"], batches, config.seed)
        return {**variables, "batch_stats": self.plan.parallel.whole(measured)}


def _on(splits: Splits, evaluate: Evaluator, variables: Any) -> dict[str, float]:
    means = {name: evaluate(variables, split) for name, split in splits.items()}
    return {f"{name}_{key}": means[name][key] for name in means for key in means[name]}
