"""The clean evaluation of a whole split, and the statistics that it normalises by."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from resjax.data.augment import Augmentation
from resjax.data.resident import Resident, evaluation_batches
from resjax.models.resnet import ResNet
from resjax.training.parallel import Parallel
from resjax.training.step import eval_step, measure_step


def measuring(model: ResNet) -> ResNet:
    """The network whose normalisations use the batch also in evaluation, and leave its moments."""
    norm = functools.partial(model.parts.norm, measuring=True)
    return model.clone(parts=dataclasses.replace(model.parts, norm=norm))


class Evaluator:
    """Mean metrics of whole splits, each example counted once, in batches of one size.

    It is compiled for variables, and for images and labels, like those given. The batch size is
    rounded up to a multiple of the devices.
    """

    def __init__(
        self, model: ResNet, variables: Any, split: Resident, batch_size: int, parallel: Parallel
    ):
        self.parallel, self.batch_size = parallel, _round_up(batch_size, parallel.count)
        batch = _batch_shape(split, self.batch_size, parallel)
        valid = jax.ShapeDtypeStruct((self.batch_size,), bool)
        arguments = (variables, batch, parallel.shape_of_pieces(valid, 0))
        self.program = parallel.program(eval_step, (model,), arguments, cut=(None, 0, 0))

    def __call__(self, variables: Any, split: Resident) -> dict[str, float]:
        """{"error": fraction of the examples, "loss": nats per example}."""
        totals, examples = None, len(split.labels)
        for index, valid in evaluation_batches(examples, self.batch_size):
            batch = _take(self.parallel)(split, self.parallel.pieces(index, 0))
            metrics = self.program(variables, batch, self.parallel.pieces(valid, 0))
            totals = metrics if totals is None else totals + metrics
        if int(totals.examples) != examples:
            raise RuntimeError(f"evaluated {int(totals.examples)} examples of {examples}")
        return totals.means()


class Measurer:
    """Precise statistics: those of a fixed network over many batches, as if they were one.

    A running average lags behind the parameters and forgets (Wu and Johnson 2021, section 3). It is
    compiled as an `Evaluator` is.
    """

    def __init__(
        self,
        model: ResNet,
        variables: Any,
        split: Resident,
        batch_size: int,
        augmentation: Augmentation,
        parallel: Parallel,
    ):
        self.parallel, self.augmentation = parallel, augmentation
        arguments = (variables, _batch_shape(split, batch_size, parallel))
        self.program = parallel.program(measure_step, (measuring(model),), arguments, (None, 0))

    def __call__(
        self,
        variables: Any,
        split: Resident,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        seed: int,
    ) -> Any:
        """`batch_stats` over batches of training examples, given by numbers and epochs `[N]`."""
        take, pieces = _take_augmented(self.parallel, self.augmentation), self.parallel.pieces
        measured = [
            self.program(
                variables,
                take(split, pieces(index, 0), pieces(epochs, 0), pieces(np.uint32(seed))),
            )
            for index, epochs in batches
        ]
        return together(jax.device_get(measured))


def together(measured: list[Any]) -> Any:
    """The moments of batches of one size as those of one; trees with leaves `mean` and `var`.

    mean = mean(mean_i); var = mean(var_i) + mean((mean_i - mean)^2), the law of total variance.
    """
    if "mean" not in measured[0]:
        return {name: together([below[name] for below in measured]) for name in measured[0]}
    means, variances = (np.stack([one[name] for one in measured]) for name in ("mean", "var"))
    exact = means.astype(np.float64)
    var = variances.astype(np.float64).mean(0) + exact.var(0)
    return {"mean": exact.mean(0).astype(means.dtype), "var": var.astype(means.dtype)}


@functools.cache
def _take(parallel: Parallel) -> Callable:
    """`take(split, numbers)`; apart, so that splits of different sizes share a large program."""
    return parallel.function(Resident.take, (None, 0), out=0)


@functools.cache
def _take_augmented(parallel: Parallel, augmentation: Augmentation) -> Callable:
    """`take(split, numbers, epochs, seed)`."""
    return parallel.function(augmentation.take, (None, 0, 0, None), out=0)


def _batch_shape(split: Resident, batch_size: int, parallel: Parallel) -> Any:
    batch = jax.eval_shape(Resident.take, split, np.zeros(batch_size, np.int32))
    return jax.tree.map(lambda leaf: parallel.shape_of_pieces(leaf, 0), batch)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
