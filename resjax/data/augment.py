"""Augmentation inside the compiled step: crops of padded images, and mirror images."""

import dataclasses

import jax
import jax.numpy as jnp

from resjax.data.batch import Batch
from resjax.data.resident import Resident
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
        batch = split.take(examples)
        if not (self.pad or self.flip):
            return batch
        down, right, mirrored = self._draw(examples, epochs, seed)
        around = (self.pad, self.pad)
        padded = jnp.pad(batch.images, ((0, 0), around, around, (0, 0)))

        def window(image, down, right):
            return jax.lax.dynamic_slice(image, (down, right, 0), split.image_shape)

        images = jax.vmap(window)(padded, down, right)
        images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return batch._replace(images=images)

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
