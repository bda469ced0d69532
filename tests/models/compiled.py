"""Functions compiled with little optimisation: tests of single calls spend their time on it."""

from zlib import crc32

import jax
import jax.numpy as jnp

QUICK = {"xla_backend_optimization_level": 0}


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def scrambled(variables, key):
    """Random values everywhere, running statistics too, so that no term hides behind a zero."""

    def draw(path, leaf):
        name = path[-1].key
        key_of_leaf = jax.random.fold_in(key, crc32(jax.tree_util.keystr(path).encode()))
        noise = jax.random.normal(key_of_leaf, leaf.shape, leaf.dtype)
        if name in ("scale", "var"):
            return jnp.exp(0.2 * noise)
        if name in ("bias", "mean"):
            return 0.2 * noise
        return leaf + 0.01 * noise

    return jax.tree_util.tree_map_with_path(draw, variables)
