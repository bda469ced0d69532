"""Augmentation inside the compiled step: crops of padded images, and mirror images."""

import dataclasses

import jax
import jax.numpy as jnp

from resjax.data.resident import Batch, Resident
from resjax.ops.random import random_key

STREAM = 2**32 - 1
"""Number that sets the key of augmentation apart from those of the steps, which are smaller."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random crops and mirror images for training (He et al. 2015, section 4.2).

    Attributes:
      pad: zeros on every side of a standardised image, from which a window of its size is cut.
      flip: whether the image is mirrored with a probability of 1/2.
    """

    pad: int = 0
    flip: bool = False

    def __call__(
        self, split: Resident, inputs: tuple[jax.Array, jax.Array], seed: jax.Array
    ) -> Batch:
        """Augments examples of a split; `inputs` are their numbers `[N]` and epochs `[N]`.

        The result for an image depends only on the seed, its number and the epoch, and neither on
        the batch that it is in nor on the device.
        """
        examples, epochs = inputs
        if not (self.pad or self.flip):
            return split.take(examples)
        height, width = split.images.shape[1:3]
        down, right, mirrored = self._draw(examples, epochs, seed)
        rows = jnp.arange(height) + (down - self.pad)[:, None]
        columns = jnp.arange(width)
        columns = jnp.where(mirrored[:, None], columns[::-1], columns) + (right - self.pad)[:, None]
        inside = _within(rows, height)[:, :, None] & _within(columns, width)[:, None]
        # One pass over the bytes of the images; pixels read outside of their bounds are not used.
        images = split.images.at[examples[:, None, None], rows[:, :, None], columns[:, None]].get(
            mode="clip"
        )
        images = split.standardise(
            images, rows.clip(0, height - 1)[:, :, None], columns.clip(0, width - 1)[:, None]
        )
        return Batch(jnp.where(inside[..., None], images, 0), split.labels[examples])

    def _draw(
        self, examples: jax.Array, epochs: jax.Array, seed: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws for each example how far its window lies down and right, and if it is mirrored."""
        stream = jax.random.fold_in(random_key(seed), STREAM)

        def of_example(example, epoch):
            key = jax.random.fold_in(jax.random.fold_in(stream, epoch), example)
            window, mirror = jax.random.split(key)
            down, right = jax.random.randint(window, (2,), 0, 2 * self.pad + 1)
            return down, right, jax.random.bernoulli(mirror) & self.flip

        return jax.vmap(of_example)(examples, epochs)


def _within(places: jax.Array, size: int) -> jax.Array:
    return (places >= 0) & (places < size)
