"""Drawn shapes: colour images of ten classes that replace CIFAR without a download."""

import math
from collections.abc import Callable

import numpy as np

from resjax.config import ConfigError
from resjax.data.philox import to_unit_interval
from resjax.data.source import Source, Split

SIDE = 32

EXAMPLES = 10_000
"""Default number of training images; a fifth as many are to test on."""

MOST_EXAMPLES = 500_000

DIFFICULTY = 0.5

SEED = 2 << 32
"""Seed of the drawings, which no run and no fake data can have."""

EDGE = 8.0
"""Sharpness of the shapes: an edge fades over SIDE / 2 / EDGE pixels."""

SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # Distances from the border, below zero inside, of a shape within the unit circle.
    "disc": lambda x, y: np.hypot(x, y) - 0.75,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.6) - 0.16,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.62,
    "frame": lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.55) - 0.14,
    "triangle": lambda x, y: np.maximum(0.866 * np.abs(x) + 0.5 * y, -y) - 0.42,
    "cross": lambda x, y: np.minimum(
        np.maximum(np.abs(x) - 0.75, np.abs(y) - 0.2), np.maximum(np.abs(x) - 0.2, np.abs(y) - 0.75)
    ),
    "bar": lambda x, y: np.maximum(np.abs(x) - 0.85, np.abs(y) - 0.2),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.75, 0.55 - np.hypot(x - 0.35, y)),
    "star": lambda x, y: np.hypot(x, y) - 0.55 - 0.28 * np.cos(5 * np.arctan2(y, x)),
    "pair": lambda x, y: np.hypot(np.abs(x) - 0.48, y) - 0.32,
}


def shapes(difficulty: float = DIFFICULTY, examples: int = EXAMPLES) -> Source:
    """Ten shapes, each at a random place, size, angle and colour before a graded background.

    Colour images `[32, 32, 3]` with values 0 to 255; the classes take turns. With the `difficulty`,
    0 to 1, the colours of shape and background come closer, noise grows, and up to four small discs
    lie on the background.

    Raises:
      ConfigError: for more than `MOST_EXAMPLES`.
    """
    if examples > MOST_EXAMPLES:
        raise ConfigError(
            f"data.name=shapes:{difficulty:g}:{examples}: the most are {MOST_EXAMPLES} images"
        )
    test = -(-examples // 5)
    return Source(_draw(0, examples, difficulty), _draw(1, test, difficulty), tuple(SHAPES))


def _draw(split: int, examples: int, difficulty: float) -> Split:
    labels = np.arange(examples) % len(SHAPES)
    parts = [
        _draw_part(np.random.Philox(key=[SEED + split, number]), part, difficulty)
        for number, part in enumerate(np.split(labels, range(1000, examples, 1000)))
    ]
    return Split(np.concatenate(parts), labels.astype(np.int32))


def _draw_part(philox: np.random.Philox, labels: np.ndarray, difficulty: float) -> np.ndarray:
    """Images `[n, 32, 32, 3]` of the shapes of these labels."""
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        words = philox.random_raw(n * math.prod(shape))
        return low + (high - low) * to_unit_interval(words).reshape(n, *shape)

    grid = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    y, x = np.broadcast_to(grid[:, None], (SIDE, SIDE)), np.broadcast_to(grid, (SIDE, SIDE))

    def covered(distance: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - distance * EDGE, 0, 1)[..., None]

    size, angle = uniform(0.4, 0.75, 1, 1), uniform(0, 2 * np.pi, 1, 1)
    left, top = uniform(-0.3, 0.3, 1, 1), uniform(-0.3, 0.3, 1, 1)
    across, down = (x - left) / size, (y - top) / size
    own_x = np.cos(angle) * across + np.sin(angle) * down
    own_y = np.cos(angle) * down - np.sin(angle) * across
    distance = np.empty((n, SIDE, SIDE))
    for label, outline in enumerate(SHAPES.values()):
        of = labels == label
        distance[of] = outline(own_x[of], own_y[of]) * size[of]

    back, apart = uniform(60, 195, 3), uniform(40, 110, 3) * (1.2 - 0.9 * difficulty)
    fore = np.where(uniform(0, 1, 3) < 0.5, back - apart, back + apart)
    slope = uniform(-30, 30, 2, 3)
    images = back[:, None, None] + slope[:, None, None, 0] * x[..., None]
    images = images + slope[:, None, None, 1] * y[..., None]
    for _ in range(round(4 * difficulty)):
        colour, radius = uniform(20, 235, 3), uniform(0.05, 0.18, 1, 1)
        disc = np.hypot(x - uniform(-1, 1, 1, 1), y - uniform(-1, 1, 1, 1)) - radius
        images = images + covered(disc) * (colour[:, None, None] - images)
    images = images + covered(distance) * (fore[:, None, None] - images)
    # The sum of three uniform numbers is close to normal.
    noise = uniform(-1, 1, 3, SIDE, SIDE, 3).sum(1)
    return np.clip(np.rint(images + 45 * difficulty * noise), 0, 255).astype(np.uint8)
