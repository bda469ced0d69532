"""Optimisers and learning rate schedules, by name."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from resjax.config import ConfigError, refuse_unknown
from resjax.config.durations import Clock
from resjax.config.tables import Table
from resjax.models.resnet import is_stacked

CHOSEN = Table(
    "optim.decayed",
    {
        "all": lambda params: jax.tree.map(lambda _: True, params),
        "kernels": lambda params: jax.tree_util.tree_map_with_path(
            lambda path, _: path[-1].key == "kernel", params
        ),
    },
)
"""Masks of the parameters that something acts on, as trees of booleans: all, or kernels alone."""


def sgd(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Stochastic gradient descent with momentum, its numbers held in the state.

    g = gradient + weight_decay * w;  v = momentum * v + g;  w = w - learning_rate * v
    """
    decayed = CHOSEN[optim.decayed]
    numbers = {name: optim[name] for name in ("learning_rate", "weight_decay", "momentum")}
    return _starting_with(_sgd(decayed, optim.nesterov), numbers)


def lars(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Layer-wise adaptive rate scaling, for large batches (You et al. 2017, algorithm 1).

    r = trust_coefficient * |w| / (|gradient| + weight_decay * |w| + trust_epsilon);
    v = momentum * v + learning_rate * r * (gradient + weight_decay * w);  w = w - v

    There is one r for each layer, so one for each block of a stack, and r = 1 where |w| or
    |gradient| is 0, and for parameters that are not `optim.adapted`.
    """
    decayed, adapted = CHOSEN[optim.decayed], CHOSEN[optim.adapted]
    names = ("learning_rate", "weight_decay", "momentum", "trust_coefficient", "trust_epsilon")
    rule = _lars(decayed, adapted, optim.nesterov)
    return _starting_with(rule, {name: optim[name] for name in names})


@functools.cache
def _sgd(decayed: Callable, nesterov: bool) -> optax.GradientTransformationExtraArgs:
    def rule(learning_rate, weight_decay, momentum):
        return optax.chain(
            optax.add_decayed_weights(weight_decay, decayed),
            optax.sgd(learning_rate, momentum, nesterov),
        )

    return optax.inject_hyperparams(rule)(learning_rate=0.0, weight_decay=0.0, momentum=0.0)


@functools.cache
def _lars(
    decayed: Callable, adapted: Callable, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
    def rule(learning_rate, weight_decay, momentum, trust_coefficient, trust_epsilon):
        def of_layer(gradient: jax.Array, w: jax.Array, decays: bool, adapts: bool) -> jax.Array:
            decay = weight_decay if decays else 0.0
            r = _ratio(gradient, w, decay, trust_coefficient, trust_epsilon) if adapts else 1.0
            return r * (gradient + decay * w)

        def of_leaf(path: tuple, gradient: jax.Array, w: jax.Array, *chosen: bool) -> jax.Array:
            layer = functools.partial(of_layer, decays=chosen[0], adapts=chosen[1])
            return (jax.vmap(layer) if is_stacked(path) else layer)(gradient, w)

        def of_tree(gradients: Any, params: Any) -> Any:
            chosen = decayed(params), adapted(params)
            return jax.tree_util.tree_map_with_path(of_leaf, gradients, params, *chosen)

        return optax.chain(
            optax.stateless(of_tree),
            optax.scale_by_learning_rate(learning_rate),
            optax.trace(momentum, nesterov),
        )

    return optax.inject_hyperparams(rule)(
        learning_rate=0.0,
        weight_decay=0.0,
        momentum=0.0,
        trust_coefficient=0.0,
        trust_epsilon=0.0,
    )


def _ratio(
    gradient: jax.Array, w: jax.Array, decay: Any, coefficient: jax.Array, epsilon: jax.Array
) -> jax.Array:
    """Ratio r of `lars` for one layer."""
    weights, slope = jnp.linalg.norm(w.ravel()), jnp.linalg.norm(gradient.ravel())
    sound = (weights > 0) & (slope > 0)
    length = jnp.where(sound, slope + decay * weights + epsilon, 1)
    return jnp.where(sound, coefficient * weights / length, 1)


def _starting_with(
    rule: optax.GradientTransformationExtraArgs, numbers: dict[str, float]
) -> optax.GradientTransformationExtraArgs:
    """Puts these numbers into the initial state of a rule.

    Its `update` is the rule's own and knows none of them, so one compiled program serves them all.
    """

    def init(params: Any) -> optax.OptState:
        state = rule.init(params)
        dtypes = {name: zero.dtype for name, zero in state.hyperparams.items()}
        hyperparams = {name: jnp.asarray(numbers[name], dtype) for name, dtype in dtypes.items()}
        return state._replace(hyperparams=hyperparams)

    return optax.GradientTransformationExtraArgs(init, rule.update)


OPTIMIZERS = Table(
    "optim.name",
    {"sgd": sgd, "lars": lars},
    entry="a function of config.optim to an optimiser of optax",
)


def constant_rate(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """Constant learning rate."""
    return optax.constant_schedule(optim.learning_rate)


def cosine(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """Half a cosine from the learning rate to 0 over the `steps` (Loshchilov and Hutter 2017)."""
    return optax.cosine_decay_schedule(optim.learning_rate, max(1, steps))


def step(optim: ConfigDict, clock: Clock, steps: int) -> optax.Schedule:
    """Steps: `factor` multiplies the rate at every milestone (He et al. 2015, section 4.2)."""
    before = clock.end - steps
    milestones = [clock.steps(milestone) for milestone in optim.milestones]
    if milestones != sorted(set(milestones)):
        raise ConfigError(f"optim.milestones={list(optim.milestones)} do not grow; sort them")
    if not all(0 < milestone < clock.end for milestone in milestones):
        raise ConfigError(
            f"optim.milestones={list(optim.milestones)} are steps {milestones} of a run of "
            f"{clock.end}; a milestone lies inside the run, such as '50%'"
        )
    return optax.piecewise_constant_schedule(
        optim.learning_rate, {milestone - before: optim.factor for milestone in milestones}
    )


SCHEDULES = Table(
    "optim.schedule",
    {"constant": constant_rate, "cosine": cosine, "step": step},
    entry="a function of config.optim, a Clock and a number of steps to a schedule of optax",
)

WARMUPS = Table(
    "optim.warmup_shape",
    {
        # from warmup_factor * learning_rate up to it, or there all along (He et al. 2015, 4.2)
        "linear": lambda low, high, steps: optax.linear_schedule(low, high, steps),
        "constant": lambda low, high, steps: optax.constant_schedule(low),
    },
)


def learning_rate_schedule(optim: ConfigDict, clock: Clock) -> optax.Schedule:
    """The schedule of the learning rate, from a step to its rate, warm-up included.

    It begins after the warm-up; milestones count from the first step of the run.

    Raises:
      ConfigError: for an unknown schedule or warm-up, or a warm-up as long as the run.
    """
    refuse_unknown(optim, "optim")
    make = SCHEDULES.choose(optim.schedule)
    warmup = clock.steps(optim.warmup)
    if warmup >= clock.end:
        raise ConfigError(
            f"optim.warmup={optim.warmup!r} is {warmup} steps of {clock.end}; shorten it"
        )
    schedule = make(optim, clock, clock.end - warmup)
    shape = WARMUPS.choose(optim.warmup_shape)
    if not warmup:
        return schedule
    start = shape(optim.warmup_factor * optim.learning_rate, optim.learning_rate, warmup)
    return optax.join_schedules([start, schedule], [warmup])


def learning_rates(schedule: optax.Schedule, steps: int) -> np.ndarray:
    """The learning rates of the first steps `[steps]`, float32.

    >>> from resjax.config import default_config
    >>> optim = default_config().optim
    >>> optim.schedule = "step"
    >>> schedule = learning_rate_schedule(optim, Clock(100, 10, total_steps=4))
    >>> [f"{rate:g}" for rate in learning_rates(schedule, steps=4)]
    ['0.1', '0.1', '0.01', '0.001']
    """
    rates = np.asarray(jax.vmap(schedule)(jnp.arange(steps)), np.float32)
    return np.broadcast_to(rates, (steps,))
