"""One network of a run on its devices: its compiled programs, and how they are called."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from resjax.config import ConfigError
from resjax.models.resnet import ResNet
from resjax.training.evaluation import Evaluator, Measurer, measuring
from resjax.training.feeds import CUT, Feed
from resjax.training.plan import Plan
from resjax.training.state import TrainState
from resjax.training.step import train_steps


def arguments_of_call(plan: Plan, feed: Feed, start: int, stop: int) -> tuple:
    """Arguments, after the state, of one call of the training steps `start` to `stop - 1`.

    These are at most `plan.steps_per_call` steps.
    """
    k, pieces = plan.steps_per_call, plan.parallel.pieces
    rates = np.zeros(k, np.float32)
    rates[: stop - start] = plan.rates[start:stop]
    return (
        feed.data,
        feed.pieces(range(start, stop), k),
        pieces(rates),
        pieces(np.int32(stop - start)),
        pieces(plan.lanes.stack(list(map(np.uint32, plan.lanes.seeds)))),
    )


def compile_steps(plan: Plan, model: ResNet, state: TrainState, feed: Feed) -> Callable:
    """Compiles a network's training steps: `steps(state, *arguments)`; the state is donated."""
    return plan.parallel.program(
        train_steps,
        (model, plan.loss, plan.optimizer.update, feed.view, plan.config.train.on_nan),
        (state, *arguments_of_call(plan, feed, 0, 0)),
        cut=(None, None, CUT, None, None, None),
        donate_argnums=(0,),
        each=plan.lanes.each(True, False, True, False, False, True),
    )


class Network:
    """The compiled programs of a network, for a state like the one given.

    `between` is called before every batch of an evaluation.
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
        self.steps = compile_steps(plan, model, state, feed)
        config, shape = plan.config, plan.image_shape
        devices, lanes = plan.parallel, plan.lanes
        self.variables = lanes.map(TrainState.evaluated)
        variables = jax.eval_shape(self.variables, state)
        size = min(config.eval.batch_size, max(feed.evaluated.values()))
        self.evaluator = Evaluator(model, plan.clean_loss, variables, shape, size, devices, lanes)
        if config.eval.precise_batches:
            size = config.train.batch_size // config.train.micro_batches
            self.measurer = Measurer(model, variables, shape, size, devices, lanes)
            self.by_batch = Evaluator(
                measuring(model), plan.clean_loss, variables, shape, size, devices, lanes
            )

    def arguments(self, start: int, stop: int) -> tuple:
        """Arguments of a call of `steps` after the state; see `arguments_of_call`."""
        return arguments_of_call(self.plan, self.feed, start, stop)

    def evaluate(self, state: TrainState, step: int) -> list[dict[str, float]]:
        """Evaluates all splits: {"train_error", "train_loss", "test_error", ...} of every lane.

        BatchNorm uses the statistics of `eval.statistics`. Precise ones are measured over the
        batches that would be trained on from `step` on.
        """
        return self._on_all(self.evaluator, self.evaluated(state, step))

    def evaluated(self, state: TrainState, step: int) -> Any:
        """Variables that `evaluate` uses: parameters or their averages, and the statistics."""
        variables = self.variables(state)
        if self.plan.config.eval.statistics == "precise":
            variables = self._precise(variables, step)
        return variables

    def compare_statistics(
        self, state: TrainState, step: int
    ) -> list[dict[str, dict[str, float]] | None]:
        """Evaluates every lane with each kind of statistics: {"batch", "running", "precise"}.

        It is None for every lane unless `eval.precise_batches` asks for precise statistics.
        """
        if not self.plan.config.eval.precise_batches:
            return [None] * len(self.plan.lanes.seeds)
        running = self.variables(state)
        compared = {
            "batch": self._on_all(self.by_batch, running),
            "running": self._on_all(self.evaluator, running),
            "precise": self._on_all(self.evaluator, self._precise(running, step)),
        }
        return [
            dict(zip(compared, own, strict=True)) for own in zip(*compared.values(), strict=True)
        ]

    def _precise(self, variables: Any, step: int) -> Any:
        steps = range(step, step + self.plan.config.eval.precise_batches)
        measured = self.measurer(variables, self._watched(self.feed.training_batches(steps)))
        return {**variables, "batch_stats": self.plan.parallel.whole(measured)}

    def _on_all(self, evaluate: Evaluator, variables: Any) -> list[dict[str, float]]:
        lanes = self.plan.lanes
        means: list[dict[str, float]] = [{} for _ in lanes.seeds]
        for split, examples in self.feed.evaluated.items():
            batches = self.feed.evaluation_batches(split, evaluate.batch_size)
            metrics = lanes.split(evaluate(variables, self._watched(batches)))
            skipped, counted = self.feed.skipped(split, evaluate.batch_size), metrics[0].examples
            if int(counted) + skipped != examples:
                raise RuntimeError(
                    f"evaluated {int(counted)} examples of {examples} in {split}, and skipped "
                    f"{skipped}"
                )
            if skipped == examples:
                raise ConfigError(
                    f"none of the {examples} images of {split} that are evaluated can be decoded; "
                    "fetch them again"
                )
            for own, sums in zip(means, metrics, strict=True):
                own |= {f"{split}_{name}": value for name, value in sums.means().items()}
        return means

    def _watched(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self.between()
            yield batch
