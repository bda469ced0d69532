"""Decoding of images to pixels: JPEG by libjpeg-turbo, other formats and rare JPEGs by Pillow.

`python -m tests.benchmarks.input decoders` times the decoders that there were to choose from.
"""

import contextlib
import io
import re
import warnings
from typing import BinaryIO, NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

COLOURS = {1: "GRAY", 3: "RGB"}
"""Colour spaces to which images are decoded, by the number of channels."""

MOST_PIXELS = 1 << 26
"""Maximum number of pixels of an image; a small file could claim more and fill the memory."""

# Pillow warns from 4/3 as many pixels on, which are refused here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

FORMATS = (
    "JPEG",
    "PNG",
    "WEBP",
    "BMP",
    "TIFF",
    "GIF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "DIB",
    "QOI",
    "SGI",
    "SUN",
)
"""Image formats that are read, by Pillow's names; its others hold no photographs, or run code."""

SCALES = (8, 4, 2)
"""Reduction factors for which libjpeg-turbo has fast transforms, so that decoding is faster."""


class TooManyPixels(ValueError):
    """An image that has more than `MOST_PIXELS`, or no pixels."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class ImageHeader(NamedTuple):
    """The facts about an image that are known before it is decoded.

    Attributes:
      height, width: size in pixels, as the image is seen.
      frame: offset in the file of the height of a JPEG; None if Pillow is to decode the image.
      orientation: key of `TURNS`, the way from the rows of the file to those that are seen.
    """

    height: int
    width: int
    frame: int | None = None
    orientation: int = 1


TURNS: dict[int, tuple[bool, int]] = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}
"""Turns by the orientation of EXIF: whether left and right are swapped, and the number of quarter
turns to the left that follow."""

_ORIENTATION = 0x0112


def read_image_header(data: bytes, exif: bool = False) -> ImageHeader:
    """Reads the size of an encoded image, without decoding it.

    Args:
      data: the bytes of the file.
      exif: whether the image is turned upright as its EXIF metadata say; otherwise its rows are
        those of the file.

    Raises:
      ValueError: if it is not an image, ends too early or has more than `MOST_PIXELS`.
    """
    header = _jpeg_header(data)
    if header is None:
        width, height = open_image(io.BytesIO(data)).size
        header = ImageHeader(height, width)
    if data.startswith(_PNG) and not _png_ends(data):
        raise ValueError(f"a PNG that ends too early, after {len(data)} bytes; fetch it again")
    refuse_too_many_pixels(header.height, header.width)
    return _upright(header, data) if exif else header


def _upright(header: ImageHeader, data: bytes) -> ImageHeader:
    try:
        orientation = open_image(io.BytesIO(data)).getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever parsing broken metadata raises; the pixels may be whole
        orientation = 1
    if orientation not in TURNS:
        orientation = 1
    height, width, frame, _ = header
    if TURNS[orientation][1] % 2:
        height, width = width, height
    return ImageHeader(height, width, frame, orientation)


def refuse_too_many_pixels(height: int, width: int) -> None:
    """Raises TooManyPixels for an image without pixels, or with more than `MOST_PIXELS`."""
    if not 0 < height * width <= MOST_PIXELS:
        raise TooManyPixels(
            f"an image of {height} x {width} pixels is refused; give one with 1 to {MOST_PIXELS}"
        )


def decode(data: bytes, channels: int, exif: bool = False) -> np.ndarray:
    """Decodes all pixels `[height, width, channels]` uint8 of an image in one of `FORMATS`.

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
        raise ValueError("an image with 32 bits a channel is refused; save it with 8 or 16")
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


def open_image(file: BinaryIO) -> Image.Image:
    """Opens an image by Pillow, which reads its header but no pixels yet.

    Raises:
      TooManyPixels: if it has far more than `MOST_PIXELS`.
      ValueError: if it is in none of `FORMATS`, or its header is broken.
    """
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        what = f"{size} bytes that start with {file.read(8)!r}" if size else "no bytes"
        raise ValueError(f"{what} are not an image; give JPEG or PNG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooManyPixels(
            f"an image of far more than {MOST_PIXELS} pixels is refused; give a smaller one"
        ) from None
    except Exception as error:
        raise ValueError(f"broken image: {error}; fetch it again") from error


def _formats() -> tuple[str, ...]:
    """The members of `FORMATS` that this Pillow supports."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def suffixes() -> frozenset[str]:
    """The suffixes of files in these formats, in lower case."""
    known = _formats()
    return frozenset(end for end, of in Image.registered_extensions().items() if of in known)


_PNG = b"\x89PNG\r\n\x1a\n"


def _png_ends(data: bytes) -> bool:
    """Tells whether the chunks of a PNG are complete up to IEND; other data may follow it.

    A chunk is length, name, content and checksum (ISO/IEC 15948, 5.3).
    """
    at = len(_PNG)
    while data[at + 4 : at + 8] != b"IEND":
        if at + 12 > len(data):
            return False
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return at + 12 <= len(data)


_START = b"\xff\xd8"
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: with Huffman codes
_SCAN, _END = 0xDA, 0xD9
_BETWEEN_SCANS = frozenset({0xC4, 0xCC, _SCAN, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE})
_AFTER_PIXELS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers that no length follows
_COLOUR_COMPONENTS = frozenset({1, 3})


def _jpeg_header(data: bytes) -> ImageHeader | None:
    """Reads the size in the frame of a JPEG; None for images left to Pillow, such as CMYK.

    A JPEG is a list of segments, marker and length before each (ITU-T T.81, annex B).
    """
    if data[:2] != _START:
        return None
    header, at = None, 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF or marker in _ALONE:
            at += 2 if marker in _ALONE else 1
            continue
        if marker == _SCAN:
            if not _jpeg_ends(data, at):
                break
            return header
        if marker in _FRAMES and data[at + 9 : at + 10] and data[at + 9] in _COLOUR_COMPONENTS:
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            width = int.from_bytes(data[at + 7 : at + 9], "big")
            header = ImageHeader(height, width, at + 5)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    raise ValueError(f"a JPEG that ends too early, after {len(data)} bytes; fetch it again")


def _jpeg_ends(data: bytes, at: int) -> bool:
    """Tells whether all scans of a JPEG are complete; the first of them begins at `at`.

    Other data may follow them. Among pixels a byte 0xff is followed by 0 or a restart, so any other
    marker ends a scan.
    """
    while found := _AFTER_PIXELS.search(data, at):
        marker = found[0][1]
        if marker not in _BETWEEN_SCANS:
            return marker == _END
        length = data[found.end() : found.end() + 2]
        at = found.end() + int.from_bytes(length, "big")
    return False
