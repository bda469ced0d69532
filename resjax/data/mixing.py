"""Mixed images: the draw of a partner and a share for each, and the mix of the two.

The numbers are drawn on the host, for resident and for streamed images alike, and depend on the
seed, the epoch and the number of the example alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import betaincinv

from resjax.data.batch import Batch, Mixed
from resjax.data.orders import by_epoch
from resjax.data.philox import MIXING, random_words, to_unit_interval
from resjax.data.resident import Resident

WORDS = 8
"""Random numbers of an example: as many as the generator makes of two values of its counter."""

CHANCE_OF_CUTMIX = 0.5
"""Probability that an image is mixed by CutMix, where mixup is asked for as well."""


class Mix(NamedTuple):
    """The mix of N images with their partners: a box of each shows the partner as well, or instead.

    Inside the box an image is kept * image + (1 - kept) * partner, and elsewhere it is as it was.

    Attributes:
      partners: `[N]` int32, number of another example of the split.
      kept: `[N]` float32, share of the image inside the box.
      boxes: `[N, 4]` int32, top, left, bottom and right of the box; the last two are outside.
      shares: `[N]` float32, share of the image in the whole: 1 - (1 - kept) * area of the box.
    """

    partners: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray
    shares: np.ndarray


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Mixing of training images with others, and of their losses.

    lambda is drawn from Beta(alpha, alpha) for each image and epoch, the partner uniformly from the
    other examples. By mixup (Zhang et al. 2018, section 2) the image is lambda * image +
    (1 - lambda) * partner. By CutMix (Yun et al. 2019, section 3.1) a box of the partner covers it:
    its sides are sqrt(1 - lambda) of those of the image, its centre is uniform, and what is outside
    is cut off, after which lambda is the share of the image that is left.

    Attributes:
      mixup: alpha of mixup; 0 is none.
      cutmix: alpha of CutMix; 0 is none. With both, each image is mixed by one, by a fair draw.
    """

    mixup: float = 0.0
    cutmix: float = 0.0

    def mix(
        self, words: np.ndarray, examples: np.ndarray, number: int, shape: tuple[int, int]
    ) -> Mix:
        """Draws the mix of some examples of a split from the random numbers of each.

        Args:
          words: `[N, WORDS]` uint64, of `words_of`.
          examples: their numbers `[N]`.
          number: that of all examples in the split, at least 2.
          shape: height and width of the images.
        """
        partner, beta, kind, *centre = words.T[:5]
        beta, kind, *centre = map(to_unit_interval, (beta, kind, *centre))
        offsets = 1 + (partner % np.uint64(number - 1)).astype(np.int64)
        chance = CHANCE_OF_CUTMIX if self.mixup and self.cutmix else float(self.cutmix > 0)
        is_cut = kind < chance
        alpha = np.where(is_cut, self.cutmix, self.mixup)
        kept = betaincinv(alpha, alpha, beta)  # the inverse of Beta's distribution function
        size = np.array(shape)
        middle = np.stack(centre, -1) * size
        half = np.sqrt(1 - kept)[:, None] * size / 2
        box = np.concatenate([middle - half, middle + half], -1)
        box = np.where(is_cut[:, None], np.rint(box).clip(0, np.tile(size, 2)), [0, 0, *shape])
        kept = np.where(is_cut, 0, kept)
        area = np.prod(box[:, 2:] - box[:, :2], -1) / np.prod(size)
        return Mix(
            partners=np.int32((examples + offsets) % number),
            kept=np.float32(kept),
            boxes=np.int32(box),
            shares=np.float32(1 - (1 - kept) * area),
        )


def words_of(seed: int, epoch: int, first: int, number: int = 1) -> np.ndarray:
    """Random numbers `[number, WORDS]` uint64 of consecutive examples in an epoch.

    >>> bool((words_of(3, 5, 0, 9)[7:] == words_of(3, 5, 7, 2)).all())
    True
    """
    counter = (first * WORDS // 4, 0, 0, MIXING)
    return random_words((seed, epoch), number * WORDS, counter).reshape(number, WORDS)


def words_of_resident(
    seed: int, epochs: np.ndarray, examples: np.ndarray, number: int
) -> np.ndarray:
    """Random numbers `[N, WORDS]` of examples `[N]` of a split of so many, in their epochs `[N]`.

    It draws those of whole epochs, and keeps the last two for the batches that follow.
    """
    found = np.empty((len(examples), WORDS), np.uint64)
    for epoch in np.unique(epochs).tolist():
        own = epochs == epoch
        found[own] = by_epoch(_words_of_epoch, seed, number)(epoch)[examples[own]]
    return found


def _words_of_epoch(seed: int, epoch: int, number: int) -> np.ndarray:
    return words_of(seed, epoch, 0, number)


@dataclasses.dataclass(frozen=True)
class MixedView:
    """View of resident images that mixes each with its partner.

    Attributes:
      view: augmentation; the partner is augmented as in its own place in the epoch.
    """

    view: Callable[[Resident, Any, jax.Array], Batch]

    def __call__(
        self, split: Resident, inputs: tuple[jax.Array, jax.Array, Mix], seed: jax.Array
    ) -> Batch:
        """Mixes examples of a split; `inputs` are their numbers and epochs, `[N]`, and the mix."""
        examples, epochs, mix = inputs
        batch = self.view(split, (examples, epochs), seed)
        partner = self.view(split, (mix.partners, epochs), seed)
        height, width = batch.images.shape[1:3]
        top, left, bottom, right = (side[:, None] for side in mix.boxes.T)
        rows, columns = jnp.arange(height), jnp.arange(width)
        inside = ((rows >= top) & (rows < bottom))[:, :, None]
        inside &= ((columns >= left) & (columns < right))[:, None, :]
        kept = jnp.where(inside, mix.kept[:, None, None], 1)[..., None]
        images = kept * batch.images + (1 - kept) * partner.images
        return Batch(images, batch.labels, Mixed(partner.labels, mix.shares))


def mix_bytes(mix: Mix, row: int, image: np.ndarray, partner: np.ndarray) -> None:
    """Mixes a decoded image `[H, W, C]` uint8 with its partner in place, to whole levels."""
    top, left, bottom, right = mix.boxes[row]
    part, kept = image[top:bottom, left:right], mix.kept[row]
    part[:] = np.rint(kept * part + (1 - kept) * partner[top:bottom, left:right])
