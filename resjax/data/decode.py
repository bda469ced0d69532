"""Decoding of images to pixels: JPEG by libjpeg-turbo, other formats and rare JPEGs by Pillow.

`python -m tests.benchmarks.input decoders` times the decoders that there were to choose from.
"""

import contextlib
import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from resjax.data.headers import TURNS, ImageHeader, TooDeep, open_image, read_image_header

COLOURS = {1: "GRAY", 3: "RGB"}
"""Colour spaces to which images are decoded, by the number of channels."""

SCALES = (8, 4, 2)
"""Reduction factors for which libjpeg-turbo has fast transforms, so that decoding is faster."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def decode(data: bytes, channels: int, exif: bool = False) -> np.ndarray:
    """Decodes all pixels `[height, width, channels]` uint8 of an image in one of `headers.FORMATS`.

    Only the first frame of an animation is read, and no data after the end of an image, such as the
    video in photographs of phones. For 3 channels, transparency is dropped, palettes and CMYK are
    converted and grey is repeated; for 1 channel the result is the luma of ITU-R 601. Of 16 bits
    the upper 8 are taken. With `exif` the image is turned upright as its EXIF metadata say.

    Raises:
      ValueError: if the data are not an image, or end too early.
    """
    header = read_image_header(data, exif)
    return decode_box(data, channels, header, Box(0, 0, header.height, header.width))


def decode_box(
    data: bytes, channels: int, header: ImageHeader, box: Box, smallest: int | None = None
) -> np.ndarray:
    """Decodes the pixels of a box, `decode(data, channels)[top:top+height, left:left+width]`.

    The box refers to the image as it is seen, turned by the orientation in the header.

    With `smallest` a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if it can: the smallest at
    which no side of the box has fewer than `smallest` pixels. The edges of the box are then rounded
    to the pixels of the reduced image.
    """
    mirrored, turns = TURNS[header.orientation]
    header, box = _as_stored(header, box)
    image = None
    if header.frame is not None:
        with contextlib.suppress(ValueError):  # it knows fewer kinds of JPEG than Pillow
            image = _by_turbo(data, channels, header, box, smallest)
    if image is None:
        image = _crop(_by_pillow(data, channels), box)
    if header.orientation == 1:
        return image
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def _as_stored(header: ImageHeader, box: Box) -> tuple[ImageHeader, Box]:
    """Converts the size of an image, and a box in it, to the rows and columns of the file."""
    mirrored, turns = TURNS[header.orientation]
    rows, columns = header[:2]
    for _ in range(turns):  # a quarter to the right each
        box = Box(box.left, rows - box.top - box.height, box.width, box.height)
        rows, columns = columns, rows
    if mirrored:
        box = box._replace(left=columns - box.left - box.width)
    return header._replace(height=rows, width=columns), box


def _crop(image: np.ndarray, box: Box) -> np.ndarray:
    return image[box.top : box.top + box.height, box.left : box.left + box.width]


def _by_turbo(
    data: bytes, channels: int, header: ImageHeader, box: Box, smallest: int | None
) -> np.ndarray:
    """Decodes a box by libjpeg-turbo without the rows below it, most of what a crop can save.

    For this, the height in the frame is changed. The decoder considers the rest superfluous and
    warns of it; so warnings are ignored, and `read_image_header` has looked for the end of the
    data.
    """
    side = min(box.height, box.width)
    scale = next((s for s in SCALES if smallest and side >= s * smallest), 1)
    # Chroma may have half the rows and is interpolated, so the last row depends on the next ones.
    height = min(header.height, box.top + box.height + 2 * scale)
    if height < header.height:
        data = bytearray(data)
        data[header.frame : header.frame + 2] = height.to_bytes(2, "big")
    image = simplejpeg.decode_jpeg(
        data,
        COLOURS[channels],
        min_height=-(-height // scale),
        min_width=-(-header.width // scale),
        min_factor=scale,
        strict=False,
    )
    if scale == 1:
        return _crop(image, box)
    return _crop(image, Box(*(round(edge / scale) for edge in box)))


def _by_pillow(data: bytes, channels: int) -> np.ndarray:
    image = open_image(io.BytesIO(data))
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise TooDeep("an image with 32 bits a channel is refused; save it with 8 or 16")
    try:
        if image.mode.startswith("I"):
            # Grey with 16 bits: Pillow's own conversion would clip it at 255.
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P":
            image = image.convert("RGBA")  # a palette may have transparent colours
        image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # a broken file can raise anything in a decoder
        raise ValueError(f"broken image: {error}; fetch it again") from error
    return np.asarray(image).reshape(image.height, image.width, channels)
