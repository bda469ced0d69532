import dataclasses
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resjax.config import ConfigError, Notice
from resjax.data.digits import digits
from resjax.data.fake import FAKE_SEED, fake
from resjax.data.orders import evaluation_batches, training_order
from resjax.data.resident import decode_split, to_device
from resjax.data.slices import Splits
from resjax.data.source import Source, Split, first, with_channels
from resjax.data.sources import SOURCES, DataRequest, Kind, load, sliced
from resjax.data.statistics import STATISTICS
from tests.data.pictures import encoded, picture
from tests.data.test_decode import KINDS, by_pillow

GUIDE = Path(__file__).parents[2] / "docs/add-a-data-set.md"
sizes = st.integers(1, 60)


@given(seed=st.integers(0, 2**63 - 1), examples=sizes, batch=sizes, epochs=st.integers(1, 4))
def test_every_example_is_used_once_an_epoch(seed, examples, batch, epochs):
    steps = -(-epochs * examples // batch)
    order = np.concatenate([training_order(seed, t, batch, examples) for t in range(steps)])
    for epoch in range(epochs):
        part = order[epoch * examples : (epoch + 1) * examples]
        np.testing.assert_array_equal(np.sort(part), np.arange(examples))


@given(seed=st.integers(0, 2**31), step=st.integers(0, 10**6), batch=sizes)
def test_order_does_not_depend_on_how_it_is_cut_into_batches(seed, step, batch):
    whole = training_order(seed, step, 2 * batch, 50)
    halves = [training_order(seed, 2 * step + half, batch, 50) for half in (0, 1)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))


def test_order_differs_between_epochs_and_seeds():
    first, second = (training_order(0, epoch, 1437, 1437) for epoch in (0, 1))
    assert (first != second).mean() > 0.9
    assert (first != training_order(1, 0, 1437, 1437)).mean() > 0.9


def test_a_permutation_is_drawn_once_an_epoch(monkeypatch):
    drawn, philox = [], np.random.Philox
    monkeypatch.setattr(
        np.random,
        "Philox",
        lambda key, counter: drawn.append(key) or philox(counter=counter, key=key),
    )
    for step in range(3 * 50_000 // 128):  # 1,171 steps, which end in the third epoch
        training_order(7, step, 128, 50_000)
    assert drawn == [(7, 0), (7, 1), (7, 2)]


def test_order_is_the_one_of_every_release():
    assert training_order(0, 0, 8, 1437).tolist() == [1051, 998, 162, 670, 664, 185, 322, 431]


@given(examples=st.integers(1, 200), batch=st.integers(1, 300))
def test_evaluation_counts_every_example_once(examples, batch):
    batches = evaluation_batches(examples, batch)
    counted = np.concatenate([index[valid] for index, valid in batches])
    np.testing.assert_array_equal(np.sort(counted), np.arange(examples))
    assert {len(index) for index, _ in batches} == {batch}


@pytest.mark.filterwarnings("ignore:.*has one class")
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_kind_in_a_colour_set_is_what_pillow_makes_of_it(kind, tmp_path):
    for split, data in (("train", KINDS[kind]), ("test", KINDS["jpeg 4:2:0"])):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "0.png").write_bytes(data)
    source = load(f"folder:{tmp_path}")
    [image] = source.train.images
    np.testing.assert_array_equal(image, by_pillow(KINDS[kind]))


def philox(key, words, upper=(0, 0, 0)):
    """Philox4x64 with 10 rounds, from the paper (Salmon et al. 2011, section 3.3 and table 2)."""
    mask, out = 2**64 - 1, []
    for block in range(1, -(-words // 4) + 1):  # NumPy counts from 1
        x, (k0, k1) = [block, *upper], key
        for _ in range(10):
            high0, low0 = divmod(0xD2E7470EE14C6C93 * x[0], 2**64)
            high1, low1 = divmod(0xCA5A826395121157 * x[2], 2**64)
            x = [high1 ^ x[1] ^ k0, low1, high0 ^ x[3] ^ k1, low0]
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        out += x
    return out[:words]


def test_fake_data_are_those_of_the_generator_in_the_paper():
    source = load("fake:3x5x2:7:9")
    for split, examples, stream in ((source.train, 9, 0), (source.test, 2, 2)):
        words = philox((FAKE_SEED, stream), -(-examples * 30 // 8))
        pixels = b"".join(word.to_bytes(8, "little") for word in words)[: examples * 30]
        assert split.images.tobytes() == pixels
        assert split.images.shape == (examples, 3, 5, 2)
        assert split.labels.tolist() == [w % 7 for w in philox((FAKE_SEED, stream + 1), examples)]
    assert source.class_names == tuple("0123456")


def test_fake_data_have_a_size_that_is_small_and_a_name_that_says_it():
    source = load("fake:224x224x3:1000")
    assert (len(source.train), len(source.test)) == (1024, 128)
    assert source.train.images.nbytes + source.test.images.nbytes < 200e6
    assert source.train.images.mean() == pytest.approx(127.5, abs=0.1)
    assert len(np.unique(source.train.labels)) > 600
    assert source.train.labels.dtype == np.int32
    assert load("fake:8x8x1:10").fingerprint == fake((8, 8, 1), 10, 1024).fingerprint
    assert load("fake:8x8x1:10").fingerprint != load("fake:8x8x1:10:1023").fingerprint


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fake:32x32:10", "'fake:32x32:10' is not fake:HxWxC:CLASSES or .* such as fake:32x32x3"),
        ("fake", "'fake' is not fake:HxWxC:CLASSES"),
        ("fake:32x32x3:10:", "'fake:32x32x3:10:' is not fake:HxWxC"),
        ("fake:32x32x3:0", "'fake:32x32x3:0' is not fake:HxWxC"),
        ("fake:032x32x3:10", "'fake:032x32x3:10' is not fake:HxWxC"),
        ("fake:-32x32x3:10", "'fake:-32x32x3:10' is not fake:HxWxC"),
        ("digits:8", "'digits:8' is not digits$"),
        ("digits ", "unknown data.name 'digits '; choose one of: digits, shapes, fake"),
        ("", "unknown data.name ''; choose one of: digits, shapes, fake"),
        ("mnist:3", "unknown data.name 'mnist'; choose one of: digits, shapes, fake"),
        (
            "fake:50000x50000x3:10",
            "fake:50000x50000x3:10:1024 has 8,640 GB .* most are 2,147 MB",
        ),
        ("fake:8x8x1:10:999999999", "has 72.0 GB of images"),
        ("fake:8x8x1:100001", "has 100001 classes; the most are 100000"),
    ],
)
def test_a_name_without_a_source_is_refused_with_what_is_expected(name, message):
    with pytest.raises(ConfigError, match=message):
        load(name)


def test_statistics_of_many_images_are_those_of_all_at_once(monkeypatch):
    monkeypatch.setattr("resjax.data.statistics.VALUES_AT_ONCE", 1000)
    images = fake((7, 5, 3), 2, 100).train.images
    mean, deviation = STATISTICS["channel"](images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-15)
    np.testing.assert_allclose(deviation, images.std((0, 1, 2)), rtol=1e-14)


def test_fingerprint_sees_one_changed_pixel():
    source = digits()
    images = source.test.images.copy()
    images[7, 3, 3, 0] ^= 1
    changed = dataclasses.replace(source, test=Split(images, source.test.labels))
    assert changed.fingerprint != source.fingerprint


@pytest.mark.parametrize(("kind", "mean", "deviation"), [("channel", 0, 1), ("none", 4.88, 6.0)])
def test_standardised_images(kind, mean, deviation):
    split = digits().train
    batch = to_device(split, *STATISTICS[kind](split.images)).take(jnp.arange(len(split)))
    assert float(batch.images.mean()) == pytest.approx(mean, abs=0.02)
    assert float(batch.images.std()) == pytest.approx(deviation, abs=0.03)
    np.testing.assert_array_equal(batch.labels, split.labels)


def test_luma_and_repeated_grey_are_those_of_pillow():
    colours, grey = fake((9, 7, 3), 2, 8), load("fake:9x7x3:2:8", DataRequest(channels=1))
    for ours, images in zip(grey.train.images, colours.train.images, strict=True):
        np.testing.assert_array_equal(
            ours[..., 0], np.asarray(Image.fromarray(images).convert("L"))
        )
    repeated = load("digits", DataRequest(channels=3)).test.images
    np.testing.assert_array_equal(repeated, np.repeat(digits().test.images, 3, -1))
    np.testing.assert_array_equal(
        load("digits", DataRequest(channels=1)).train.images, digits().train.images
    )


@pytest.mark.parametrize(
    ("name", "channels", "message"),
    [
        ("digits", 2, r"data.channels=2 is not 1, 3, or 0 for those of the images"),
        ("fake:8x8x5:2:8", 3, "images of 5 channels are not seen with 3"),
    ],
)
def test_other_channels_are_refused(name, channels, message):
    with pytest.raises(ConfigError, match=message):
        load(name, DataRequest(channels=channels))


@pytest.mark.filterwarnings("ignore:.*has one class")
def test_a_split_that_is_tested_on_alone_is_held_once(tmp_path):
    (tmp_path / "test" / "cat").mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "test" / "cat" / "0.png")
    for name in (f"folder:{tmp_path}", "fake:8x8x1:2:8"):
        source = load(name, DataRequest(splits=Splits(test_only=True), resident_bytes=64))
        assert source.train is source.test
        assert source.image_bytes == source.test.images.nbytes == 64
        with pytest.raises(ConfigError, match=r"are more than data\.resident_bytes=63"):
            load(name, DataRequest(splits=Splits(test_only=True), resident_bytes=63))


def test_colours_that_are_no_bytes_are_not_made_grey():
    colours = fake((4, 4, 3), 2, 8)
    fractions = Split(np.float32(colours.train.images) / 256, colours.train.labels)
    source = dataclasses.replace(colours, train=fractions)
    assert with_channels(source, 0) is source
    with pytest.raises(ConfigError, match=r"these are float32; give uint8, or data.channels=0"):
        with_channels(source, 1)


def mine(images, labels, **settings):
    """Loads the source of an experiment, images and labels to train and to test on."""
    split = Split(np.asarray(images), np.asarray(labels))
    make = sliced(lambda: Source(split, split, ("ant", "bee")))
    SOURCES["mine"] = Kind("mine", "mine", make, **settings)
    return load("mine")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_from_0_to_1_are_noticed_where_white_is_255(dtype):
    images = np.eye(8, dtype=dtype)[None, ..., None].repeat(2, 0)
    told = r"data.name=mine: no pixel is above 1, and white is 255 .*; give Kind\(..., white=1.0\)"
    with pytest.warns(Notice, match=told):
        mine(images, [0, 1])
    mine(images, [0, 1], white=1.0)
    mine(255 * images, [0, 1])
    mine(0 * images, [0, 1])  # black


FOUR, TWO = np.full((2, 8, 8, 1), 9, np.uint8), np.arange(2)
SHAPES = [
    (FOUR[..., 0], TWO, "grey images get their channel by images[..., None]"),
    (FOUR, TWO[:, None], "labels.ravel() makes them [n]"),
    (FOUR, np.eye(2, dtype=np.int32), "labels.argmax(-1) makes numbers of one-hot labels"),
    (FOUR, TWO.astype(np.float32), "labels.astype(np.int32) makes them numbers"),
    (FOUR[..., None], TWO, "they are [n, H, W, C], and [n] of int32"),
    (FOUR, TWO[:1], "give each image a label"),
]  # fmt: skip


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(("images", "labels", "remedy"), SHAPES)
def test_arrays_of_other_shapes_are_refused_with_what_makes_them_fit(images, labels, remedy):
    with pytest.raises(ConfigError) as raised:
        mine(images, labels)
    assert str(raised.value).endswith(f"; {remedy}")


def mnist(forms, colour, column):
    """Arrays of an .npz file."""
    rng, arrays = np.random.default_rng(0), {}
    for name, count in (("train", 6), ("test", 4)):
        images = rng.integers(0, 256, (count, 8, 8, *([3] if colour else [])), np.uint8)
        labels = (np.arange(count) % 3).astype(np.uint8)
        arrays[forms[0].format(name)] = images
        arrays[forms[1].format(name)] = labels[:, None] if column else labels
    return arrays


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("forms", [("{}_images", "{}_labels"), ("x_{}", "y_{}")])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("column", [False, True])
def test_the_source_of_the_documents_reads_medmnist_and_keras(forms, colour, column, tmp_path):
    arrays = mnist(forms, colour, column)
    np.savez(tmp_path / "mine.npz", **arrays)
    exec(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0], {})
    source = load(f"npz:{tmp_path}/mine.npz")
    for split, name in ((source.train, "train"), (source.test, "test")):
        images, labels = (arrays[form.format(name)] for form in forms)
        np.testing.assert_array_equal(split.images.reshape(images.shape), images)
        np.testing.assert_array_equal(split.labels, labels.ravel())
        assert (split.images.ndim, split.labels.dtype) == (4, np.int32)
    assert source.class_names == ("0", "1", "2")


class Pictures:
    """A split of files as an experiment may define one, with channels that cannot be set."""

    channels = property(lambda self: 3)
    fingerprint = "pictures"

    def __len__(self):
        return 4

    def read(self, number):
        return encoded(picture(number, 9, 7), "PNG"), number

    def name(self, number):
        return f"picture {number}"


def test_files_of_any_class_are_decoded_to_other_channels_and_to_their_first_examples():
    source = Source(Pictures(), Pictures(), tuple("abcd"))
    grey = with_channels(source, 1)
    assert grey.fingerprint == source.fingerprint
    split, left_out = decode_split(first(grey.train, 2), 2**20, "refuse", exif=False)
    assert (split.images.shape, split.labels.tolist(), left_out) == ((2, 9, 7, 1), [0, 1], {})
    whole, _ = decode_split(grey.train, 2**20, "refuse", exif=False)
    np.testing.assert_array_equal(whole.images[:2], split.images)
    theirs = Image.fromarray(picture(1, 9, 7)).convert("L")
    np.testing.assert_array_equal(split.images[1, ..., 0], np.asarray(theirs))


@pytest.mark.filterwarnings("ignore:.*has one class")
@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_decoded_to_the_channels_that_are_asked_for(channels, resident, tmp_path):
    for split in ("train", "test"):
        (tmp_path / split / "cat").mkdir(parents=True)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8))
        image.convert("RGB" if channels == 1 else "L").save(tmp_path / split / "cat" / "0.png")
    request = DataRequest(channels=channels, size=0 if resident else 8)
    split = load(f"folder:{tmp_path}", request).train
    if not resident:
        assert split.channels == channels
        return
    grey = np.asarray(image.convert("L"))[..., None]
    np.testing.assert_array_equal(split.images[0], np.repeat(grey, channels, -1))
