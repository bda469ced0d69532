"""Optimisers and learning rate schedules, by name."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from resjax.config import Clock, ConfigError, choose

DECAYED: dict[str, Callable] = {
    "all": lambda params: jax.tree.map(lambda _: True, params),
    "kernels": lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    ),
}
"""Which parameters weight decay acts on: every one (as in the papers), or kernels alone."""


def sgd(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent with momentum, its numbers held in the state.

    g = gradient + weight_decay * w;  v = momentum * v + g;  w = w - learning_rate * v
    """
    decayed = choose(DECAYED, optim.decayed, "optim.decayed")
    numbers = {name: optim[name] for name in ("learning_rate", "weight_decay", "momentum")}
    return _starting_with(_sgd(decayed, optim.nesterov), numbers)


@functools.cache
def _sgd(decayed: Callable, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    def rule(learning_rate, weight_decay, momentum):
        return optax.chain(
            optax.add_decayed_weights(weight_decay, decayed),
            optax.sgd(learning_rate, momentum, nesterov),
        )

    return optax.inject_hyperparams(rule)(learning_rate=0.0, weight_decay=0.0, momentum=0.0)


def _starting_with(
    rule: optax.GradientTransformationExtraArgs, numbers: dict[str, float]
) -> optax.GradientTransformationExtraArgs:
    """The rule with these numbers in its initial state.

    Its `update` is the rule's own and knows none of them, so one compiled program serves them all.
    """

    def init(params: Any) -> optax.OptState:
        state = rule.init(params)
        dtypes = {name: zero.dtype for name, zero in state.hyperparams.items()}
        hyperparams = {name: jnp.asarray(numbers[name], dtype) for name, dtype in dtypes.items()}
        return state._replace(hyperparams=hyperparams)

    return optax.GradientTransformationExtraArgs(init, rule.update)


OPTIMIZERS = {"sgd": sgd}


def constant(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """The learning rate all along."""
    return optax.constant_schedule(optim.learning_rate)


def cosine(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """Half a cosine from the learning rate to 0 over the `steps` (Loshchilov and Hutter 2017)."""
    return optax.cosine_decay_schedule(optim.learning_rate, max(1, steps))


def step(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """Multiplied by `factor` at every milestone of the run (He et al. 2015, section 4.2)."""
    before = clock.total_steps - steps
    milestones = [clock.steps(milestone) for milestone in optim.milestones]
    if milestones != sorted(set(milestones)):
        raise ConfigError(f"optim.milestones={list(optim.milestones)} do not grow; sort them")
    if not all(0 < milestone < clock.total_steps for milestone in milestones):
        raise ConfigError(
            f"optim.milestones={list(optim.milestones)} are steps {milestones} of a run of "
            f"{clock.total_steps}; a milestone lies inside the run, such as '50%'"
        )
    return optax.piecewise_constant_schedule(
        optim.learning_rate, {milestone - before: optim.factor for milestone in milestones}
    )


SCHEDULES = {"constant": constant, "cosine": cosine, "step": step}

WARMUPS = {
    # from warmup_factor * learning_rate up to it, or there all along (He et al. 2015, section 4.2)
    "linear": lambda low, high, steps: optax.linear_schedule(low, high, steps),
    "constant": lambda low, high, steps: optax.constant_schedule(low),
}


def learning_rates(optim: ConfigDict, clock: Clock) -> np.ndarray:
    """The learning rate of every step `[total_steps]` float32, warm-up included.

    The schedule starts after the warm-up; milestones count from the first step of the run.

    Raises:
      ConfigError: for an unknown schedule or warm-up, or a warm-up as long as the run.
    """
    warmup = clock.steps(optim.warmup)
    if warmup >= clock.total_steps:
        raise ConfigError(
            f"optim.warmup={optim.warmup!r} is {warmup} steps of {clock.total_steps}; shorten it"
        )
    make = choose(SCHEDULES, optim.schedule, "optim.schedule")
    schedule = make(optim, clock, clock.total_steps - warmup)
    shape = choose(WARMUPS, optim.warmup_shape, "optim.warmup_shape")
    if warmup:
        low = optim.warmup_factor * optim.learning_rate
        schedule = optax.join_schedules(
            [shape(low, optim.learning_rate, warmup), schedule], [warmup]
        )
    rates = jax.vmap(schedule)(jnp.arange(clock.total_steps))
    return np.broadcast_to(np.asarray(rates, np.float32), (clock.total_steps,))
