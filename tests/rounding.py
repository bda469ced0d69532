"""How far rounding alone takes sums from the exact ones, on whatever CPU they are computed."""

import jax
import jax.numpy as jnp
import numpy as np

MARGIN = 10


def bound(terms, size, dtype=jnp.float32):
    """The error of a sum of so many terms, whose absolute values add up to `size`.

    sqrt(terms) u size with a margin, u being the unit roundoff: whatever the order of the terms,
    an error beyond it has a probability of 2 terms exp(-MARGIN^2 / 2) (Higham and Mary 2019).
    """
    return MARGIN * np.sqrt(terms) * float(jnp.finfo(dtype).eps) / 2 * size


def assert_equal_to_rounding(ours, function, *operands):
    """`ours` is `function(*operands)`, each result of which is a sum of products of the operands.

    What is exact is computed in float64. Of ones, the function counts the terms of its sums, and of
    absolute values it adds theirs; a sum of no terms is zero.
    """

    def compute(change):
        with jax.enable_x64(True):
            results = function(*(jnp.asarray(change(np.float64(each))) for each in operands))
        return [np.asarray(each) for each in jax.tree.leaves(results)]

    dtype = jnp.result_type(*operands)
    results = zip(
        jax.tree.leaves(ours), *map(compute, (np.asarray, np.ones_like, np.abs)), strict=True
    )
    for number, (own, exact, terms, size) in enumerate(results):
        assert own.shape == exact.shape
        error, allowed = np.abs(np.float64(own) - exact), bound(terms, size, dtype)
        assert (error <= allowed).all(), (
            f"result {number} is off by {error.max():.3g}, by rounding {allowed.max():.3g} at most"
        )
