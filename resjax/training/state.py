"""The training state, and its value before the first step."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from resjax.models.resnet import ResNet
from resjax.models.trace import initial_variables
from resjax.ops.interpreter import interpret
from resjax.ops.random import random_key
from resjax.training.metrics import Metrics


class Average(struct.PyTreeNode):
    """The exponential moving average of the variables over the steps of training.

    average_t = sum over s of decay^(t - s) value_s / sum over s of decay^(t - s), for s = 1 ... t.

    Attributes:
      decay: factor by which the weight of a step falls with every later step.
      raw: state of `optax.ema`, before its values are divided by the sum of the weights.
    """

    decay: jax.Array
    raw: optax.EmaState

    @classmethod
    def start(cls, decay: float, variables: Any) -> "Average":
        """Average before the first step; `variables` are {"params", "batch_stats"}."""
        return cls(jnp.asarray(decay, jnp.float32), optax.ema(decay).init(variables))

    def moved_by(self, params: Any, batch_stats: Any) -> "Average":
        """Average with the values of one more step."""
        values = {"params": params, "batch_stats": batch_stats}
        return self.replace(raw=optax.ema(self.decay, debias=False).update(values, self.raw)[1])

    def variables(self, start: Any) -> Any:
        """Averaged {"params", "batch_stats"}; before the first step, those of `start`."""
        averaged = optax.tree.bias_correction(self.raw.ema, self.decay, self.raw.count)
        return jax.tree.map(partial(jnp.where, self.raw.count > 0), averaged, start)


class TrainState(struct.PyTreeNode):
    """All that training carries from step to step.

    Attributes:
      step: number of steps taken, int32.
      params: parameters of the model.
      batch_stats: running statistics of its BatchNorm layers.
      opt_state: state of the optimiser; those of resjax hold their settings in `hyperparams`.
      metrics: sums over the steps of `train_steps` since they were last set to zero; `train_step`
        returns those of its batch instead.
      skipped_updates: number of steps that left all else as it was, int32; see `train_step`.
      average: moving average of params and batch_stats, or None.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    metrics: Metrics
    skipped_updates: jax.Array
    average: Average | None = None

    def evaluated(self) -> Any:
        """Variables {"params", "batch_stats"} to evaluate: the moving averages if there are any."""
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        return variables if self.average is None else _averaged(self.average, variables)


_averaged = jax.jit(Average.variables)


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int | jax.Array,
    image_shape: tuple,
    ema_decay: float = 0.0,
    variables: Any | None = None,
) -> TrainState:
    """The state before the first step, for images of shape `[H, W, C]`.

    Parameters are drawn from the seed, or from a key of `jax.random.key`, unless `variables`
    {"params", "batch_stats"} are given, such as those of `load_weights`. An `ema_decay` above 0
    keeps a moving average of the variables. The network is one that `train_step` takes.

    Raises:
      ValueError: for a seed that is neither, another shape of images, or variables without params.
    """
    if isinstance(model, ResNet) and len(image_shape) != 3:
        raise ValueError(
            f"image_shape={tuple(image_shape)} is not (height, width, channels) of one image"
        )
    key = random_key(seed)
    if variables is None:
        variables = initial_variables(model, key, image_shape)
    elif "params" not in variables:
        raise ValueError(
            f'variables are {", ".join(variables)}; give {{"params": ..., "batch_stats": ...}}'
        )
    variables = {name: variables.get(name, {}) for name in ("params", "batch_stats")}
    dtype = getattr(model, "dtype", None) or jnp.float32
    return begin_training(variables, optimizer, jnp.promote_types(dtype, jnp.float32), ema_decay)


def begin_training(
    variables: Any, optimizer: optax.GradientTransformation, dtype: jnp.dtype, ema_decay: float
) -> TrainState:
    """The state of a network with these variables before any step; losses have `dtype`."""

    def begin(variables: Any) -> TrainState:
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(variables["params"]),
            metrics=Metrics.zero(dtype),
            skipped_updates=jnp.zeros((), jnp.int32),
            average=Average.start(ema_decay, variables) if ema_decay else None,
        )

    program, state = jax.make_jaxpr(begin, return_shape=True)(variables)
    leaves = interpret(program, jax.tree.leaves(variables))
    return jax.device_put(jax.tree.unflatten(jax.tree.structure(state), leaves))
