"""The training state and how it begins."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from resjax.training.metrics import Metrics


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
    model: nn.Module, optimizer: optax.GradientTransformation, seed: int, image_shape: tuple
) -> TrainState:
    """The state before the first step, for images of shape `[H, W, C]`.

    Parameters are drawn from a key that depends on `seed` and the parameter's path alone, so models
    that share a layer share its initial value.
    """

    def init(key: jax.Array) -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        variables = model.clone(unroll=1).init(key, images, train=False)
        params = variables["params"]
        logits_dtype = jnp.promote_types(model.dtype, jnp.float32)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(params),
            metrics=Metrics.zero(logits_dtype),
        )

    # On a CPU nearly all of the time goes into optimising the code of the random generator, which
    # runs once.
    fast = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    return jax.jit(init, compiler_options=fast)(jax.random.key(seed))
