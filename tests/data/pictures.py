"""Pictures for tests: smooth colours with edges, as JPEG or PNG."""

import io

import numpy as np
from PIL import Image


def picture(number: int, height: int, width: int) -> np.ndarray:
    """`[height, width, 3]` uint8: coarse noise made large, with a bright rectangle in it."""
    random = np.random.default_rng(number)
    coarse = random.integers(30, 220, (5, 6, 3), np.uint8)
    image = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    top, left = random.integers(0, height), random.integers(0, width)
    image[top : top + height // 3, left : left + width // 4] = random.integers(0, 256, 3)
    return image


def encoded(image: Image.Image | np.ndarray, kind: str = "JPEG", **options) -> bytes:
    """The bytes of a file; of a JPEG the quality is 90 if the options do not say another."""
    options = {"quality": 90} | options if kind == "JPEG" else options
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
