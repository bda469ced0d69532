import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resjax.data.resident import (
    STATISTICS,
    evaluation_batches,
    to_device,
    training_order,
)
from resjax.data.sources import Split, digits

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


def test_order_is_the_one_of_every_release():
    assert training_order(0, 0, 8, 1437).tolist() == [1051, 998, 162, 670, 664, 185, 322, 431]


@given(examples=st.integers(1, 200), batch=st.integers(1, 300))
def test_evaluation_counts_every_example_once(examples, batch):
    batches = evaluation_batches(examples, batch)
    counted = np.concatenate([index[valid] for index, valid in batches])
    np.testing.assert_array_equal(np.sort(counted), np.arange(examples))
    assert {len(index) for index, _ in batches} == {batch}


def test_digits_are_all_there_in_a_fixed_stratified_split():
    from sklearn.datasets import load_digits

    source = digits()
    assert source.train.images.shape == (1437, 8, 8, 1)
    assert source.test.images.shape == (360, 8, 8, 1)
    ours = np.concatenate([source.train.images, source.test.images]).reshape(1797, -1)
    theirs = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    shares = np.bincount(source.test.labels) / np.bincount(load_digits().target)
    assert np.abs(shares - 360 / 1797).max() < 0.006
    assert source.fingerprint == (
        "4d37e6a6338bd170cabb51e76d53992ccfb10792a67b4c71663116bb1464e7dc"
    )


def test_fingerprint_sees_one_changed_pixel():
    import dataclasses

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
