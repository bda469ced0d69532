"""Random keys that depend on a seed alone, whatever the settings of JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.random import define_prng_impl, threefry_prng_impl


def random_key(seed: jax.Array | int) -> jax.Array:
    """The key of a seed from 0 to 2^32 - 1; a key is returned as it is.

    Raises:
      ValueError: for anything else.

    >>> bool((jax.random.key_data(random_key(7)) == jax.random.key_data(jax.random.key(7))).all())
    True
    """
    if isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key):
        return seed
    whole = jnp.issubdtype(jnp.result_type(seed), jnp.integer) and not jnp.shape(seed)
    if not whole or (isinstance(seed, int) and not 0 <= seed < 2**32):
        raise ValueError(
            f"seed={seed} is neither a number from 0 to 2^32 - 1 nor a key, as jax.random.key(0)"
        )
    data = threefry_prng_impl.seed(jnp.asarray(seed, jnp.uint32))
    return jax.random.wrap_key_data(data, impl=GENERATOR)


def _by_position(function: Callable) -> Callable:
    """Makes a random number depend on its position, not on the number drawn (JAX's default)."""

    @functools.wraps(function)
    def called(*arguments: Any) -> jax.Array:
        with jax.threefry_partitionable(True):
            return function(*arguments)

    return called


GENERATOR = define_prng_impl(
    key_shape=threefry_prng_impl.key_shape,
    seed=threefry_prng_impl.seed,
    split=_by_position(threefry_prng_impl.split),
    random_bits=_by_position(threefry_prng_impl.random_bits),
    fold_in=_by_position(threefry_prng_impl.fold_in),
    name="resjax_threefry2x32",
    tag="fry",
)
"""Threefry (Salmon et al. 2011), with the defaults of JAX whatever its settings."""
