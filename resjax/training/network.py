"""One network of a run on its devices: its compiled programs, and how they are called."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from resjax.config import ConfigError
from resjax.models.resnet import ResNet
from resjax.training.evaluation import Evaluator, Measurer, measuring
from resjax.training.feeds import EXAMPLES_AXIS, Feed
from resjax.training.plan import Plan
from resjax.training.programs import program
from resjax.training.state import TrainState
from resjax.training.step import train_steps


class Network:
    """A network of a run, with the compiled programs that train and evaluate it.

    Args:
      plan: plan of the run.
      model: the network, which is not the plan's as long as the run has not grown.
      state: a state like those that it is trained from.
      feed: images of the run.
      between: called before every batch of an evaluation.

    Attributes:
      steps: the training steps, `steps(state, *arguments)`, which donate the state; `arguments`
        makes the others.
    """

    def __init__(
        self,
        plan: Plan,
        model: ResNet,
        state: TrainState,
        feed: Feed,
        between: Callable[[], None] = lambda: None,
    ):
        self.plan, self.model, self.feed, self.between = plan, model, feed, between
        self.variables = plan.parallel.of_each(TrainState.evaluated)
        self.shapes = jax.eval_shape(self.variables, state)
        across = plan.parallel.across(
            in_axes=(None, None, EXAMPLES_AXIS, None, None, None),
            own=(True, False, True, False, False, True),
            donate_argnums=(0,),
        )
        parts = (model, plan.loss, plan.optimizer.update, feed.view, plan.config.train.on_nan)
        self.steps = program(train_steps, parts, (state, *self.arguments(0, 0)), **across)

    def arguments(self, start: int, stop: int) -> tuple:
        """The arguments, after the state, of one call of the steps `start` to `stop - 1`.

        These are at most `plan.steps_per_call` steps.
        """
        plan, shard = self.plan, self.plan.parallel.shard
        rates = np.zeros(plan.steps_per_call, np.float32)
        rates[: stop - start] = plan.rates[start:stop]
        return (
            self.feed.data,
            self.feed.inputs(range(start, stop), plan.steps_per_call),
            shard(rates),
            shard(np.int32(stop - start)),
            shard(plan.seed),
        )

    # ------------------------------------------------------------------------------- evaluation

    def compile_evaluation(self) -> None:
        """Compiles the evaluations of the run, which otherwise happens at the first use."""
        self.evaluator  # noqa: B018 - it is compiled
        if self.plan.config.eval.precise_batches:
            self.measurer, self.by_batch  # noqa: B018

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Evaluation with the statistics among the variables."""
        size = min(self.plan.config.eval.batch_size, max(self.feed.evaluated.values()))
        return self._evaluator(self.model, size)

    @functools.cached_property
    def by_batch(self) -> Evaluator:
        """Evaluation with the statistics of every batch."""
        return self._evaluator(measuring(self.model), self._micro_batch)

    @functools.cached_property
    def measurer(self) -> Measurer:
        """Measurement of precise statistics."""
        plan = self.plan
        return Measurer(self.model, self.shapes, plan.image_shape, self._micro_batch, plan.parallel)

    @property
    def _micro_batch(self) -> int:
        """The maximum number of examples that training normalises together."""
        return self.plan.config.train.batch_size // self.plan.config.train.micro_batches

    def _evaluator(self, model: ResNet, size: int) -> Evaluator:
        plan = self.plan
        return Evaluator(model, plan.clean_loss, self.shapes, plan.image_shape, size, plan.parallel)

    def evaluate(self, state: TrainState, step: int) -> dict[str, np.ndarray]:
        """Evaluates all splits: {"train_error", "train_loss", "test_error", ...}.

        BatchNorm uses the statistics of `eval.statistics`. Precise ones are measured over the
        batches that would be trained on from `step` on.
        """
        return self._on_all(self.evaluator, self.evaluated(state, step))

    def evaluated(self, state: TrainState, step: int) -> Any:
        """The variables that `evaluate` uses: parameters or their averages, and the statistics."""
        variables = self.variables(state)
        if self.plan.config.eval.statistics == "precise":
            variables = self._precise(variables, step)
        return variables

    def compare_statistics(self, state: TrainState, step: int) -> dict[str, dict[str, np.ndarray]]:
        """Evaluates with each kind of statistics: {"batch", "running", "precise"}.

        It is empty unless `eval.precise_batches` asks for precise statistics.
        """
        if not self.plan.config.eval.precise_batches:
            return {}
        running = self.variables(state)
        return {
            "batch": self._on_all(self.by_batch, running),
            "running": self._on_all(self.evaluator, running),
            "precise": self._on_all(self.evaluator, self._precise(running, step)),
        }

    def _precise(self, variables: Any, step: int) -> Any:
        steps = range(step, step + self.plan.config.eval.precise_batches)
        measured = self.measurer(variables, self._watched(self.feed.training_batches(steps)))
        return {**variables, "batch_stats": self.plan.parallel.whole(measured)}

    def _on_all(self, evaluate: Evaluator, variables: Any) -> dict[str, np.ndarray]:
        means: dict[str, np.ndarray] = {}
        for split, examples in self.feed.evaluated.items():
            batches = self.feed.evaluation_batches(split, evaluate.batch_size)
            metrics = jax.device_get(evaluate(variables, self._watched(batches)))
            skipped = self.feed.skipped(split, evaluate.batch_size)
            if (metrics.examples + skipped != examples).any():
                raise RuntimeError(
                    f"evaluated {metrics.examples} examples of {examples} in {split}, and skipped "
                    f"{skipped}"
                )
            if skipped == examples:
                raise ConfigError(
                    f"none of the {examples} images of {split} that are evaluated can be decoded; "
                    "fetch them again"
                )
            means |= {f"{split}_{name}": value for name, value in metrics.means().items()}
        return means

    def _watched(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.between()
            yield batch
