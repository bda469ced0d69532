"""Views of encoded images: what one is, and the centre of an image, which is evaluated."""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from resjax.data.decode import decode
from resjax.data.headers import MOST_PIXELS
from resjax.data.philox import VIEW, random_words, to_unit_interval


class ImageKey(NamedTuple):
    """The numbers that alone decide what is random in an image."""

    seed: int
    epoch: int
    example: int


class View(Protocol):
    """Makes images of one size from encoded ones.

    Attributes:
      size: height and width in pixels.
    """

    @property
    def size(self) -> int: ...

    def __call__(self, data: bytes, channels: int, key: ImageKey, out: np.ndarray) -> None:
        """Writes the view of an encoded image to `out` `[size, size, channels]` uint8.

        Raises:
          ValueError: if the image cannot be decoded.
        """
        ...


def uniforms(key: ImageKey, number: int) -> np.ndarray:
    """Uniform numbers `[number]` float64 in [0, 1) for the view of an image."""
    words = random_words((key.seed, key.epoch), number, (0, 0, key.example, VIEW))
    return to_unit_interval(words)


AROUND = 4
"""Pixels around the centre that a bicubic filter reads when an image is enlarged, rounded up."""

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclasses.dataclass(frozen=True)
class CentreCrop:
    """The centre of an image whose shorter side is resized, antialiased.

    The pixels are those of torchvision, which has Pillow resize the image. If the resized image
    would have more than `MOST_PIXELS`, being so long, only the centre is resized, and its edges are
    rounded to float32.

    Attributes:
      size: height and width in pixels.
      resize: length of the shorter side in pixels.
      interpolation: key of `INTERPOLATIONS`.
      exif: whether images are turned upright first, as their EXIF metadata say.

    Raises:
      ValueError: if the centre is larger than what it is cut from, or the interpolation unknown.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    exif: bool = False

    def __post_init__(self):
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation {self.interpolation!r} is neither of {', '.join(INTERPOLATIONS)}"
            )
        if not 0 < self.size <= self.resize:
            raise ValueError(f"size {self.size} is not in 1 to resize {self.resize}; resize more")

    def __call__(self, data: bytes, channels: int, key: ImageKey, out: np.ndarray) -> None:
        """Writes the view of an encoded image to `out` `[size, size, channels]` uint8."""
        image = decode(data, channels, self.exif)
        rows, columns = image.shape[:2]
        wide, left = self._place(columns, min(rows, columns))
        high, top = self._place(rows, min(rows, columns))
        pixels = Image.fromarray(image[..., 0] if channels == 1 else image)
        box = (left, top, left + self.size, top + self.size)
        if wide * high <= MOST_PIXELS:
            centre = pixels.resize((wide, high), INTERPOLATIONS[self.interpolation]).crop(box)
        else:
            centre = self._centre_alone(pixels, box, (columns / wide, rows / high))
        out[:] = np.asarray(centre).reshape(out.shape)

    def _centre_alone(
        self, pixels: Image.Image, box: tuple[int, int, int, int], scales: tuple[float, float]
    ) -> Image.Image:
        """Resizes what becomes the box `(left, top, right, bottom)` of the resized image.

        That is less work, but other pixels in the last bit: Pillow rounds the edges to float32. It
        resizes tall images in another order, so what is around the centre is cut out first.
        """
        edges = [edge * scale for edge, scale in zip(box, scales * 2, strict=True)]
        x, y = (max(0, int(edge) - AROUND) for edge in edges[:2])
        ends = (min(s, int(e) + AROUND) for s, e in zip(pixels.size, edges[2:], strict=True))
        edges = [edge - start for edge, start in zip(edges, (x, y, x, y), strict=True)]
        around, side = pixels.crop((x, y, *ends)), (self.size, self.size)
        return around.resize(side, INTERPOLATIONS[self.interpolation], edges)

    def _place(self, side: int, shorter: int) -> tuple[int, int]:
        """The length of a resized side, and the pixel at which the centre begins."""
        # The longer side is rounded down and the start to even, as torchvision does it.
        resized = self.resize * side // shorter
        return resized, round((resized - self.size) / 2)
