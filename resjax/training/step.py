"""One step of training and of evaluation: pure functions of a state and a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from resjax.data.resident import Batch, Resident
from resjax.training.metrics import Metrics, measure
from resjax.training.state import TrainState


def train_step(
    model: nn.Module,
    update: optax.TransformUpdateExtraArgsFn,
    state: TrainState,
    batch: Batch,
    learning_rate: jax.Array,
    key: jax.Array,
) -> TrainState:
    """Moves the state by one batch: the gradient of its mean cross-entropy, then the optimiser.

    `update` is the optimiser's, and its numbers are in the state. The learning rate is an argument,
    so that one compiled program serves every schedule. Metrics are those of the forward pass:
    statistics of the batch, parameters before the update. What is random in it depends on `key`,
    which is that of the run, and on the step.
    """

    def loss_of(params):
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(key, state.step)},
        )
        metrics = measure(logits, batch.labels)
        return metrics.loss / metrics.examples, (metrics, updates.get("batch_stats", {}))

    gradients, (metrics, batch_stats) = jax.grad(loss_of, has_aux=True)(state.params)
    hyperparams = state.opt_state.hyperparams
    rate = jnp.asarray(learning_rate, hyperparams["learning_rate"].dtype)
    opt_state = state.opt_state._replace(hyperparams=hyperparams | {"learning_rate": rate})
    updates, opt_state = update(gradients, opt_state, state.params)
    return TrainState(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
        metrics=state.metrics + metrics,
    )


def train_steps(
    model: nn.Module,
    update: optax.TransformUpdateExtraArgsFn,
    state: TrainState,
    split: Resident,
    index: jax.Array,
    learning_rates: jax.Array,
    steps: jax.Array,
    key: jax.Array,
) -> TrainState:
    """The first `steps` of k training steps, on the examples `index` `[k, batch]` of a split.

    `learning_rates` are `[k]`. For k > 1 it is a loop whose length is known when it runs, so that
    one program serves the fewer steps before an evaluation, too. A single step is no loop.
    """

    def step(i: jax.Array | int, state: TrainState) -> TrainState:
        return train_step(model, update, state, split.take(index[i]), learning_rates[i], key)

    return step(0, state) if len(index) == 1 else jax.lax.fori_loop(0, steps, step, state)


def eval_step(model: nn.Module, state: TrainState, batch: Batch, valid: jax.Array) -> Metrics:
    """Metrics of the `valid` `[N]` examples of a batch, with the running statistics."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    return measure(model.apply(variables, batch.images, train=False), batch.labels, valid)
