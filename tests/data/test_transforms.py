import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from resjax.data.decode import Box, decode
from resjax.data.headers import ImageHeader
from resjax.data.random_crop import JITTER, RandomCrop
from resjax.data.transforms import CentreCrop, ImageKey, uniforms
from tests.data.pictures import encoded, picture
from tests.data.test_data import philox

PICTURE = picture(3, 150, 200)
JPEG = encoded(PICTURE, subsampling="4:4:4")
WHOLE = RandomCrop(size=64, area=(1.0, 1.0), ratio=(4 / 3, 4 / 3), flip=0.0)

sides = st.integers(1, 700)


FIRST = ImageKey(0, 0, 0)


def view(what, data=JPEG, key=FIRST, channels=3):
    out = np.zeros((what.size, what.size, channels), np.uint8)
    what(data, channels, key, out)
    return out


def difference(image, other):
    return np.abs(image.astype(int) - np.asarray(other).reshape(image.shape).astype(int))


def test_random_numbers_are_those_of_the_generator_in_the_paper():
    words = philox((2**32 - 1, 5), 9, upper=[0, 1234567, 1])
    assert uniforms(ImageKey(2**32 - 1, 5, 1234567), 9).tolist() == [
        (w >> 11) / 2**53 for w in words
    ]
    order = {(word >> 11) / 2**53 for word in philox((0, 0), 9)}
    assert order.isdisjoint(uniforms(ImageKey(0, 0, 0), 9))


def test_random_numbers_differ_between_seeds_epochs_and_examples():
    keys = [ImageKey(seed, epoch, n) for seed in (0, 1) for epoch in (0, 1) for n in range(500)]
    drawn = np.stack([uniforms(key, 6) for key in keys])
    assert len(np.unique(drawn)) == drawn.size
    assert np.abs(np.corrcoef(drawn.T) - np.eye(6)).max() < 0.1
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.04)
    np.testing.assert_allclose(drawn.std(0), 12**-0.5, atol=0.02)


def boxes(crop, rows, columns, number=400):
    for example in range(number):
        draws = uniforms(ImageKey(0, 0, example), 2 + 2 * crop.tries)
        yield crop.box(ImageHeader(rows, columns), draws[:2], draws[2:].reshape(-1, 2))


@settings(max_examples=150, deadline=None)
@given(rows=sides, columns=sides, example=st.integers(0, 2**31))
def test_a_box_lies_in_the_image_and_has_the_area_and_the_ratio(rows, columns, example):
    crop = RandomCrop()
    draws = uniforms(ImageKey(0, 0, example), 22)
    top, left, height, width = crop.box(
        ImageHeader(rows, columns), draws[:2], draws[2:].reshape(-1, 2)
    )
    assert 0 <= top <= top + height <= rows
    assert 0 <= left <= left + width <= columns
    assert min(height, width) >= 1
    if height < rows and width < columns:  # or else it may be the one that is taken at last
        assert (height + 0.5) * (width + 0.5) >= 0.08 * rows * columns
    assert (width - 0.5) / (height + 0.5) <= 4 / 3
    assert (width + 0.5) / (height - 0.5) >= 3 / 4


def test_boxes_are_spread_as_the_paper_says():
    found = np.array(list(boxes(RandomCrop(area=(0.1, 0.5)), 400, 500, 2000)))
    top, left, height, width = found.T
    share = height * width / 200_000
    np.testing.assert_allclose(np.quantile(share, [0, 0.5, 1]), [0.1, 0.3, 0.5], atol=0.012)
    ratio = np.log(width / height)
    bounds = np.log([3 / 4, 1, 4 / 3])
    np.testing.assert_allclose(np.quantile(ratio, [0, 0.5, 1]), bounds, atol=0.03)
    assert abs(np.corrcoef(share, ratio)[0, 1]) < 0.07
    np.testing.assert_allclose((top / (400 - height)).mean(), 0.5, atol=0.02)
    np.testing.assert_allclose((left / (500 - width)).mean(), 0.5, atol=0.02)
    assert top.min() == left.min() == 0
    assert (top + height).max() == 400
    assert (left + width).max() == 500


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [
        (100, 300, Box(0, 83, 100, 133)),  # too wide: the widest part that is allowed
        (300, 100, Box(83, 0, 133, 100)),
        (100, 110, Box(0, 0, 100, 110)),
    ],
)
def test_what_never_fits_becomes_the_centre(rows, columns, box):
    assert set(boxes(RandomCrop(area=(2.0, 3.0)), rows, columns, 5)) == {box}


def test_the_part_is_resized_as_by_pillow_where_it_is_made_larger():
    # Where it is made smaller, Pillow takes the mean of more pixels.
    crop = dataclasses.replace(WHOLE, size=260)
    expected = Image.fromarray(decode(JPEG, 3)).resize((260, 260), Image.Resampling.BILINEAR)
    assert difference(view(crop), expected).max() <= 3


@pytest.mark.parametrize("size", [70, 37, 18])
def test_a_large_part_of_a_jpeg_is_close_to_the_antialiased_one(size):
    crop = dataclasses.replace(WHOLE, size=size)
    expected = Image.fromarray(decode(JPEG, 3)).resize((size, size), Image.Resampling.BILINEAR)
    assert difference(view(crop), expected).mean() < 2.5


def test_a_flip_swaps_left_and_right_and_nothing_else():
    straight, swapped = view(WHOLE), view(dataclasses.replace(WHOLE, flip=1.0))
    np.testing.assert_array_equal(straight[:, ::-1], swapped)
    crop = RandomCrop(size=8)
    always = dataclasses.replace(crop, flip=1.0)
    never = dataclasses.replace(crop, flip=0.0)
    keys = [ImageKey(0, 0, n) for n in range(60)]
    swaps = [(view(crop, key=key) == view(always, key=key)).all() for key in keys]
    stays = [(view(crop, key=key) == view(never, key=key)).all() for key in keys]
    assert 18 < sum(swaps) < 42
    assert sum(swaps) + sum(stays) == 60


def test_a_grey_view_is_close_to_the_luma_of_the_coloured_one():
    for example in range(8):
        key, crop = ImageKey(0, 0, example), RandomCrop(size=40, brightness=0.1)
        luma = Image.fromarray(view(crop, key=key)).convert("L")
        assert difference(view(crop, key=key, channels=1), luma).max() <= 4


ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("factor", [0.0, 0.3, 0.9, 1.0, 1.4])
@pytest.mark.parametrize("change", JITTER)
def test_changes_of_colour_are_those_of_pillow(change, factor, channels):
    image = decode(JPEG, channels)
    pixels = Image.fromarray(image[..., 0] if channels == 1 else image)
    expected = ENHANCERS[change](pixels).enhance(factor)
    assert difference(JITTER[change](image, factor), expected).max() <= 2


@pytest.mark.parametrize("change", JITTER)
def test_the_strength_bounds_the_factor(change):
    crop = dataclasses.replace(WHOLE, **{change: 0.4})
    plain, changed = view(WHOLE), [view(crop, key=ImageKey(0, 0, n)) for n in range(30)]
    bounds = [JITTER[change](plain, factor).astype(int) for factor in (0.6, 1.4)]
    lowest, highest = np.minimum(*bounds) - 1, np.maximum(*bounds) + 1
    for image in changed:
        assert (lowest <= image).all()
        assert (image <= highest).all()
    assert len({image.tobytes() for image in changed}) > 20


def test_jitter_leaves_the_crop_and_the_flip_as_they_are():
    bright = RandomCrop(size=16, brightness=1e-9)
    for example in range(10):
        key = ImageKey(1, 2, example)
        np.testing.assert_array_equal(view(bright, key=key), view(RandomCrop(size=16), key=key))


def as_torchvision_defines_it(data, resize, size, mode, interpolation="bilinear"):
    """Resize(resize), by the shorter side and truncated, then CenterCrop(size)."""
    image = Image.open(io.BytesIO(data)).convert(mode)
    shorter = min(image.size)
    wide, high = (int(resize * side / shorter) for side in image.size)
    image = image.resize((wide, high), Image.Resampling[interpolation.upper()])
    left, top = round((wide - size) / 2.0), round((high - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(5, 300),
    columns=st.integers(5, 300),
    resize=st.integers(8, 90),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    data=st.data(),
)
def test_the_centre_is_that_of_resize_and_center_crop(rows, columns, resize, interpolation, data):
    size = data.draw(st.integers(1, resize))
    png = encoded(picture(rows, rows, columns), "PNG")
    expected = as_torchvision_defines_it(png, resize, size, "RGB", interpolation)
    assert np.array_equal(view(CentreCrop(size, resize, interpolation), png), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_centre_of_a_jpeg_with_the_usual_sizes(channels):
    data = encoded(picture(9, 375, 500))
    mode = "RGB" if channels == 3 else "L"
    expected = as_torchvision_defines_it(data, 256, 224, mode)
    found = view(CentreCrop(), data, channels=channels)
    assert difference(found, expected).max() <= (0 if channels == 3 else 2)


@pytest.mark.parametrize(("rows", "columns"), [(2, 12_000), (12_000, 2), (1, 65_000), (4, 40_000)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_of_a_thin_image_the_centre_alone_is_resized(rows, columns, interpolation):
    """Whole, it would have up to 16 million columns; the part around the centre says the same."""
    image = np.random.default_rng(0).integers(0, 256, (rows, columns, 3), np.uint8)
    cut = tuple(slice(max(side // 2 - 50, 0), side // 2 + 50) for side in image.shape[:2])
    what = CentreCrop(interpolation=interpolation)
    expected = as_torchvision_defines_it(encoded(image[cut], "PNG"), 256, 224, "RGB", interpolation)
    assert difference(view(what, encoded(image, "PNG")), expected).max() <= 1
    assert view(RandomCrop(size=8), encoded(image, "PNG")).any()


@pytest.mark.parametrize("bounds", [{"area": (1.0, 0.08)}, {"ratio": (0.0, 1.0)}])
def test_bounds_that_are_not_in_order_are_refused(bounds):
    with pytest.raises(ValueError, match=r"is not \(lowest, highest\); give two positive numbers"):
        RandomCrop(**bounds)


def test_a_centre_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="size 224 is not in 1 to resize 200; resize more"):
        CentreCrop(224, 200)


@pytest.mark.parametrize("what", [RandomCrop(size=8), CentreCrop(8, 9)])
def test_a_view_of_a_broken_image_is_refused(what):
    with pytest.raises(ValueError, match="ends too early"):
        view(what, JPEG[:200])
