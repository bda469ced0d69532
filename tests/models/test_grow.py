"""A deeper network contains the shallower one (He et al. 2015, section 1)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import ConfigError, default_config
from resjax.models.blocks import ACTIVATION, NORM, ORDERS, Order
from resjax.models.build import ACTIVATIONS, build_model
from resjax.models.grow import grow, refuse_ungrowable
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.trace import variable_shapes
from resjax.training.state import create_state
from tests.drawn import normal
from tests.models.compiled import quick, scrambled

IMAGES = normal(7, (16, 8, 8, 3))


def pair(shallow_depth, deep_depth, **keys):
    models = []
    for depth in (shallow_depth, deep_depth):
        config = default_config()
        config.model.update({"width": 4, "unroll": "1"} | keys | {"depth": depth})
        if jax.config.jax_enable_x64:
            config.model.dtype = "float64"
        models.append(build_model(config, 10))
    return *models, scrambled(variable_shapes(models[0], IMAGES.shape[1:]))


def logits(model, variables, images=IMAGES, train=False):
    return quick(
        lambda variables: model.apply(variables, images, train=train, mutable=["batch_stats"])[0]
    )(variables)


@pytest.mark.parametrize(
    "keys",
    [{"order": "post", "shortcut": "identity"}]
    + [
        pytest.param(keys, marks=pytest.mark.slow)
        for keys in (
            {"order": "post", "shortcut": "projection"},
            {"order": "preact", "shortcut": "identity"},
            {"order": "preact", "shortcut": "projection"},
            {"order": "relu_preact", "shortcut": "identity"},
            {"order": "relu_preact", "shortcut": "projection"},
            {"block": "bottleneck"},
            {"name": "mlp"},
            {"name": "mlp", "block": "single"},
        )
    ],
    ids=str,
)
def test_a_grown_residual_net_is_the_same_function_exactly(keys):
    depths = (11, 29) if keys.get("block") == "bottleneck" else (8, 20)
    shallow, deep, variables = pair(*depths, **keys)
    grown = grow(variables, shallow, deep, jax.random.key(0))
    np.testing.assert_array_equal(logits(deep, grown), logits(shallow, variables))


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [{"shortcut": "none"}]
    + [
        pytest.param(keys, marks=pytest.mark.slow)
        for keys in (
            {"shortcut": "none", "block": "single"},
            {"shortcut": "none", "order": "bn_after_add"},
            {"shortcut": "none", "name": "mlp"},
            {"shortcut": "projection_all"},
        )
    ],
    ids=str,
)
@pytest.mark.parametrize("seen", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("double")
def test_a_grown_plain_net_is_the_same_function_to_rounding(keys, seen):
    depths = (8, 20) if keys.get("block") is None else (5, 14)
    shallow, deep, variables = pair(*depths, **keys)
    grown = grow(variables, shallow, deep, jax.random.key(0), IMAGES if seen else None)
    expected = logits(shallow, variables)
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(logits(deep, grown), expected, rtol=0, atol=1e-9 * scale)


def dense_pair(**keys):
    """A dense network of one block and one of three, with small images for it."""
    shallow, deep, variables = pair(4, 8, name="mlp", unroll="all", **keys)
    return shallow, deep, variables, IMAGES[:4]


def assert_equal_functions(shallow, deep, variables, images):
    grown = grow(variables, shallow, deep, jax.random.key(0))
    expected = shallow.apply(variables, images, train=False)
    found = deep.apply(grown, images, train=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize(
    "activation",
    [pytest.param(name, marks=() if name == "elu" else pytest.mark.slow) for name in ACTIVATIONS],
)
@pytest.mark.usefixtures("double")
def test_every_order_with_every_shortcut_grows_exactly_or_is_refused(activation):
    grown = 0
    for order, shortcut in itertools.product(ORDERS, SHORTCUTS):
        try:
            *models, variables, images = dense_pair(
                activation=activation, order=order, shortcut=shortcut
            )
            refuse_ungrowable(*models)
        except (ConfigError, ValueError):
            continue
        assert_equal_functions(*models, variables, images)
        grown += 1
    assert grown == (14 if activation == "relu" else 6)


@pytest.mark.parametrize(
    "keys", [{"name": "mlp"}, pytest.param({"name": "cifar"}, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.usefixtures("double")
def test_a_stage_whose_only_block_has_no_normalisation_grows(keys):
    """The first block of a pre-activation net has none if its branch has a single layer."""
    depths = {"mlp": (3, 5), "cifar": (5, 8)}[keys["name"]]
    *models, variables = pair(*depths, order="preact", block="single", **keys)
    assert "stage1" not in variables["batch_stats"]
    assert_equal_functions(*models, variables, IMAGES[:4])


@pytest.mark.parametrize("shortcut", ["identity", "none", "projection_all"])
@pytest.mark.parametrize(
    "order",
    [
        Order(between=(ACTIVATION,), after=(NORM,), joined=(ACTIVATION,)),
        Order(after=(NORM, NORM), joined=(ACTIVATION,)),
    ],
    ids=["fewer", "more"],
)
@pytest.mark.usefixtures("double")
def test_orders_of_ones_own_may_normalise_less_or_more_often(order, shortcut, monkeypatch):
    monkeypatch.setitem(ORDERS, "own", order)
    *models, variables, images = dense_pair(order="own", shortcut=shortcut)
    assert_equal_functions(*models, variables, images)


@pytest.mark.slow
def test_growing_twice_is_growing_once_more():
    shallow, deep, variables = pair(14, 20)
    _, deeper, _ = pair(14, 26)
    once = grow(variables, shallow, deep, jax.random.key(0))
    twice = grow(once, deep, deeper, jax.random.key(1))
    np.testing.assert_array_equal(logits(deeper, twice), logits(shallow, variables))


@pytest.mark.slow
def test_new_identity_blocks_can_learn():
    """Only what is zero must be left by its own gradient: the last scale of every new branch."""
    shallow, deep, variables = pair(8, 20)
    grown = grow(variables, shallow, deep, jax.random.key(0))

    def loss(params):
        output, _ = deep.apply(
            grown | {"params": params}, IMAGES, train=True, mutable=["batch_stats"]
        )
        return jnp.square(output).mean()

    gradient = quick(jax.grad(loss))(grown["params"])["stage2"]["rest"]
    assert (jnp.abs(gradient["norm2"]["scale"]).max(1) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [{"shortcut": "none"}, {"shortcut": "projection_all", "order": "relu_preact"}],
    ids=str,
)
def test_statistics_seen_keep_a_net_close_in_training_mode_too(keys):
    shallow, deep, variables = pair(8, 20, **keys)
    move = quick(lambda v: shallow.apply(v, IMAGES, train=True, mutable=["batch_stats"])[1])
    for _ in range(100):  # until the running statistics are those of the batch
        variables = {**variables, **move(variables)}
    expected = logits(shallow, variables, train=True)

    def distance(images):
        grown = grow(variables, shallow, deep, jax.random.key(0), images)
        return float(jnp.abs(logits(deep, grown, train=True) - expected).max())

    assert distance(IMAGES) < 1e-2 * distance(None)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"shortcut": "none", "order": "preact"}, "only after a relu"),
        ({"shortcut": "none", "block": "bottleneck"}, "too few inner channels"),
        ({"shortcut": "scaled"}, "shortcut Scaled changes x"),
        ({"order": "relu_before_add"}, "cannot be the identity and learn"),
        ({"order": "bn_after_add"}, "cannot be the identity and learn"),
        ({"shortcut": "none", "activation": "gelu"}, "only relu leaves"),
        ({"shortcut": "none", "residual_scale": 0.5}, "scales its branch"),
        ({"shortcut": "projection_all", "order": "preact"}, "projects norm"),
    ],
)
def test_what_cannot_be_the_identity_is_refused(keys, message):
    depths = (11, 20) if keys.get("block") else (8, 20)
    shallow, deep, variables = pair(*depths, **keys)
    with pytest.raises(ValueError, match=message):
        grow(variables, shallow, deep, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("norm", "keys", "refused"),
    [
        ("use_scale", {"shortcut": "none"}, True),
        ("use_bias", {"shortcut": "none"}, True),
        ("use_bias", {"shortcut": "projection_all"}, True),
        ("use_bias", {"shortcut": "projection_all", "projection_norm": "never"}, False),
        ("use_scale", {}, True),
        ("use_bias", {}, False),
        ("use_scale", {"order": "preact"}, False),
    ],
)
@pytest.mark.usefixtures("double")
def test_a_norm_without_what_makes_the_identity_is_refused(norm, keys, refused):
    models = []
    for depth in (8, 14):
        config = default_config()
        config.model.update({"width": 4, "unroll": "1"} | keys | {"depth": depth})
        config.model.dtype = "float64"
        config.norm[norm] = False
        models.append(build_model(config, 10))
    variables = scrambled(variable_shapes(models[0], IMAGES.shape[1:]))
    if refused:
        with pytest.raises(ValueError, match=f"norm.{norm}=False leaves out"):
            grow(variables, *models, jax.random.key(0))
        return
    expected = logits(models[0], variables)
    grown = logits(models[1], grow(variables, *models, jax.random.key(0)))
    np.testing.assert_allclose(grown, expected, rtol=0, atol=1e-9 * float(jnp.abs(expected).max()))


def test_unrelated_networks_are_refused():
    shallow, deep, variables = pair(20, 8)
    with pytest.raises(ValueError, match="only the number of blocks may differ"):
        grow(variables, shallow, deep, jax.random.key(0))


@pytest.mark.parametrize(
    "other",
    [{"shortcut": "none"}, {"activation": "gelu"}, {"order": "preact"}, {"classes": 5},
     {"epsilon": 1e-2}, {"residual_scale": 0.5}],
    ids=str,
)  # fmt: skip
def test_networks_that_compute_otherwise_are_refused(other):
    shallow, _, variables = pair(8, 20)
    config = default_config()
    config.model.update({"width": 4, "unroll": "1", "depth": 20})
    classes, epsilon = other.get("classes", 10), other.get("epsilon", 1e-5)
    config.model.update({k: v for k, v in other.items() if k not in ("classes", "epsilon")})
    config.norm.epsilon = epsilon
    with pytest.raises(ValueError, match="only the number of blocks may differ"):
        grow(variables, shallow, build_model(config, classes), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_nets_without_normalisation_grow_too():
    models = []
    for depth in (8, 20):
        config = default_config()
        config.model.update({"width": 4, "unroll": "1", "depth": depth, "shortcut": "none"})
        config.model.dtype = "float64"
        config.norm.kind = "none"
        models.append(build_model(config, 10))
    state = create_state(models[0], optax.identity(), 1, IMAGES.shape[1:])
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    grown = grow(variables, *models, jax.random.key(0))
    assert grown["batch_stats"] == {}
    np.testing.assert_allclose(logits(models[1], grown), logits(models[0], variables), rtol=1e-9)
