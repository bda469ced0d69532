"""Random numbers depend on the seed alone, whatever JAX is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.models.build import named_model
from resjax.models.trace import initial_variables
from resjax.ops.random import random_key

SETTINGS = (
    {"jax_default_prng_impl": "rbg"},
    {"jax_threefry_partitionable": False},
    {"jax_random_seed_offset": 3},
)


@pytest.fixture(params=SETTINGS, ids=lambda settings: next(iter(settings)))
def setting(request):
    before = {name: getattr(jax.config, name) for name in request.param}
    for name, value in request.param.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def numbers(key):
    """Of every way that this package draws some."""
    one, *_ = jax.random.split(key, 5)
    mapped = jax.vmap(lambda n: jax.random.bernoulli(jax.random.fold_in(key, n), 0.3, (7,)))
    return [
        jax.random.normal(one, (3, 5)),
        jax.random.uniform(key, (1001,)),
        jax.random.permutation(key, 101),
        jax.random.randint(key, (9,), 0, 2**31 - 1),
        mapped(jnp.arange(11)),
        jax.jit(lambda key: jax.random.truncated_normal(key, -2.0, 2.0, (33,)))(key),
    ]


@pytest.fixture(scope="module")
def default():
    return list(map(np.asarray, numbers(jax.random.key(7))))


@pytest.mark.slow
def test_no_setting_changes_a_number(default, setting):
    for ours, expected in zip(numbers(random_key(7)), default, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_numbers_are_those_of_jax_as_it_is_by_default():
    for seed in (0, 7, 2**31, 2**32 - 1):
        for ours, theirs in zip(
            numbers(random_key(seed)), numbers(jax.random.key(seed)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_a_network_begins_the_same_with_a_key_of_ones_own():
    model = named_model("cifar-resnet8", classes=10)
    shape = (32, 32, 3)
    ours = initial_variables(model, random_key(3), shape)
    theirs = initial_variables(model, jax.random.key(3), shape)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    others = initial_variables(model, jax.random.key(3, impl="rbg"), shape)
    assert jax.tree.structure(others) == jax.tree.structure(ours)
    same = jax.tree.map(np.array_equal, ours["params"], others["params"])
    assert not all(jax.tree.leaves(same))
