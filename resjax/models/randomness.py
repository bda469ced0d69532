"""Random masks that belong to examples, so that they do not depend on how a batch is divided."""

import jax
import jax.numpy as jnp


def keep_mask(key: jax.Array, probability: jax.Array | float, shape: tuple[int, ...]) -> jax.Array:
    """Booleans `[N, ...]`, each true with a probability; row n depends on the key and n alone."""
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(shape[0]))
    return jax.vmap(lambda k: jax.random.bernoulli(k, probability, shape[1:]))(keys)
