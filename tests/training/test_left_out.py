import json

import pytest

from resjax.training.left_out import FILE, record_left_out


def test_what_is_left_out_is_listed_and_only_what_is_new_is_told(tmp_path):
    assert record_left_out(tmp_path, {"train": {}, "test": {}}) == {}
    assert not (tmp_path / FILE).exists()
    found = {"train": {"dog/3.jpg": "truncated"}, "test": {}}
    message = r"left out, 1 of train; the first is dog/3.jpg \(truncated\); all are in .*left_out"
    with pytest.warns(UserWarning, match=message):
        assert record_left_out(tmp_path, found) == {"train": 1}
    record_left_out(tmp_path, found)
    with pytest.warns(UserWarning, match="1 of train and 1 of test"):
        record_left_out(tmp_path, found | {"test": {"cat/1.jpg": "empty"}})
    assert json.loads((tmp_path / FILE).read_text()) == {
        "train": {"dog/3.jpg": "truncated"}, "test": {"cat/1.jpg": "empty"},
    }  # fmt: skip


def test_what_an_interrupted_run_had_found_stays_listed(tmp_path):
    with pytest.warns(UserWarning, match="1 of train"):
        record_left_out(tmp_path, {"train": {"dog/3.jpg": "truncated"}})
    assert record_left_out(tmp_path, {"train": {}}) == {"train": 1}
