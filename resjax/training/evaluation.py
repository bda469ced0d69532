"""The clean evaluation of a whole split."""

from collections.abc import Callable

import jax
import numpy as np

from resjax.data.resident import Resident, evaluation_batches
from resjax.models.resnet import ResNet
from resjax.training.metrics import Metrics
from resjax.training.programs import program
from resjax.training.state import TrainState
from resjax.training.step import eval_step

_take = jax.jit(Resident.take)


def evaluator(
    model: ResNet, state: TrainState, split: Resident, batch_size: int
) -> Callable[[TrainState, Resident], dict[str, float]]:
    """`evaluate(state, split)`: the mean metrics of all examples, each counted once.

    It is compiled for a state like `state`, and for images and labels like those of `split`.
    """
    # Taking the batch is apart, so that splits of different sizes share the large program.
    batch = jax.eval_shape(_take, split, jax.ShapeDtypeStruct((batch_size,), np.int32))
    valid = jax.ShapeDtypeStruct((batch_size,), bool)
    evaluate_batch = program(eval_step, (model,), (state, batch, valid))

    def evaluate(state: TrainState, split: Resident) -> dict[str, float]:
        total, examples = Metrics.zero(state.metrics.loss.dtype), len(split.labels)
        for index, valid in evaluation_batches(examples, batch_size):
            total += evaluate_batch(state, _take(split, index), valid)
        if int(total.examples) != examples:
            raise RuntimeError(f"evaluated {int(total.examples)} examples of {examples}")
        return total.means()

    return evaluate
