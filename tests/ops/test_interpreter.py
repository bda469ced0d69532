"""What runs once gives the same bits interpreted as it does in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import default_config
from resjax.models.build import build_model
from resjax.models.trace import initial_variables
from resjax.ops.interpreter import interpret
from resjax.training.optim import lars, sgd
from resjax.training.state import begin_training, create_state

SHAPE = (8, 8, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"shortcut": "identity"},
        {"shortcut": "projection_all", "order": "preact"},
        {"shortcut": "shortcut_gate", "kernel_init": "orthogonal", "zero_last_gamma": True},
        {"name": "mlp", "depth": 10, "width": 16, "head_init": "zeros"},
    ],
    ids=lambda keys: keys.get("name", keys.get("shortcut")),
)
def test_a_network_begins_with_the_bits_that_one_program_draws(keys):
    config = default_config()
    config.model.update({"depth": 14, "width": 4} | keys)
    model, key = build_model(config, 10), jax.random.key(3)

    def draw(key):
        return model.init(key, jnp.zeros((1, *SHAPE)), train=False)

    # As the functions of NumPy that it is compared with, without contraction of products and sums.
    options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
    expected = jax.jit(draw, compiler_options=options)(key)
    jax.tree.map(np.testing.assert_array_equal, initial_variables(model, key, SHAPE), expected)


@pytest.mark.parametrize(
    "make", [sgd, lars, lambda optim: optax.adam(0.1)], ids=["sgd", "lars", "adam"]
)
def test_the_first_state_is_that_of_the_optimiser(make):
    config = default_config()
    config.model.update({"depth": 8, "width": 2})
    model, optimizer = build_model(config, 10), make(config.optim)
    state = create_state(model, optimizer, 1, SHAPE, ema_decay=0.5)
    expected = optimizer.init(state.params)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, expected)
    assert jax.tree.structure(state.opt_state) == jax.tree.structure(expected)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    jax.tree.map(
        np.testing.assert_array_equal, state, begin_training(variables, optimizer, jnp.float32, 0.5)
    )


def test_only_what_a_result_depends_on_is_computed():
    calls = []

    def note(x):
        calls.append("noted")
        return x

    def program(x):
        unused = jax.pure_callback(note, jax.ShapeDtypeStruct((3,), jnp.float32), x)

        def body(carry, element):
            return carry * element + unused.sum(), jax.jit(lambda y: 2 * y)(element)

        last, doubled = jax.lax.scan(body, jnp.float32(1), x)
        return doubled, jnp.zeros((2, 2)), last * 0 + 1

    traced = jax.make_jaxpr(program)(jnp.arange(3.0))
    doubled, zeros = interpret(
        type(traced)(traced.jaxpr.replace(outvars=traced.jaxpr.outvars[:2]), traced.consts),
        [np.arange(3, dtype=np.float32)],
    )
    np.testing.assert_array_equal(doubled, [0, 2, 4])
    np.testing.assert_array_equal(zeros, np.zeros((2, 2)))
    assert calls == []


def test_what_is_carried_through_a_scan_is_computed_in_its_order():
    def program(x):
        return jax.lax.scan(lambda carry, element: (2 * carry + element, carry), 1.0, x)

    traced = jax.make_jaxpr(program)(jnp.arange(4.0))
    last, before = interpret(traced, [np.arange(4, dtype=np.float32)])
    assert last == 27.0
    np.testing.assert_array_equal(before, [1, 2, 5, 12])
