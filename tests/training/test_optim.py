import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import ConfigError, default_config
from resjax.config.durations import Clock
from resjax.models.build import named_model
from resjax.models.trace import initial_variables
from resjax.ops.value import by_value
from resjax.training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    learning_rate_schedule,
    learning_rates,
    make_optimizer,
)
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


# ------------------------------------------------------------------------------- against PyTorch

DECAY, RATE = 0.1, 0.05
NUMBERS = {
    "momentum": 0.8, "beta1": 0.7, "beta2": 0.9, "epsilon": 1e-3, "weight_decay": DECAY,
    "learning_rate": RATE,
}  # fmt: skip
START = {"kernel": np.array([[1.0, -2.0], [0.3, 4.0]]), "bias": np.array([0.5, -0.1])}


def gradient_at(params, step):
    """A gradient of each parameter, which changes its sign and its size from step to step."""
    return {name: np.cos(np.array(value) + 2.0 * step) for name, value in params.items()}


def walked(rule, steps=4):
    """The parameters that a rule comes to."""
    params = jax.tree.map(jnp.asarray, START)
    state = rule.init(params)
    for step in range(steps):
        updates, state = rule.update(gradient_at(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def walked_in_torch(torch, make, decayed, clip=None, steps=4):
    """The parameters that an optimiser of PyTorch comes to."""
    params = {name: torch.nn.Parameter(torch.from_numpy(START[name].copy())) for name in START}
    groups = [
        {"params": [params[name]],
         "weight_decay": DECAY if decayed == "all" or name == "kernel" else 0.0}
        for name in params
    ]  # fmt: skip
    optimizer = make(groups)
    for step in range(steps):
        for name, gradient in gradient_at(
            {name: value.detach().numpy() for name, value in params.items()}, step
        ).items():
            params[name].grad = torch.from_numpy(gradient)
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
    return {name: value.detach().numpy() for name, value in params.items()}


def in_torch(torch):
    """Optimisers of PyTorch by what they are called here."""
    betas = {"betas": (NUMBERS["beta1"], NUMBERS["beta2"]), "eps": NUMBERS["epsilon"]}
    momentum = NUMBERS["momentum"]
    return {
        "sgd": lambda params: torch.optim.SGD(params, RATE, momentum),
        "sgd, nesterov": lambda params: torch.optim.SGD(params, RATE, momentum, nesterov=True),
        "adam": lambda params: torch.optim.Adam(params, RATE, **betas),
        "adamw": lambda params: torch.optim.AdamW(params, RATE, **betas),
    }


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("clip_norm", [0.0, 0.7])
@pytest.mark.parametrize("decayed", ["all", "kernels"])
@pytest.mark.parametrize("name", ["sgd", "sgd, nesterov", "adam", "adamw"])
def test_a_rule_is_that_of_torch_with_its_decay_its_mask_and_its_clipping(name, decayed, clip_norm):
    """Decay is in the gradient, after clipping, and for AdamW beside it."""
    torch = pytest.importorskip("torch")
    keys = {"name": name.partition(",")[0], "nesterov": name.endswith("nesterov")}
    rule = make_optimizer(optim(**keys, decayed=decayed, clip_norm=clip_norm, **NUMBERS))
    expected = walked_in_torch(torch, in_torch(torch)[name], decayed, clip_norm)
    for leaf, value in walked(rule).items():
        # PyTorch adds 1e-6 to the norm that it divides by.
        np.testing.assert_allclose(value, expected[leaf], rtol=1e-5 if clip_norm else 1e-12)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_with_nesterov_is_the_formula_of_dozat(name):
    """The part of m that is ahead is corrected by t + 1 steps, and that of g by t (Dozat 2016)."""
    b1, b2 = NUMBERS["beta1"], NUMBERS["beta2"]
    expected = {leaf: value.copy() for leaf, value in START.items()}
    m, v = dict.fromkeys(START, 0.0), dict.fromkeys(START, 0.0)
    for step in range(4):
        for leaf, g in gradient_at(expected, step).items():
            decay = DECAY * expected[leaf]
            g = g + decay if name == "adam" else g
            m[leaf], v[leaf] = b1 * m[leaf] + (1 - b1) * g, b2 * v[leaf] + (1 - b2) * g**2
            t = step + 1
            ahead = b1 * m[leaf] / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
            move = ahead / (np.sqrt(v[leaf] / (1 - b2**t)) + NUMBERS["epsilon"])
            expected[leaf] = expected[leaf] - RATE * (move + (decay if name == "adamw" else 0))
    got = walked(make_optimizer(optim(name=name, nesterov=True, **NUMBERS)))
    for leaf, value in got.items():
        np.testing.assert_allclose(value, expected[leaf], rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_numbers_of_a_rule_are_in_its_state_and_not_in_its_program(name):
    """One compiled program serves runs that differ in them."""
    rules = [
        OPTIMIZERS[name](optim(name=name, **numbers)) for numbers in ({}, NUMBERS, {"beta1": 0.5})
    ]
    assert len({rule.update for rule in rules}) == 1
    numbers = rules[1].init({"kernel": jnp.ones(2)}).hyperparams
    assert {key: float(value) for key, value in numbers.items()} == {
        key: pytest.approx({**optim(), **NUMBERS}[key], rel=1e-6) for key in numbers
    }
    assert {"learning_rate", "weight_decay"} < set(numbers)


# --------------------------------------------------------------------------------------- clipping


def of_gradient(rule, gradient):
    """What a rule makes of a gradient at its first step."""
    return rule.update(gradient, rule.init(gradient), jax.tree.map(jnp.zeros_like, gradient))[0]


def test_clipping_is_by_the_norm_of_all_parameters_the_blocks_of_a_stack_included():
    """By 3 / 13 where the squares of a gradient add up to 13^2, and not at all below."""
    gradient = {
        "first": {"kernel": jnp.array([3.0])},
        "rest": {"kernel": jnp.array([[4.0], [12.0]])},
    }
    plain = make_optimizer(optim(learning_rate=1.0, momentum=0.0, weight_decay=0.0))
    for norm, factor in ((3.0, 3 / 13), (13.1, 1.0), (0.0, 1.0)):
        rule = make_optimizer(
            optim(learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=norm)
        )
        jax.tree.map(
            lambda got, whole, factor=factor: np.testing.assert_allclose(
                got, factor * np.array(whole), rtol=ROUNDED
            ),
            of_gradient(rule, gradient),
            of_gradient(plain, gradient),
        )


def test_runs_side_by_side_are_clipped_each_by_its_own_norm():
    rule = make_optimizer(optim(learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip_norm=1.0))
    gradients = {"kernel": jnp.array([[3.0, 4.0], [0.3, 0.4]])}
    got = jax.vmap(lambda gradient: of_gradient(rule, gradient))(gradients)["kernel"]
    np.testing.assert_allclose(got, [[-0.6, -0.8], [-0.3, -0.4]], rtol=ROUNDED)


def test_an_optimiser_of_an_experiment_is_clipped_as_any_other(tables):
    """Here one that has no numbers in its state, and one that needs the loss."""
    gradient = {"kernel": jnp.array([3.0, 4.0])}
    tables["OPTIMIZERS"]["own"] = lambda optim: optax.sgd(0.5)
    tables["OPTIMIZERS"]["waiting"] = lambda optim: optax.chain(
        optax.sgd(0.5), optax.contrib.reduce_on_plateau()
    )
    for name in ("own", "waiting"):
        rule = make_optimizer(optim(name=name, clip_norm=1.0))
        got, _ = rule.update(gradient, rule.init(gradient), gradient, value=jnp.float32(1))
        np.testing.assert_allclose(got["kernel"], [-0.3, -0.4], rtol=ROUNDED)


def test_without_clipping_the_program_is_that_of_the_rule_and_with_it_equal_ones_share_theirs():
    assert make_optimizer(optim()).update is OPTIMIZERS["sgd"](optim()).update
    forms = [
        by_value(make_optimizer(optim(clip_norm=norm)).update) for norm in (1.0, 1.0, 2.0, 0.0)
    ]
    assert forms[0] == forms[1]
    assert len(set(forms)) == 3
