"""Headers of image files: format, size and orientation, and whether the file is complete."""

import io
import re
import warnings
from typing import BinaryIO, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

MOST_PIXELS = 1 << 26
"""Maximum number of pixels of an image; a small file could claim more and fill the memory."""

# Pillow warns from 4/3 as many pixels on, which are refused here. The filter is set at import, so
# that workers have it, too; to set one around each image would not be thread-safe.
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


HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of the files of photographs that iPhones write, which Pillow does not read."""


class TooManyPixels(ValueError):
    """An image that has more than `MOST_PIXELS`, or no pixels."""


class TooDeep(ValueError):
    """An image with more than 16 bits a channel."""


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
        orientation = open_image(io.BytesIO(data)).getexif()[ExifTags.Base.Orientation]
        _, turns = TURNS[orientation]
    except Exception:  # it has none, or broken metadata, but its pixels may be whole
        return header
    height, width = header[:2] if turns % 2 == 0 else (header.width, header.height)
    return header._replace(height=height, width=width, orientation=orientation)


def refuse_too_many_pixels(height: int, width: int) -> None:
    """Raises TooManyPixels for an image without pixels, or with more than `MOST_PIXELS`."""
    if not 0 < height * width <= MOST_PIXELS:
        raise TooManyPixels(
            f"an image of {height} x {width} pixels is refused; give one with 1 to {MOST_PIXELS}"
        )


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
        start = file.read(12)
        if start[4:8] == b"ftyp" and start[8:] in HEIC:
            raise ValueError("an image in HEIC is not read; save it as JPEG or PNG") from None
        what = f"{size} bytes that start with {start[:8]!r}" if size else "no bytes"
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
