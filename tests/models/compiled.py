"""Functions compiled with little optimisation, and variables that are drawn without compiling."""

import math
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

QUICK = {"xla_backend_optimization_level": 0}


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def scrambled(tree, seed=0):
    """Random values everywhere, running statistics too, so that no term hides behind a zero.

    `tree` may hold arrays or shapes. NumPy draws: JAX would compile a program for every shape.
    """

    def draw(path, leaf):
        place = jax.tree_util.keystr(path)
        noise = np.random.default_rng([seed, crc32(place.encode())]).standard_normal(leaf.shape)
        name = path[-1].key
        if name == "kernel":
            *size, _, outputs = leaf.shape[1:] if "['rest']" in place else leaf.shape
            value = noise * math.sqrt(2 / (math.prod(size) * outputs))
        elif name in ("bias", "mean"):
            value = 0.2 * noise
        else:
            value = np.exp(0.2 * noise)
        return jnp.asarray(value.astype(leaf.dtype))

    return jax.tree_util.tree_map_with_path(draw, tree)
