import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resjax.data.augment import Augmentation
from resjax.data.orders import training_epochs, training_order
from resjax.data.resident import to_device
from resjax.data.source import Split
from resjax.data.statistics import STATISTICS

SIZE, PAD = (6, 5), 2


@pytest.fixture(scope="module")
def split():
    images = np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8)
    return Split(images, np.arange(40, dtype=np.int32))


def windows(image, pad):
    """All that may become of a standardised image."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)))
    found = {}
    for down in range(2 * pad + 1):
        for right in range(2 * pad + 1):
            window = padded[down : down + height, right : right + width]
            found[down, right, False], found[down, right, True] = window, window[:, ::-1]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("standardise", ["channel", "pixel"])
def test_an_image_becomes_a_window_of_its_padded_standardised_self_or_of_its_mirror_image(
    split, standardise
):
    mean, deviation = STATISTICS[standardise](split.images)
    resident = to_device(split, mean, deviation)
    index = np.arange(40)
    batch = Augmentation(PAD, True)(resident, (index, index * 0), 7)
    np.testing.assert_array_equal(batch.labels, index)
    drawn = set()
    for number, image in enumerate(np.asarray(batch.images)):
        standardised = (split.images[number] - mean) / deviation
        found = windows(standardised.astype(np.float32), PAD)
        close = [key for key, window in found.items() if np.allclose(window, image, atol=1e-5)]
        assert len(close) == 1
        drawn.update(close)
    assert len(drawn) > 20


def test_a_window_lies_as_far_down_and_right_as_is_drawn(split):
    resident = to_device(split, *STATISTICS["none"](split.images))
    augmentation, index = Augmentation(PAD, True), np.arange(40)
    drawn = zip(*map(np.asarray, augmentation._draw(index, index * 0, 7)), strict=True)
    images = augmentation(resident, (index, index * 0), 7).images
    for number, (down, right, mirrored) in enumerate(drawn):
        window = windows(split.images[number], PAD)[down, right, mirrored]
        np.testing.assert_array_equal(images[number], window)


@pytest.mark.slow
def test_windows_and_mirror_images_are_equally_likely(split):
    resident = to_device(split, *STATISTICS["none"](split.images))
    image, counts = split.images[3].astype(np.float32), {}
    epochs = jnp.arange(5000)
    images = jax.jit(Augmentation(PAD, True))(resident, (epochs * 0 + 3, epochs), 0).images
    for key, window in windows(image, PAD).items():
        counts[key] = int((np.asarray(images) == window).all((1, 2, 3)).sum())
    assert sum(counts.values()) == 5000
    # 50 kinds of 100 expected each; the chi-square statistic of 49 has a deviation of 10.
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 49 + 5 * 10


@pytest.mark.slow
@settings(max_examples=10)  # of few batches: JAX compiles anew for each
@given(batch=st.sampled_from([1, 7, 50]), step=st.integers(0, 30), row=st.integers(0, 49))
def test_what_becomes_of_an_image_depends_on_the_epoch_and_not_on_its_batch(
    split, batch, step, row
):
    row %= batch
    resident = to_device(split, *STATISTICS["none"](split.images))
    index, epochs = training_order(0, step, batch, 40), training_epochs(step, batch, 40)
    own = slice(row, row + 1)
    whole = Augmentation(PAD, True)(resident, (index, epochs), 0).images[row]
    alone = Augmentation(PAD, True)(resident, (index[own], epochs[own]), 0)
    np.testing.assert_array_equal(whole, alone.images[0])


def test_without_augmentation_images_are_as_they_are(split):
    resident = to_device(split, *STATISTICS["none"](split.images))
    batch = Augmentation()(resident, (np.arange(4), np.zeros(4, int)), 0)
    np.testing.assert_array_equal(batch.images, split.images[:4])


@given(batch=st.integers(1, 30), step=st.integers(0, 50), examples=st.integers(1, 20))
def test_epochs_count_how_often_an_example_was_seen(batch, step, examples):
    order = np.concatenate([training_order(0, t, batch, examples) for t in range(step + 1)])
    epochs = np.concatenate([training_epochs(t, batch, examples) for t in range(step + 1)])
    seen = np.zeros(examples, int)
    for example, epoch in zip(order, epochs, strict=True):
        assert epoch == seen[example]
        seen[example] += 1


def test_pixel_statistics_subtract_the_mean_image(split):
    """He et al. 2015, section 4.2: the per-pixel mean is subtracted."""
    resident = to_device(split, *STATISTICS["pixel"](split.images))
    images = np.float64(resident.take(np.arange(40)).images)
    # Each is rounded a few times, by 6e-8 of what is not much larger than 1.
    np.testing.assert_allclose(images.mean(0), 0, atol=1e-5)
    assert images.std() == pytest.approx(1, rel=1e-5)
