"""Statistics of images, by which they are standardised to (image - mean) / deviation."""

import math

import numpy as np

from resjax.config.tables import Table


def no_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean 0 and deviation 1, `[C]`, which leave images as they are."""
    return np.zeros(images.shape[-1]), np.ones(images.shape[-1])


VALUES_AT_ONCE = 1 << 22
"""Number of values squared at once; they take eight times the bytes of the images."""


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation `[C]` of every channel, over examples and pixels."""
    mean = images.mean((0, 1, 2))
    squares = _sum_of_squares(images, mean, (0, 1, 2))
    deviation = np.sqrt(squares / (images.size // images.shape[-1]))
    return mean, np.maximum(deviation, 1e-6)


def pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean image `[H, W, C]` (He et al. 2015, section 4.2), and one deviation `[C]` for all.

    The paper does not divide; in a net with normalisation the constant makes no difference.
    """
    mean = images.mean(0)
    deviation = max(math.sqrt(_sum_of_squares(images, mean) / images.size), 1e-6)
    return mean, np.full(images.shape[-1], deviation)


def _sum_of_squares(
    images: np.ndarray, mean: np.ndarray, axes: tuple[int, ...] | None = None
) -> np.ndarray:
    """Sum of (image - mean)^2 over some axes, or all, of a few images at a time."""
    parts = np.array_split(images, -(-images.size // VALUES_AT_ONCE))
    return sum(np.square(part - mean).sum(axes) for part in parts)


IMAGENET_MEAN, IMAGENET_DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and deviation of every colour in the training set of ImageNet: torchvision's times 255."""


def imagenet_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives `IMAGENET_MEAN` and `IMAGENET_DEVIATION`, whatever the images."""
    return np.array(IMAGENET_MEAN), np.array(IMAGENET_DEVIATION)


def half_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives half of the largest byte as mean and deviation, for images from -1 to 1."""
    return np.full(images.shape[-1], 127.5), np.full(images.shape[-1], 127.5)


STATISTICS = Table(
    "data.standardise",
    {
        "none": no_statistics,
        "half": half_statistics,
        "channel": channel_statistics,
        "pixel": pixel_statistics,
        "imagenet": imagenet_statistics,
    },
)

STREAMED_STATISTICS = ("imagenet", "half", "none")
"""Keys of `STATISTICS` that need no images in memory."""
