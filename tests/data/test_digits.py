"""The digits: all of scikit-learn's, split once, and kept for later processes."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resjax.data.digits import FINGERPRINT, digits


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        directory = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(directory))
        yield directory


def test_digits_are_all_there_in_a_fixed_stratified_split(cache):
    from sklearn.datasets import load_digits

    source = digits()
    assert source.train.images.shape == (1437, 8, 8, 1)
    assert source.test.images.shape == (360, 8, 8, 1)
    ours = np.concatenate([source.train.images, source.test.images]).reshape(1797, -1)
    theirs = load_digits().data.astype(np.uint8)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    shares = np.bincount(source.test.labels) / np.bincount(load_digits().target)
    assert np.abs(shares - 360 / 1797).max() < 0.006
    assert source.fingerprint == FINGERPRINT


def test_a_second_process_has_the_same_digits_and_does_without_scikit_learn(cache):
    first = digits()
    program = (
        "import sys; from resjax.data.digits import digits; "
        "print(digits().fingerprint, digits().class_names, 'sklearn' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert said == f"{FINGERPRINT} {first.class_names} False\n"


@pytest.mark.slow
@given(data=st.data())
def test_a_damaged_file_is_not_taken_for_the_digits(cache, data):
    digits()
    [path] = cache.rglob("*.npz")
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole[:place])
    if data.draw(st.booleans(), label="changed, and not cut"):
        damaged += bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    path.write_bytes(damaged)
    assert digits().fingerprint == FINGERPRINT
    path.write_bytes(whole)


def test_a_home_that_cannot_be_written_to_costs_time_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert digits().fingerprint == FINGERPRINT
