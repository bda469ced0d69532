"""One step of training and of evaluation: pure functions, one device's share of each.

Where a program names the axis of devices, a batch is one device's share of the whole batch, and
results are reduced over all devices; where it does not, the share is the whole batch.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from resjax.data.batch import Batch
from resjax.ops.devices import device_count, device_index, total, varying_over_devices
from resjax.ops.norm import map_moments
from resjax.ops.random import random_key
from resjax.training.losses import Loss, mix_losses, of_known_labels
from resjax.training.metrics import Metrics, measure
from resjax.training.optim import takes_more
from resjax.training.state import TrainState


def train_step(
    model: nn.Module,
    loss: Loss,
    update: optax.TransformUpdateExtraArgsFn,
    state: TrainState,
    batch: Batch,
    key: jax.Array,
    learning_rate: jax.Array | None = None,
    on_nan: str = "stop",
) -> tuple[TrainState, Metrics]:
    """Updates a state by one batch: the gradient of its mean loss, then the optimiser's update.

    Random numbers depend on `key`, on the step, and on the number of an example in the whole batch;
    if the network does not ask for that number, on the number of the share or micro-batch instead.
    Micro-batches are computed one after the other, and their gradients are added up; the running
    statistics are updated once, by the mean over micro-batches. Where the program names the axis of
    devices, gradients are summed over them once, and with them metrics and running statistics.

    Args:
      model: a network of `resjax.models.build`, or another whose call takes images and `train`. If
        it has an argument `first`, that is the number of its first image in the whole batch.
      loss: maps logits and labels to the loss of every example, as `resjax.training.losses` do.
      update: the update function of an optimiser of optax. If it takes more arguments, `value` is
        the mean loss; one that would evaluate the loss again, such as L-BFGS, cannot.
      state: the state before the step, first that of `resjax.training.state.create_state`.
      batch: images `[N, H, W, C]` and labels `[N]`, integers, or one more axis of micro-batches
        before these; a third entry is what the images are mixed with. A label that is no number of
        a class makes the loss NaN.
      key: the random key of the run.
      learning_rate: the rate of this step, written to the hyperparameter `learning_rate` of the
        optimiser's state. With None, or without one such entry, the optimiser keeps its own rate.
      on_nan: with "skip" a step whose loss or gradient is not finite changes nothing, and is
        counted.

    Returns:
      The state after the step, and the metrics of its forward pass: those of the parameters before
      it, normalised by the batch.

    Raises:
      ValueError: if `update` is no function, the batch is not images with as many labels, labels
        are no integers, or the loss is not one number for each example.
    """
    if not callable(update):
        raise ValueError(f"{type(update).__name__} is no function; give its member, update")
    batch = _checked(batch)
    if batch.labels.ndim == 1:
        batch = jax.tree.map(lambda leaf: leaf[None], batch)
    micro_batches, examples = batch.labels.shape
    micro_batches_in_all = micro_batches * device_count()
    numbered = "first" in inspect.signature(type(model).__call__).parameters
    moving = [] if getattr(model, "frozen", False) else ["batch_stats"]
    key = jax.random.fold_in(key, state.step)

    def loss_of(params: Any, number: jax.Array | int, batch: Batch) -> tuple[jax.Array, Any]:
        """Loss of one micro-batch on this device, with its metrics and running statistics."""
        place = number * device_count() + device_index()
        options: dict[str, Any] = {"first": place * examples} if numbered else {}
        own = jax.random.fold_in(key, place) if micro_batches_in_all > 1 and not numbered else key
        logits, updates = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            batch.images,
            train=True,
            mutable=moving,
            rngs={"dropout": own},
            **options,
        )
        losses, labels, classes = loss(logits, batch.labels), batch.labels, logits.shape[-1]
        losses = of_known_labels(losses, labels, classes)
        if batch.mixed is not None:
            others = loss(logits, batch.mixed.labels)
            others = of_known_labels(others, batch.mixed.labels, classes)
            losses, labels = mix_losses(losses, others, labels, batch.mixed)
        metrics = measure(losses, logits, labels)
        mean = metrics.loss / (metrics.examples * micro_batches_in_all)
        return mean, (metrics, updates.get("batch_stats", {}))

    params = varying_over_devices(state.params)
    differentiate = functools.partial(jax.grad(loss_of, has_aux=True), params)
    if micro_batches == 1:
        sums = differentiate(0, jax.tree.map(lambda leaf: leaf[0], batch))
    else:
        sums = _sum_over(differentiate, batch)
    gradients, (metrics, batch_stats) = total(sums)

    opt_state = _with_rate(state.opt_state, learning_rate)
    more = {"value": metrics.loss / metrics.examples} if takes_more(update) else {}
    updates, opt_state = update(gradients, opt_state, state.params, **more)
    params = optax.apply_updates(state.params, updates)
    batch_stats = jax.tree.map(lambda sums: sums / micro_batches_in_all, batch_stats)
    batch_stats = batch_stats or state.batch_stats
    updated = TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        metrics=state.metrics,
        skipped_updates=state.skipped_updates,
        average=state.average and state.average.moved_by(params, batch_stats),
    )
    if on_nan == "stop":
        return updated, metrics
    finite = jnp.isfinite(metrics.loss) & jnp.isfinite(optax.tree.norm(gradients))
    skipped = state.replace(step=updated.step, skipped_updates=state.skipped_updates + 1)
    none = jax.tree.map(jnp.zeros_like, metrics)
    return jax.tree.map(functools.partial(jnp.where, finite), (updated, metrics), (skipped, none))


def _checked(batch: Any) -> Batch:
    """The images, the labels and what else there is of a batch, which fit each other."""
    given = batch[:2] if isinstance(batch, tuple | list) else [batch]
    if not all(hasattr(each, "dtype") for each in given):
        kinds = " and ".join(type(each).__name__ for each in given)
        raise ValueError(f"a batch is two arrays, (images, labels), and this is {kinds}")
    batch = Batch(*batch)
    images, labels = batch.images.shape, batch.labels.shape
    if not jnp.issubdtype(batch.labels.dtype, jnp.integer):
        raise ValueError(
            f"labels are {batch.labels.dtype} of shape {labels}; give the number of the class of "
            "each example, integers of shape (N,)"
        )
    if len(labels) not in (1, 2) or images[: len(labels)] != labels:
        raise ValueError(
            f"labels of shape {labels} are not those of images of shape {images}; give [N] labels "
            "for images [N, H, W, C], or put an axis of micro-batches before both"
        )
    return batch


def _with_rate(opt_state: optax.OptState, learning_rate: jax.Array | None) -> optax.OptState:
    """The state of an optimiser with a learning rate, if it has one entry for it."""

    def is_rate(path: Any, value: Any) -> bool:  # and not the state of a schedule of this name
        return isinstance(value, jax.Array)

    found = optax.tree.get_all_with_path(opt_state, "learning_rate", is_rate)
    if learning_rate is None or len(found) != 1:
        return opt_state
    rate = jnp.asarray(learning_rate, found[0][1].dtype)
    return optax.tree.set(opt_state, is_rate, learning_rate=rate)


def _sum_over(function: Callable, batch: Batch) -> Any:
    """The sum of `function(number, micro-batch)` over the micro-batches."""

    def add(sums: Any, numbered: tuple[jax.Array, Batch]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*numbered)), None

    first = jax.tree.map(lambda leaf: leaf[0], batch)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, 0, first))
    zeros = varying_over_devices(zeros)
    return jax.lax.scan(add, zeros, (jnp.arange(len(batch.labels)), batch))[0]


def train_steps(
    model: nn.Module,
    loss: Loss,
    update: optax.TransformUpdateExtraArgsFn,
    view: Callable[[Any, Any, jax.Array], Batch],
    on_nan: str,
    state: TrainState,
    data: Any,
    inputs: Any,
    learning_rates: jax.Array,
    steps: jax.Array,
    seed: jax.Array,
) -> TrainState:
    """Takes the first `steps` of k training steps.

    Batches are what `view` makes of `data` and `inputs` `[k, micro_batches, N, ...]`; see
    `resjax.training.feeds`. `learning_rates` are `[k]` and `seed` is that of the run. With k > 1 it
    is a loop whose length is known only when it runs, so that one program also serves the fewer
    steps before an evaluation. A single step is no loop.
    """
    key = random_key(seed)

    def step(i: jax.Array | int, state: TrainState) -> TrainState:
        batch = _viewed(view, data, jax.tree.map(lambda leaf: leaf[i], inputs), seed)
        state, metrics = train_step(
            model, loss, update, state, batch, key, learning_rates[i], on_nan
        )
        return state.replace(metrics=state.metrics + metrics)

    return step(0, state) if len(learning_rates) == 1 else jax.lax.fori_loop(0, steps, step, state)


def _viewed(view: Callable, data: Any, inputs: Any, seed: jax.Array) -> Batch:
    """Applies the view to inputs `[micro_batches, N, ...]`; the batch has both axes, too."""
    shape = jax.tree.leaves(inputs)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), inputs)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), view(data, flat, seed))


def eval_step(
    model: nn.Module, loss: Loss, variables: Any, batch: Batch, valid: jax.Array | None = None
) -> Metrics:
    """Metrics of the `valid` `[N]` examples of a batch, by default all of them, on all devices.

    BatchNorm uses the running statistics, or those of the batch if the model is `measuring`.
    """
    batch = _checked(batch)
    logits, _ = model.apply(variables, batch.images, train=False, mutable=["batch_stats"])
    losses = of_known_labels(loss(logits, batch.labels), batch.labels, logits.shape[-1])
    return total(measure(losses, logits, batch.labels, valid))


def measure_step(model: nn.Module, variables: Any, batch: Batch) -> Any:
    """The moments of a batch at every normalisation, in a tree like `batch_stats`.

    `model` is `measuring`. The moments are over all examples on all devices, whatever groups were
    normalised together: var = mean(var_i) + mean((mean_i - mean)^2).
    """
    _, found = model.apply(variables, batch.images, train=False, mutable=["batch_stats"])
    return map_moments(_of_all_devices, found.get("batch_stats", {}))


def _of_all_devices(own: jax.Array, var: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The moments of all devices together, from the mean and variance of each."""
    devices = device_count()
    mean = total(own) / devices
    return mean, total(var + jnp.square(own - mean)) / devices
