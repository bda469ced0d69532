"""Evaluation of whole splits without augmentation, and the statistics that BatchNorm uses in it."""

import dataclasses
import functools
import operator
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.ops.norm import combine_moments, map_moments
from resjax.training.losses import Loss
from resjax.training.metrics import Metrics
from resjax.training.parallel import Parallel
from resjax.training.programs import program
from resjax.training.step import eval_step, measure_step


def measuring(model: ResNet) -> ResNet:
    """Clones a network so that its norms use and return the batch's moments in evaluation, too."""
    norm = functools.partial(model.parts.norm, measuring=True)
    return model.clone(parts=dataclasses.replace(model.parts, norm=norm))


class Evaluator:
    """Compiled evaluation of a network on all devices: metrics over batches of one size.

    It is compiled for variables like those given and images of shape `[H, W, C]`. The batch size is
    rounded up to a multiple of the number of devices.
    """

    def __init__(
        self,
        model: ResNet,
        loss: Loss,
        variables: Any,
        image_shape: tuple[int, ...],
        batch_size: int,
        parallel: Parallel,
    ):
        self.batch_size = -(-batch_size // parallel.count) * parallel.count
        batch = _batch_shape(image_shape, self.batch_size, parallel)
        valid = jax.ShapeDtypeStruct((self.batch_size,), bool)
        arguments = (variables, batch, parallel.sharded_shape(valid, 0))
        across = parallel.across((None, 0, 0), own=(True, False, False))
        self.program = program(eval_step, (model, loss), arguments, **across)

    def __call__(self, variables: Any, batches: Iterable[tuple[Batch, Any]]) -> Metrics:
        """Sums the metrics over the valid examples of all batches."""
        metrics = (self.program(variables, batch, valid) for batch, valid in batches)
        return functools.reduce(operator.add, metrics)


class Measurer:
    """Measures precise statistics: the moments of a fixed network over many batches, as if one.

    The running average lags behind the parameters and forgets (Wu and Johnson 2021, section 3). It
    is compiled as an `Evaluator` is.
    """

    def __init__(
        self,
        model: ResNet,
        variables: Any,
        image_shape: tuple[int, ...],
        batch_size: int,
        parallel: Parallel,
    ):
        batch = _batch_shape(image_shape, batch_size, parallel)
        arguments = (variables, jax.tree.map(parallel.shape_of_own, batch))
        across = parallel.across((None, 0), own=(True, True))
        self.program = program(measure_step, (measuring(model),), arguments, **across)

    def __call__(self, variables: Any, batches: Iterable[Batch]) -> Any:
        """Returns `batch_stats` measured over all batches."""
        return combine_batches(
            jax.device_get([self.program(variables, batch) for batch in batches])
        )


def combine_batches(measured: list[Any]) -> Any:
    """Combines the moments of batches of one size, trees such as `batch_stats`, in float64.

    >>> one = {"mean": np.array([1.0]), "var": np.array([4.0])}
    >>> other = {"mean": np.array([3.0]), "var": np.array([4.0])}
    >>> combine_batches([one, other])
    {'mean': array([2.]), 'var': array([5.])}
    """

    def combine(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = combine_moments(means.astype(np.float64), variances.astype(np.float64))
        return mean.astype(means.dtype), var.astype(means.dtype)

    return map_moments(combine, jax.tree.map(lambda *leaves: np.stack(leaves), *measured))


def _batch_shape(image_shape: tuple[int, ...], batch_size: int, parallel: Parallel) -> Batch:
    images = jax.ShapeDtypeStruct((batch_size, *image_shape), np.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), np.int32)
    shapes: list[Any] = [parallel.sharded_shape(part, 0) for part in (images, labels)]
    return Batch(*shapes)
