"""Batches of images, as networks and losses take them."""

from typing import NamedTuple

import jax


class Mixed(NamedTuple):
    """Labels `[N]` that images are mixed with, and the shares `[N]` of their own labels."""

    labels: jax.Array
    shares: jax.Array


class Batch(NamedTuple):
    """Images `[N, H, W, C]`, standardised, labels `[N]`, and what is mixed in, if anything is."""

    images: jax.Array
    labels: jax.Array
    mixed: Mixed | None = None
