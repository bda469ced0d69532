"""The training state and how it begins."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from resjax.models.resnet import ResNet, as_drawn, draw_variables, drawing_options
from resjax.training.metrics import Metrics
from resjax.training.programs import program


@struct.dataclass
class TrainState:
    """All that training carries from step to step.

    Attributes:
      step: number of steps taken, int32.
      params: parameters of the model.
      batch_stats: running statistics of its BatchNorm layers.
      opt_state: of the optimiser; `opt_state.hyperparams` holds its settings as arrays.
      metrics: sums over the training batches since they were last set to zero.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    metrics: Metrics


def create_state(
    model: ResNet, optimizer: optax.GradientTransformation, seed: int, image_shape: tuple
) -> TrainState:
    """The state before the first step, for images of shape `[H, W, C]`.

    Parameters are drawn from the key `seed`.
    """
    key = jax.random.key(seed)
    parts, options = (as_drawn(model), image_shape), drawing_options()
    variables = program(draw_variables, parts, (key,), compiler_options=options)(key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(variables["params"]),
        metrics=Metrics.zero(jnp.promote_types(model.dtype, jnp.float32)),
    )
