"""Initial states of training: random, made from the weights of another run, or grown."""

import jax

from resjax.models.grow import grow
from resjax.ops.random import random_key
from resjax.training.feeds import Feed
from resjax.training.plan import Plan
from resjax.training.state import TrainState, begin_training, create_state

IMAGES_TO_GROW_ON = 1024
"""Number of training images on which growing measures the running statistics of new blocks."""


def drawn_state(plan: Plan, grown: bool) -> TrainState:
    """The random state before the first step, of the plan's network or its shallow predecessor.

    Args:
      plan: plan of the run.
      grown: whether the run has grown, if it is to.
    """
    model = plan.shallow if plan.shallow and not grown else plan.model
    seed, decay = plan.config.seed, plan.config.train.ema_decay
    return create_state(model, plan.optimizer, seed, plan.image_shape, decay)


def initial_state(plan: Plan, feed: Feed) -> TrainState:
    """The state before the first step: random, or made from the weights of another run."""
    drawn = drawn_state(plan, grown=False)
    if plan.start is None:
        assert not plan.config.train.init_from, "a plan that is trained has found its start"
        return drawn
    images = _images_to_grow_on(feed) if plan.start.shallow else None
    variables = {"params": drawn.params, "batch_stats": drawn.batch_stats}
    variables = plan.start.variables(variables, plan.model, random_key(plan.config.seed), images)
    decay = plan.config.train.ema_decay
    begun = begin_training(variables, plan.optimizer, drawn.metrics.loss.dtype, decay)
    return plan.parallel.whole(begun)


def grown_state(plan: Plan, state: TrainState, feed: Feed) -> TrainState:
    """The state of the deep network grown from the shallow one, which computes the same function.

    It copies the trained parameters, not their moving averages; momentum and averages start anew.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    key = random_key(plan.config.seed)
    assert plan.shallow is not None, "a run that grows has a network to grow from"
    variables = grow(variables, plan.shallow, plan.model, key, _images_to_grow_on(feed))
    decay = plan.config.train.ema_decay
    begun = begin_training(variables, plan.optimizer, state.metrics.loss.dtype, decay)
    kept = {name: getattr(state, name) for name in ("step", "metrics", "skipped_updates")}
    return plan.parallel.whole(begun.replace(**kept))


def _images_to_grow_on(feed: Feed) -> jax.Array:
    return feed.first_examples("train", IMAGES_TO_GROW_ON).images
