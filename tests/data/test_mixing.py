"""Mixup and CutMix: their formulas in NumPy, and what is drawn for each image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from resjax.config import ConfigError
from resjax.config.keys import KEYS
from resjax.data.augment import Augmentation
from resjax.data.batch import Batch, Mixed
from resjax.data.mixing import MixedView, Mixing, words_of, words_of_resident
from resjax.data.orders import by_epoch, training_epochs, training_order
from resjax.data.random_crop import RandomCrop
from resjax.data.resident import to_device
from resjax.data.source import Split
from resjax.data.statistics import no_statistics
from resjax.data.streaming import training_feed
from resjax.data.transforms import ImageKey
from resjax.training.losses import cross_entropy, mix_losses, squared_error
from resjax.training.plan import make_plan
from tests.data.test_streaming import PICTURES

EXAMPLES, SHAPE = 40, (6, 5)
KINDS = {"mixup": Mixing(mixup=0.4), "cutmix": Mixing(cutmix=1.0), "both": Mixing(0.4, 1.0)}


@pytest.fixture(scope="module")
def split():
    images = np.random.default_rng(0).integers(0, 256, (EXAMPLES, *SHAPE, 3), np.uint8)
    return Split(images, np.arange(EXAMPLES, dtype=np.int32))


def drawn(mixing, examples, epoch=0, seed=3, number=EXAMPLES, shape=SHAPE):
    examples = np.asarray(examples)
    words = words_of_resident(seed, np.full_like(examples, epoch), examples, number)
    return mixing.mix(words, examples, number, shape)


def mixed_in_numpy(mix, images):
    """Images of float64 that are mixed pixel by pixel, and the share of their own in each."""
    found, shares = np.float64(images), []
    for row, (top, left, bottom, right) in enumerate(mix.boxes):
        own = 0.0
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                kept = float(mix.kept[row]) if top <= y < bottom and left <= x < right else 1.0
                partner = images[mix.partners[row], y, x]
                found[row, y, x] = kept * images[row, y, x] + (1.0 - kept) * partner
                own += kept
        shares.append(own / images.shape[1] / images.shape[2])
    return found, np.array(shares)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_mixed_with_its_partner_pixel_by_pixel_and_so_is_its_label(split, kind):
    mix = drawn(KINDS[kind], np.arange(EXAMPLES))
    resident = to_device(split, *no_statistics(split.images))
    index = np.arange(EXAMPLES, dtype=np.int32)
    batch = MixedView(Augmentation())(resident, (index, 0 * index, mix), 3)
    expected, shares = mixed_in_numpy(mix, split.images)
    np.testing.assert_allclose(batch.images, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(batch.mixed.shares, shares, atol=1e-6)
    np.testing.assert_array_equal(batch.labels, index)
    np.testing.assert_array_equal(batch.mixed.labels, mix.partners)
    assert (mix.partners != index).all()


def test_by_mixup_the_whole_image_is_mixed_and_by_cutmix_a_box_is_covered():
    whole, cut = drawn(KINDS["mixup"], np.arange(40)), drawn(KINDS["cutmix"], np.arange(40))
    assert (whole.boxes == [0, 0, *SHAPE]).all()
    assert (cut.kept == 0).all()
    sides = cut.boxes[:, 2:] - cut.boxes[:, :2]
    assert (sides >= 0).all()
    assert (sides <= SHAPE).all()
    assert len(np.unique(cut.boxes, axis=0)) > 20


@pytest.mark.slow
def test_a_partner_is_augmented_as_in_its_own_place_in_the_epoch(split):
    resident = to_device(split, *no_statistics(split.images))
    crop = Augmentation(pad=2, flip=True)
    index = np.arange(EXAMPLES, dtype=np.int32)
    epochs, mix = np.full_like(index, 2), drawn(KINDS["mixup"], index, epoch=2)
    alone = np.asarray(jax.jit(crop)(resident, (index, epochs), 3).images)
    got = jax.jit(MixedView(crop))(resident, (index, epochs, mix), 3).images
    expected, _ = mixed_in_numpy(mix, alone)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


MANY = 20_000


def test_shares_are_of_the_beta_distribution_and_partners_of_all_others_alike():
    """By the test of chi squared, of numbers that are the same in every run."""
    edges = np.linspace(0, 1, 21)
    for alpha in (0.2, 1.0, 5.0):
        kept = drawn(Mixing(mixup=alpha), np.arange(MANY), number=MANY).kept
        found, _ = np.histogram(kept, edges)
        expected = MANY * np.diff(stats.beta(alpha, alpha).cdf(edges))
        often = expected > 5
        assert expected[often].sum() > 0.99 * MANY
        statistic = ((found[often] - expected[often]) ** 2 / expected[often]).sum()
        assert stats.chi2(often.sum() - 1).sf(statistic) > 0.01
    partners = np.concatenate(
        [drawn(KINDS["mixup"], np.full(1, 3), epoch, number=11).partners for epoch in range(2200)]
    )
    counts = np.bincount(partners, minlength=11)
    assert counts[3] == 0
    assert stats.chisquare(np.delete(counts, 3)).pvalue > 0.01


def test_a_box_has_the_size_of_its_share_and_a_uniform_centre_before_it_is_cut_off():
    """Of a large image, so that rounding to pixels matters little."""
    shape = (2000, 1000)
    mix = drawn(Mixing(cutmix=1.0), np.arange(MANY), number=MANY, shape=shape)
    sides = (mix.boxes[:, 2:] - mix.boxes[:, :2]) / shape
    inside = (mix.boxes[:, :2] > 0).all(1) & (mix.boxes[:, 2:] < shape).all(1)
    np.testing.assert_allclose(sides[inside, 0], sides[inside, 1], atol=0.002)
    centres = (mix.boxes[:, :2] + mix.boxes[:, 2:])[inside] / 2 / shape
    small = sides[inside].max(1) < 0.1
    assert small.sum() > 50
    for axis in range(2):
        assert stats.kstest(centres[small, axis], stats.uniform(0.05, 0.9).cdf).pvalue > 0.01
    # Where nothing is cut off, the share that was drawn is the one that is left.
    np.testing.assert_allclose(mix.shares[inside], 1 - sides[inside].prod(1), atol=1e-5)
    assert (mix.shares[~inside] >= 1 - sides[~inside].max(1) - 1e-5).all()


def test_with_both_half_of_the_images_are_mixed_by_each():
    mix = drawn(KINDS["both"], np.arange(MANY), number=MANY)
    cut = (mix.kept == 0) & (mix.boxes != [0, 0, *SHAPE]).any(1)
    assert stats.binomtest(int(cut.sum()), MANY).proportion_ci(0.99).low < 0.5
    assert 0.45 < cut.mean() < 0.55
    np.testing.assert_array_equal(
        mix.partners, drawn(KINDS["mixup"], np.arange(MANY), number=MANY).partners
    )


def test_what_is_drawn_depends_on_the_seed_the_epoch_and_the_example_alone():
    examples = np.array([7, 3, 39, 3])
    epochs = np.array([5, 5, 6, 6])
    words = words_of_resident(3, epochs, examples, EXAMPLES)
    for row, place in enumerate(zip(epochs.tolist(), examples.tolist(), strict=True)):
        np.testing.assert_array_equal(words[row], words_of(3, *place)[0])
    assert len(np.unique(words[:, 0])) == 4
    assert (words != words_of_resident(4, epochs, examples, EXAMPLES)).all()


def test_as_many_runs_as_there_may_be_side_by_side_draw_each_epoch_once():
    def step(number):
        for seed in range(most):
            order, epochs = training_order(seed, number, 5, 12), training_epochs(number, 5, 12)
            words_of_resident(seed, epochs, order, 12)

    _, most = KEYS["train.side_by_side"].within
    by_epoch.cache_clear()
    for number in range(3):
        step(number)
    assert by_epoch.cache_info().misses == 2 * most


# ---------------------------------------------------------------------------------------- streamed


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_streamed_image_is_mixed_with_the_view_of_its_partner_to_whole_levels(kind):
    crop, number = RandomCrop(size=16), len(PICTURES)
    batch = next(training_feed(PICTURES, crop, 5, number, mixing=KINDS[kind]))
    views = np.zeros((number, 16, 16, 3), np.uint8)
    for example in range(number):
        crop(PICTURES.data[example], 3, ImageKey(5, 0, example), views[example])
    mix = drawn(KINDS[kind], np.arange(number), seed=5, number=number, shape=(16, 16))
    expected, shares = mixed_in_numpy(mix, views)
    order = batch.labels  # the label of a picture is its number
    assert np.abs(np.float64(batch.images) - expected[order]).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(batch.mixed.labels, mix.partners[order])
    np.testing.assert_allclose(batch.mixed.shares, shares[order], atol=1e-6)


@pytest.mark.slow
def test_workers_and_rows_of_hosts_mix_as_one_thread_does():
    number, batch_size = len(PICTURES), len(PICTURES) - 1
    options = {"mixing": KINDS["both"]}
    whole = training_feed(PICTURES, RandomCrop(size=8), 5, batch_size, **options)
    rows = np.arange(1, batch_size, 2)
    own = training_feed(
        PICTURES, RandomCrop(size=8), 5, batch_size, rows=rows, workers=2, **options
    )
    for _ in range(3):
        one, other = next(whole), next(own)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[rows], b), one, other)
        assert set(one.mixed.labels) <= set(range(number))
    own.close()


def test_a_partner_that_cannot_be_decoded_is_replaced_and_listed():
    data = [*PICTURES.data]
    data[2] = b"bad"
    files, left_out = type(PICTURES)(data), {}
    feed = training_feed(
        files, RandomCrop(size=8), 5, len(data), mixing=KINDS["mixup"], on_bad="skip",
        left_out=left_out,
    )  # fmt: skip
    for _ in range(3):
        batch = next(feed)
        assert 2 not in batch.labels
        assert 2 not in batch.mixed.labels
    assert list(left_out) == ["example 2"]


# ------------------------------------------------------------------------------------------ losses


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("loss", [cross_entropy, squared_error])
def test_a_mixed_loss_is_that_of_mixed_targets_and_errors_are_of_the_larger_share(loss):
    """Cross entropy is linear in the target; a squared error is not, and is mixed as a loss."""
    logits = np.random.default_rng(0).normal(size=(4, 3))
    labels, partners = np.array([0, 1, 2, 2]), np.array([1, 1, 0, 1])
    shares = np.array([0.9, 0.3, 0.5, 0.2])
    batch = Batch(None, jnp.array(labels), Mixed(jnp.array(partners), jnp.array(shares)))
    own, others = (loss(jnp.array(logits), jnp.array(each)) for each in (labels, partners))
    losses, counted = mix_losses(own, others, batch.labels, batch.mixed)
    one, other = np.eye(3)[labels], np.eye(3)[partners]
    own = shares[:, None]
    if loss is cross_entropy:
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        expected = -(logs * (own * one + (1 - own) * other)).sum(-1)
    else:
        expected = (own * (logits - one) ** 2 + (1 - own) * (logits - other) ** 2).mean(-1)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert counted.tolist() == [0, 1, 2, 1]


# --------------------------------------------------------------------------------------------- runs


def test_without_mixing_a_plan_has_the_view_that_it_had(tiny):
    assert make_plan(tiny).augmentation == Augmentation()
    assert make_plan(tiny).mixing is None
    tiny.data.mixup, tiny.data.flip = 0.2, True
    plan = make_plan(tiny)
    assert (plan.augmentation, plan.mixing) == (
        MixedView(Augmentation(flip=True)),
        Mixing(mixup=0.2),
    )


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_an_image_that_has_no_other_to_be_mixed_with_is_refused(tiny, key):
    tiny.data.train, tiny.train.batch_size, tiny.data[key] = "train[:1]", 1, 0.2
    with pytest.raises(ConfigError, match=rf"data.{key}=0.2 mixes .* there is one; set it to 0"):
        make_plan(tiny)
