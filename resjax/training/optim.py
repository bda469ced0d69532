"""Optimisers and learning rate schedules, by name."""

import functools
import inspect
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
    """Stochastic gradient descent with momentum.

    g = gradient + weight_decay * w;  v = momentum * v + g;  w = w - learning_rate * v

    With `optim.nesterov`, the momentum of Nesterov: w = w - learning_rate * (g + momentum * v).
    """
    return _with_numbers(optim, _momentum, optim.nesterov)


def adam(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Adam with weight decay in the gradient (Kingma and Ba 2015, algorithm 1).

    g = gradient + weight_decay * w;  m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g^2;  after t steps c = m / (1 - beta1^t), d = v / (1 - beta2^t)
    w = w - learning_rate * c / (sqrt(d) + epsilon)

    With `optim.nesterov`, c is that of Dozat 2016: beta1 * m + (1 - beta1) * g, each part divided
    by its own sum of weights.
    """
    return _with_numbers(optim, _adam, optim.nesterov)


def adamw(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Adam with weight decay outside the gradient (Loshchilov and Hutter 2019, algorithm 2).

    It is `adam` without decay, and w = w - learning_rate * weight_decay * w in the same step.
    """
    return _with_numbers(optim, _adamw, optim.nesterov)


def lars(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Layer-wise adaptive rate scaling, for large batches (You et al. 2017, algorithm 1).

    r = trust_coefficient * |w| / (|gradient| + weight_decay * |w| + trust_epsilon);
    v = momentum * v + learning_rate * r * (gradient + weight_decay * w);  w = w - v

    There is one r for each layer, so one for each block of a stack, and r = 1 where |w| or
    |gradient| is 0, and for parameters that are not `optim.adapted`.
    """
    return _with_numbers(optim, _lars, optim.nesterov, CHOSEN[optim.adapted])


def _with_numbers(
    optim: ConfigDict, make: Callable, *options: Any
) -> optax.GradientTransformationExtraArgs:
    """A rule whose initial state has the numbers of a config; see `_rule`.

    Its `update` knows none of them, so one compiled program serves them all.
    """
    rule = _rule(make, CHOSEN[optim.decayed], *options)

    def init(params: Any) -> optax.OptState:
        state = rule.init(params)
        zeros = state.hyperparams.items()
        numbers = {name: jnp.asarray(optim[name], zero.dtype) for name, zero in zeros}
        return state._replace(hyperparams=numbers)

    return optax.GradientTransformationExtraArgs(init, rule.update)


@functools.cache
def _rule(make: Callable, *options: Any) -> optax.GradientTransformationExtraArgs:
    """Makes a rule with its numbers in the state; equal rules are one, and share their programs.

    `make(*options)` is a function of the numbers, named as their keys, to a transformation.
    """
    rule = make(*options)
    names = inspect.signature(rule).parameters
    return optax.inject_hyperparams(rule)(**dict.fromkeys(names, 0.0))


def _momentum(decayed: Callable, nesterov: bool) -> Callable:
    def rule(learning_rate, weight_decay, momentum):
        return optax.chain(
            optax.add_decayed_weights(weight_decay, decayed),
            optax.sgd(learning_rate, momentum, nesterov),
        )

    return rule


def _adam(decayed: Callable, nesterov: bool) -> Callable:
    def rule(learning_rate, weight_decay, beta1, beta2, epsilon):
        return optax.chain(
            optax.add_decayed_weights(weight_decay, decayed),
            optax.adam(learning_rate, beta1, beta2, epsilon, nesterov=nesterov),
        )

    return rule


def _adamw(decayed: Callable, nesterov: bool) -> Callable:
    def rule(learning_rate, weight_decay, beta1, beta2, epsilon):
        options = {"weight_decay": weight_decay, "mask": decayed, "nesterov": nesterov}
        return optax.adamw(learning_rate, beta1, beta2, epsilon, **options)

    return rule


def _lars(decayed: Callable, nesterov: bool, adapted: Callable) -> Callable:
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

    return rule


def _ratio(
    gradient: jax.Array, w: jax.Array, decay: Any, coefficient: jax.Array, epsilon: jax.Array
) -> jax.Array:
    """Ratio r of `lars` for one layer."""
    weights, slope = jnp.linalg.norm(w.ravel()), jnp.linalg.norm(gradient.ravel())
    sound = (weights > 0) & (slope > 0)
    length = jnp.where(sound, slope + decay * weights + epsilon, 1)
    return jnp.where(sound, coefficient * weights / length, 1)


OPTIMIZERS = Table(
    "optim.name",
    {"sgd": sgd, "adam": adam, "adamw": adamw, "lars": lars},
    entry="a function of config.optim to an optimiser of optax",
)


def make_optimizer(optim: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a config, whose gradient is clipped before all else if that is asked for.

    With `optim.clip_norm` c, and the norm n of the gradient of all parameters together, the rule is
    given the gradient times min(1, c / n) (Pascanu et al. 2013, section 3.2). The state is that of
    the rule alone.
    """
    rule = OPTIMIZERS.choose(optim.name)(optim)
    if not optim.clip_norm:
        return rule
    # No closure, so that equal ones share a program.
    update = functools.partial(_update_by_clipped, rule.update, optim.clip_norm)
    return optax.GradientTransformationExtraArgs(rule.init, update)


def takes_more(update: Callable) -> bool:
    """Tells whether an update takes arguments of other names, as those of optax do."""
    parameters = inspect.signature(update).parameters.values()
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def _update_by_clipped(
    update: Callable,
    norm: float,
    gradients: Any,
    state: optax.OptState,
    params: Any = None,
    **more: Any,
) -> tuple[Any, optax.OptState]:
    clip = optax.clip_by_global_norm(norm)
    clipped, _ = clip.update(gradients, clip.init(params))
    return update(clipped, state, params, **(more if takes_more(update) else {}))


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
    return np.asarray(jax.vmap(schedule)(jnp.arange(steps)), np.float32)
