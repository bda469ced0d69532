import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import ConfigError, default_config
from resjax.config.durations import Clock
from resjax.models.build import named_model
from resjax.models.trace import initial_variables
from resjax.training.optim import OPTIMIZERS, SCHEDULES, learning_rate_schedule, learning_rates
from tests.rounding import bound


def optim(**settings):
    config = default_config().optim
    config.update(settings)
    return config


ROUNDED = 1e-5
"""Relative, of float32 that are rounded a few times by 6e-8."""


def rates(steps=100, **settings):
    schedule = learning_rate_schedule(optim(learning_rate=0.4, **settings), Clock(1000, 10, steps))
    return learning_rates(schedule, steps)


def test_cosine_schedule():
    expected = 0.2 * (1 + np.cos(np.pi * np.arange(100) / 100))
    # Of 1 + cos little is left at the end, so that what is rounded is as large as at the start.
    np.testing.assert_allclose(rates(schedule="cosine"), expected, rtol=0, atol=bound(4, 0.4))


def test_step_schedule_divides_at_its_milestones():
    """He et al. 2015, section 4.2: divided by 10 at 32k and 48k of 64k iterations."""
    got = rates(64_000, schedule="step", milestones=("32000 steps", "75%"))
    np.testing.assert_allclose(got[[0, 31_999, 32_000, 47_999, 48_000, 63_999]],
                               [0.4, 0.4, 0.04, 0.04, 0.004, 0.004], rtol=ROUNDED)  # fmt: skip


def test_a_schedule_that_was_changed_is_not_taken_for_what_it_was(monkeypatch):
    for value in (0.25, 0.5):  # as a notebook loads an experiment file again
        own = optax.constant_schedule(value)
        monkeypatch.setitem(SCHEDULES, "own", lambda optim, clock, steps, own=own: own)
        assert rates(schedule="own").tolist() == [value] * 100


def test_warmup_comes_before_the_schedule_and_milestones_count_from_the_start():
    linear = rates(schedule="constant", warmup="4 steps", warmup_factor=0.5)
    np.testing.assert_allclose(linear[:6], [0.2, 0.25, 0.3, 0.35, 0.4, 0.4], rtol=ROUNDED)
    settings = {"schedule": "step", "milestones": ("50 steps",), "warmup_shape": "constant"}
    constant = rates(warmup="10 steps", warmup_factor=0.1, **settings)
    np.testing.assert_allclose(
        constant[[0, 9, 10, 49, 50]], [0.04, 0.04, 0.4, 0.4, 0.04], rtol=ROUNDED
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "linear"}, "choose one of: constant, cosine, step"),
        ({"warmup_shape": "cubic", "warmup": "1 step"}, "choose one of: linear, constant"),
        ({"warmup": "1 epoch"}, "is 100 steps of 100; shorten it"),
        ({"schedule": "step", "milestones": ("75%", "50%")}, "do not grow; sort them"),
        ({"schedule": "step", "milestones": ("200%",)}, "a milestone lies inside the run"),
    ],
)
def test_wrong_schedules_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        rates(**settings)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decayed", ["all", "kernels"])
def test_sgd_follows_its_formula(nesterov, decayed):
    """V = momentum v + g;  w -= rate v, or the step of Nesterov:  w -= rate (g + momentum v)."""
    decay, momentum, rate = 0.01, 0.9, 0.3
    rule = OPTIMIZERS["sgd"](
        optim(weight_decay=decay, momentum=momentum, nesterov=nesterov, decayed=decayed)
    )
    params = {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5])}
    expected = {name: np.float64(value) for name, value in params.items()}
    velocity = dict.fromkeys(params, 0.0)
    state = rule.init(params)
    for step in range(3):
        gradient = {name: jnp.cos(value + step) for name, value in params.items()}
        state.hyperparams["learning_rate"] = jnp.float64(rate)
        updates, state = rule.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        for name, value in expected.items():
            g = np.cos(value + step)
            g += decay * value if decayed == "all" or name == "kernel" else 0
            velocity[name] = momentum * velocity[name] + g
            ahead = g + momentum * velocity[name] if nesterov else velocity[name]
            expected[name] = value - rate * ahead
        for name in params:
            np.testing.assert_allclose(params[name], expected[name], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("decayed", "adapted"), [("all", "kernels"), ("kernels", "all")])
def test_lars_has_a_ratio_for_each_block_of_a_stack(decayed, adapted):
    """You et al. 2017, algorithm 1, in NumPy: the lengths of gradient and decay are added."""
    model = named_model("cifar-resnet20", width=2, dtype="float64")
    params = initial_variables(model, jax.random.key(0), (8, 8, 1))["params"]
    rate, decay, momentum, trust, epsilon = 0.3, 0.5, 0.9, 0.02, 0.01
    rule = OPTIMIZERS["lars"](
        optim(name="lars", weight_decay=decay, momentum=momentum, trust_coefficient=trust,
              trust_epsilon=epsilon, decayed=decayed, adapted=adapted)
    )  # fmt: skip

    def layers(tree):
        """{(path, number of the block in a stack): float64 array}."""
        return {
            (jax.tree_util.keystr(path), number): np.float64(part)
            for path, leaf in jax.tree.leaves_with_path(tree)
            for number, part in enumerate(leaf if "rest" in jax.tree_util.keystr(path) else [leaf])
        }

    expected = layers(params)
    velocity = dict.fromkeys(expected, 0.0)
    update, state = jax.jit(rule.update), rule.init(params)
    state = state._replace(hyperparams=state.hyperparams | {"learning_rate": jnp.float64(rate)})
    for step in range(3):
        gradient = jax.tree.map(lambda leaf, t=step + 2.0: np.cos(t * leaf) * leaf, params)
        slopes = layers(gradient)
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        for layer, w in expected.items():
            kernel = "kernel" in layer[0]
            own = decay if kernel or decayed == "all" else 0.0
            lengths = np.linalg.norm(w), np.linalg.norm(slopes[layer])
            ratio = trust * lengths[0] / (lengths[1] + own * lengths[0] + epsilon)
            scaled = (kernel or adapted == "all") and min(lengths) > 0
            step_of = (ratio if scaled else 1.0) * (slopes[layer] + own * w)
            velocity[layer] = momentum * velocity[layer] + rate * step_of
            expected[layer] = w - velocity[layer]
        for layer, w in layers(params).items():
            np.testing.assert_allclose(w, expected[layer], rtol=1e-9, atol=1e-9, err_msg=layer)
