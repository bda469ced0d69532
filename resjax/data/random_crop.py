"""The view of encoded images to train on: random crops, made by OpenCV, of the extra `stream`."""

import dataclasses
import math

import cv2
import numpy as np

from resjax.data.decode import Box, decode_box
from resjax.data.headers import ImageHeader, read_image_header
from resjax.data.transforms import ImageKey, uniforms

# An image is the work of one process; threads inside of it would only wait for each other. This is
# set at import, since the processes that decode images do no more than import what they are sent.
cv2.setNumThreads(0)


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """A part of random area and shape, resized to a square (Szegedy et al. 2015, section 6).

    The area is uniform in `area`, the logarithm of width / height in that of `ratio`. A part that
    does not fit is drawn again; after `tries` it is the largest part in the centre with a ratio
    within the bounds. It is resized bilinearly; a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if
    no side of the part then falls below `size`. After that the part is flipped, and then its
    brightness, contrast and saturation are changed in this order.

    Attributes:
      size: height and width in pixels.
      area: lowest and highest share of the image's area.
      ratio: lowest and highest width / height.
      tries: number of attempts to draw a part that fits.
      flip: probability of swapping left and right.
      brightness, contrast, saturation: strength s; the factor is uniform in
        [max(0, 1 - s), 1 + s], 1 is the image as it is and 0 is black, grey or without colour.
      exif: whether images are turned upright first, as their EXIF metadata say.

    Raises:
      ValueError: if the bounds of area or ratio are not positive and in order.
    """

    size: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    tries: int = 10
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    exif: bool = False

    def __post_init__(self):
        for name, (lowest, highest) in {"area": self.area, "ratio": self.ratio}.items():
            if not 0 < lowest <= highest:
                raise ValueError(
                    f"{name} ({lowest}, {highest}) is not (lowest, highest); give two positive "
                    "numbers in order"
                )

    def __call__(self, data: bytes, channels: int, key: ImageKey, out: np.ndarray) -> None:
        """Writes the view of an encoded image to `out` `[size, size, channels]` uint8."""
        # Each number has a fixed place, so other tries or jitter do not change the others.
        draws = uniforms(key, 6 + 2 * self.tries)
        header = read_image_header(data, self.exif)
        box = self.box(header, draws[:2], draws[6:].reshape(-1, 2))
        part = decode_box(data, channels, header, box, self.size)
        flipped = draws[2] < self.flip
        target = np.empty_like(out) if flipped else out
        cv2.resize(part, (self.size, self.size), target, interpolation=cv2.INTER_LINEAR)
        if flipped:
            cv2.flip(target, 1, out)
        self._jitter(out, draws[3:6])

    def box(self, header: ImageHeader, place: np.ndarray, shapes: np.ndarray) -> Box:
        """The part to cut out, by uniform numbers: `place` `[2]`, `shapes` `[tries, 2]`."""
        rows, columns = header[:2]
        lowest, highest = self.ratio
        for area, shape in shapes.tolist():
            pixels = rows * columns * (self.area[0] + area * (self.area[1] - self.area[0]))
            ratio = lowest * (highest / lowest) ** shape
            width, height = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
            if 0 < width <= columns and 0 < height <= rows:
                top, left = place * (rows - height + 1, columns - width + 1)
                return Box(int(top), int(left), height, width)
        width = max(1, min(columns, round(rows * highest)))
        height = max(1, min(rows, round(columns / lowest)))
        return Box((rows - height) // 2, (columns - width) // 2, height, width)

    def _jitter(self, image: np.ndarray, draws: np.ndarray) -> None:
        for change, draw in zip(JITTER, draws.tolist(), strict=True):
            strength = getattr(self, change)
            if strength:
                lowest, highest = max(0.0, 1 - strength), 1 + strength
                image[:] = JITTER[change](image, lowest + draw * (highest - lowest))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies an image x `[h, w, channels]` uint8 by the factor."""
    return _by_value(image, factor, 0.0)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends factor * x + (1 - factor) * m, where m is the mean luma of the image."""
    return _by_value(image, factor, (1 - factor) * round(_luma(image).mean()))


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blends factor * x + (1 - factor) * luma(x); a grey image stays as it is."""
    if image.shape[-1] == 1:
        return image
    grey = np.repeat(_luma(image)[..., None], 3, -1)
    return cv2.addWeighted(image, factor, grey, 1 - factor, 0.0)


JITTER = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
"""Changes of colour, in the order in which they are made."""


def _by_value(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    table = np.clip(np.rint(factor * np.arange(256) + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table).reshape(image.shape)


def _luma(image: np.ndarray) -> np.ndarray:
    """The luma 0.299 R + 0.587 G + 0.114 B (ITU-R 601), `[h, w]`."""
    return image[..., 0] if image.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
