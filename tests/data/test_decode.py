import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from resjax.data.decode import Box, decode, decode_box
from resjax.data.headers import read_image_header
from tests.data.pictures import encoded, picture

PICTURE = picture(0, 85, 110)
COLOUR = Image.fromarray(PICTURE)
GREY = COLOUR.convert("L")
SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:1:1")

KINDS = {
    **{f"jpeg {chroma}": encoded(COLOUR, subsampling=chroma) for chroma in SAMPLINGS},
    "progressive": encoded(COLOUR, progressive=True),
    "restarts": encoded(COLOUR, restart_marker_blocks=3),
    "metadata": encoded(COLOUR, comment=b"\xff\xda\xff\xc0\xff\xd9" * 50),
    "grey jpeg": encoded(GREY),
    "rgb jpeg": encoded(COLOUR, keep_rgb=True),
    "cmyk jpeg": encoded(COLOUR.convert("CMYK")),
    "png": encoded(COLOUR, "PNG"),
    "alpha": encoded(Image.merge("RGBA", (*COLOUR.split(), GREY)), "PNG"),
    "palette": encoded(COLOUR.quantize(40), "PNG"),
    "one colour transparent": encoded(COLOUR.quantize(40), "PNG", transparency=7),
    "two levels": encoded(COLOUR.convert("1"), "PNG"),
    "grey png": encoded(GREY, "PNG"),
    "grey with alpha": encoded(COLOUR.convert("LA"), "PNG"),
    "webp": encoded(COLOUR, "WEBP", lossless=True),
    **{kind.lower(): encoded(COLOUR, kind) for kind in ("BMP", "TIFF", "GIF", "PPM", "JPEG2000")},
}


def by_pillow(data, mode="RGB"):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_the_colours_that_pillow_has(kind):
    image = decode(KINDS[kind], 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, by_pillow(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_becomes_grey(kind):
    difference = decode(KINDS[kind], 1)[..., 0].astype(int) - by_pillow(KINDS[kind], "L")
    # Pillow takes the luma of colours that were clipped; libjpeg has it before they are.
    assert np.abs(difference).mean() < 0.2
    assert np.abs(difference).max() <= 8


def test_a_palette_with_transparency_for_every_colour_is_no_trouble():
    data = encoded(COLOUR.quantize(40), "PNG", transparency=bytes(range(0, 200, 5)))
    opaque = encoded(COLOUR.quantize(40), "PNG")
    np.testing.assert_array_equal(decode(data, 3), decode(opaque, 3))


def test_of_16_bits_the_upper_8_are_taken():
    deep = np.arange(85 * 110, dtype=np.uint16).reshape(85, 110) * 7
    image = decode(encoded(Image.fromarray(deep), "PNG"), 3)
    np.testing.assert_array_equal(image, np.repeat((deep >> 8)[..., None], 3, -1))


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_a_box_is_that_part_of_the_whole_image(kind, data):
    top, left = data.draw(st.integers(0, 84)), data.draw(st.integers(0, 109))
    height, width = data.draw(st.integers(1, 85 - top)), data.draw(st.integers(1, 110 - left))
    part = decode_box(KINDS[kind], 3, read_image_header(KINDS[kind]), Box(top, left, height, width))
    whole = decode(KINDS[kind], 3)
    np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


@pytest.mark.parametrize(("smallest", "scale"), [(14, 4), (20, 2), (28, 2), (29, 1), (7, 8)])
@pytest.mark.parametrize("kind", ["jpeg 4:4:4", "jpeg 4:2:0", "progressive"])
def test_a_large_box_is_decoded_at_the_scale_that_is_enough(kind, smallest, scale):
    data, box = KINDS[kind], Box(8, 16, 56, 64)
    small = decode_box(data, 3, read_image_header(data), box, smallest)
    assert small.shape == (56 // scale, 64 // scale, 3)
    whole = decode(data, 3)[8:64, 16:80].astype(float)
    means = whole.reshape(56 // scale, scale, 64 // scale, scale, 3).mean((1, 3))
    assert np.abs(small - means).mean() < 3


def test_the_size_is_read_from_the_header():
    for data in KINDS.values():
        assert read_image_header(data)[:2] == (85, 110)


JPEG, PNG = KINDS["jpeg 4:2:0"], KINDS["png"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no bytes are not an image; give JPEG or PNG"),
        (b"<html>not found", r"15 bytes that start with b'<html>no' are not an image; give JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "an image in HEIC is not read; save it as JPEG or PNG"),
        (JPEG[:-2], "a JPEG that ends too early, after .* bytes; fetch it again"),
        (JPEG[: len(JPEG) // 2], "a JPEG that ends too early"),
        (JPEG[:100], "a JPEG that ends too early"),
        (JPEG[:2], "a JPEG that ends too early, after 2 bytes"),
        (KINDS["cmyk jpeg"][:-40], "a JPEG that ends too early"),
        (JPEG[:-40] + b"\xff\x9b a video \xff\xd9", "a JPEG that ends too early"),
        (PNG[: len(PNG) // 2], "a PNG that ends too early, after .* bytes; fetch it again"),
        (PNG[:-1], "a PNG that ends too early"),
        (PNG[:40], "broken image|not an image"),
        (KINDS["webp"][:-40], "broken image: .*; fetch it again"),
        (encoded(Image.fromarray(np.float32(PICTURE[..., 0])), "TIFF"), "32 bits a channel"),
    ],
)
def test_what_is_no_whole_image_is_refused(data, message):
    with pytest.raises(ValueError, match=message) as caught:
        decode(data, 3)
    assert "\n" not in str(caught.value)


def turned(orientation, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(COLOUR, kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_upright_as_pillow_turns_it(orientation, kind):
    data = turned(orientation, kind)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data, 3, exif=True), upright)
    np.testing.assert_array_equal(decode(data, 3), by_pillow(data))


@settings(max_examples=40, deadline=None)
@given(orientation=st.integers(1, 8), data=st.data())
def test_a_box_of_an_upright_image_is_that_part_of_it(orientation, data):
    image = turned(orientation)
    whole, header = decode(image, 3, exif=True), read_image_header(image, exif=True)
    rows, columns = header[:2]
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    height = data.draw(st.integers(1, rows - top))
    width = data.draw(st.integers(1, columns - left))
    part = decode_box(image, 3, header, Box(top, left, height, width))
    np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_broken_metadata_turn_nothing():
    data = turned(6).replace(b"Exif\0\0MM", b"Exif\0\0XX").replace(b"Exif\0\0II", b"Exif\0\0XX")
    np.testing.assert_array_equal(decode(data, 3, exif=True), decode(data, 3))


VIDEO = b"\x00\x00\x00\x18ftypmp42" + np.random.default_rng(0).bytes(20_000)


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"jpeg2000"}))  # that has no end but the file's
def test_what_follows_the_end_of_an_image_is_not_read(kind):
    np.testing.assert_array_equal(decode(KINDS[kind] + VIDEO, 3), decode(KINDS[kind], 3))


def test_a_size_that_would_fill_the_memory_is_refused():
    frame = read_image_header(JPEG).frame
    huge = JPEG[:frame] + b"\xff\xf0\xff\xf0" + JPEG[frame + 4 :]
    with pytest.raises(ValueError, match="of 65520 x 65520 pixels is refused; give one with 1 to"):
        decode(huge, 3)


@settings(max_examples=200, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), place=st.floats(0, 1), byte=st.integers(0, 255))
def test_one_wrong_byte_gives_pixels_or_a_value_error(kind, place, byte):
    data = bytearray(KINDS[kind])
    data[min(int(place * len(data)), len(data) - 1)] = byte
    try:
        image = decode(bytes(data), 3)
    except ValueError:
        return
    assert image.shape[2] == 3
