from resjax.runs import disk
from resjax.runs.left_out import number_left_out, record_left_out

FOUND = {"train": {"dog/3.jpg": "truncated"}, "test": {}}


def test_what_is_left_out_is_listed_and_only_what_is_new_is_told(tmp_path):
    assert record_left_out(tmp_path, {"train": {}, "test": {}}) is None
    assert not (tmp_path / "left_out.json").exists()
    line = record_left_out(tmp_path, FOUND)
    assert "left out, 1 of train; the first is dog/3.jpg (truncated); all are in " in line
    assert record_left_out(tmp_path, FOUND) is None
    line = record_left_out(tmp_path, FOUND | {"test": {"cat/1.jpg": "empty"}})
    assert "1 of train and 1 of test" in line
    assert disk.read_json(tmp_path / "left_out.json") == {
        "train": {"dog/3.jpg": "truncated"}, "test": {"cat/1.jpg": "empty"},
    }  # fmt: skip


def test_what_an_interrupted_run_had_found_stays_listed(tmp_path):
    record_left_out(tmp_path, FOUND)
    assert record_left_out(tmp_path, {"train": {}}) is None
    assert number_left_out(tmp_path) == {"left_out": {"train": 1}}
