"""Losses of single examples: functions of logits `[N, classes]` and labels `[N]` to `[N]`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-sum over classes c of q_c log p_c in nats, where p is the softmax of the logits.

    q is (1 - smoothing) for the label plus smoothing / classes for every class (Szegedy et al.
    2016, section 7).

    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))
    Array([1.3862944], dtype=float32)
    """
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over classes of (logit - target)^2; the target is 1 for the label, and else 0.

    >>> squared_error(jnp.array([[1.0, 0.0, 0.0, 2.0]]), jnp.array([0]))
    Array([1.], dtype=float32)
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.square(logits - targets).mean(-1)
