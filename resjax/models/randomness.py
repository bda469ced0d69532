"""Random masks that depend on the example, and not on how a batch is divided."""

import jax
import jax.numpy as jnp
import numpy as np


def keep_mask(
    key: jax.Array,
    probability: jax.Array | np.ndarray | float,
    shape: tuple[int, ...],
    first: jax.Array | int = 0,
) -> jax.Array:
    """Booleans of a shape `[N, ...]`, each true with the given probability.

    Row n depends only on the key and on `first + n`, the number of its example in the whole batch.
    """
    keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(first + jnp.arange(shape[0]))
    return jax.vmap(lambda k: jax.random.bernoulli(k, probability, shape[1:]))(keys)
