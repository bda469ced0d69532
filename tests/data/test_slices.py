import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import example, given
from hypothesis import strategies as st

from resjax.config import ConfigError
from resjax.data.digits import digits
from resjax.data.slices import Splits, parse_slice, resolve, slice_source, slices_of


def boundaries(limit):
    """Texts of whole numbers, some of them wrong or negative, or of percents."""
    whole = st.integers(-limit - 3, limit + 3).map(str)
    percent = st.one_of(
        st.integers(-101, 101), st.decimals(-100, 100, places=2, allow_nan=False)
    ).map(lambda value: f"{value}%")
    return whole, percent


@st.composite
def slices(draw):
    examples = draw(st.integers(1, 500))
    boundary = st.one_of(st.just(""), draw(st.sampled_from(boundaries(examples))))
    return examples, f"train[{draw(boundary)}:{draw(boundary)}]"


@given(slices())
@example((50000, "train[33.3%:66.7%]"))
@example((5, "train[10%:90%]"))  # 0.5 and 4.5 are rounded to the even number
@example((1000, "train[-5%:]"))
@example((60000, "train[:45_000]"))
@example((1, "train[:101%]"))
def test_a_slice_is_the_one_of_tfds_or_both_refuse_it(case):
    examples, text = case
    split = tfds.core.SplitInfo(name="train", shard_lengths=[examples], num_bytes=0)
    try:
        [theirs] = tfds.core.ReadInstruction.from_spec(text).to_absolute({"train": split})
        start, stop = theirs.from_ or 0, examples if theirs.to is None else theirs.to
    except (ValueError, RuntimeError):
        start, stop = 0, 0
    try:
        ours = parse_slice(text).range(examples)
    except ConfigError:
        assert start >= stop  # they read such a slice as nothing
    else:
        assert (ours.start, ours.stop) == (start, stop)


@pytest.mark.parametrize(
    "text",
    [
        *("", "train[", "train[]", "train[:]", "train[5]", "train[1:2:3]", "train[:1.5]", " train"),
        *("train[:x]", "train+test", "train[10:50%]", "train[:3shard]", "train[:1.2.3%]"),
    ],
)
def test_what_is_no_slice_is_refused_with_examples(text):
    with pytest.raises(
        ConfigError, match=r"is not a slice of a split; write train, train\[:45000\]"
    ):
        parse_slice(text)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (Splits("train[:0]"), r"'train\[:0\]' is empty: 0 to 0 of the 100 examples in 'train'"),
        (Splits("train[60:40]"), "is empty: 60 to 40 of the 100"),
        (Splits("train[:101]"), "'train.*' has a boundary outside of the 100 examples in 'train'"),
        (Splits("train[:101%]"), "has a boundary outside"),
        (Splits(train="100"), r"data.train='100' is of an unknown split; write train\[:100\]"),
        (Splits(validation="9"), r"data.validation='9' is of an unknown split; write train\[:9\]"),
        (Splits(test="tets"), "data.test='tets' is of an unknown split; nearest: test"),
        (Splits(validation="x"), "data.validation='x' is of an unknown split; known: train, test"),
        (Splits(validation="train[90:]"), "data.train='train' and data.validation=.* share 10 ex"),
        (Splits(test="train[-1:]"), "share 1 examples; cut them apart, such as train"),
        (Splits(validation="test[:5]"), "data.test='test' and data.validation=.* share 5 ex"),
    ],
)
def test_splits_that_cannot_be_read_are_refused_with_the_remedy(splits, message):
    with pytest.raises(ConfigError, match=message):
        resolve(slices_of(splits, ["train", "test"]), {"train": 100, "test": 20})


def test_without_a_split_to_test_on_the_remedy_is_to_slice():
    with pytest.raises(ConfigError, match=r"only train; write data.train='train\[:90%\]' and"):
        slices_of(Splits(), ["train"])


def test_own_splits_are_read_if_none_is_named():
    slices = slices_of(Splits(), ["validation", "train"])
    assert [(key, part.name) for key, part in slices.items()] == [
        ("train", "train"),
        ("test", "validation"),
    ]
    assert resolve(slices, {"validation": 7, "train": 9}) == {"train": range(9), "test": range(7)}
    assert slices_of(Splits(), ["train", "val", "test"])["test"].name == "test"


def test_slices_of_a_source_in_memory_are_slices_of_its_arrays():
    whole = digits()
    source = slice_source(whole, Splits("train[:1200]", "train[1200:]", "test[-50%:]"))
    assert (len(source.train), len(source.validation), len(source.test)) == (1200, 237, 180)
    for name in ("images", "labels"):
        parts = [getattr(source.train, name), getattr(source.validation, name)]
        np.testing.assert_array_equal(np.concatenate(parts), getattr(whole.train, name))
        np.testing.assert_array_equal(getattr(source.test, name), getattr(whole.test, name)[180:])
    assert source.fingerprint != whole.fingerprint
    assert slice_source(whole, Splits()).fingerprint == whole.fingerprint
