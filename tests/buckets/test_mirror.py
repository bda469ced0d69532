"""Copies of what is in a bucket, for readers of files."""

import threading

import pytest

from resjax.buckets.mirror import Mirror, fetch_all
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from tests.buckets.fixtures import contents


@pytest.fixture
def store(bucket, fresh):
    return Store(Address.of(bucket.address(fresh)))


def test_a_mirror_has_what_is_wanted_and_fetches_only_what_has_changed(store, tmp_path):
    for name in ("one/config.json", "one/large.bin", "two/config.json", "two/result.json"):
        store.put(name, name.encode())
    mirror = Mirror(store, tmp_path / "mirror")

    def updated():
        before = store.requests.copy()
        entries = store.list()
        mirror.update(entries, lambda name: not name.endswith("bin"))
        return [entry.name for entry in entries], dict(store.requests - before)

    names, requests = updated()
    assert names == ["one/config.json", "one/large.bin", "two/config.json", "two/result.json"]
    assert requests == {"list": 1, "get": 3}
    expected = {name: name.encode() for name in names if not name.endswith("bin")}
    assert contents(mirror.directory) == expected
    assert updated()[1] == {"list": 1}
    store.put("two/config.json", b"other")
    store.delete(["two/result.json"])
    assert updated()[1] == {"list": 1, "get": 1}
    assert contents(mirror.directory) == {
        "one/config.json": b"one/config.json", "two/config.json": b"other",
    }  # fmt: skip
    (mirror.directory / "one" / "config.json").unlink()
    assert updated()[1] == {"list": 1, "get": 1}


def test_what_is_written_or_deleted_while_it_is_fetched_is_fetched_whole_or_not_at_all(
    store, tmp_path
):
    for name in ("a", "b", "c"):
        store.put(name, 100 * name.encode())
    entries = store.list()
    store.put("a", b"new")
    store.delete(["b"])
    assert [entry.name for entry in fetch_all(store, entries, tmp_path)] == ["a", "c"]
    assert contents(tmp_path) == {"a": b"new", "c": 100 * b"c"}


def test_objects_are_fetched_at_the_same_time(one_bucket, fresh, tmp_path):
    store = Store(Address.of(one_bucket.address(fresh)))
    for number in range(16):
        store.put(str(number), b"x")
    together = threading.Barrier(8)
    fault = one_bucket.faults.fault
    one_bucket.faults.fault = lambda *request: (
        together.wait(10) and None if request[0] == "GET" and "list" not in request[1] else None
    )
    try:
        Mirror(store, tmp_path).update(store.list())
    finally:
        one_bucket.faults.fault = fault
    assert len(contents(tmp_path)) == 16


def test_a_file_that_was_changed_here_is_no_copy_any_more(store, tmp_path):
    store.put("a", b"1")
    mirror = Mirror(store, tmp_path)
    [entry] = store.list()
    mirror.update([entry])
    assert Mirror(store, tmp_path).has(entry)
    (tmp_path / "a").write_bytes(b"2")
    assert not Mirror(store, tmp_path).has(entry)
    mirror.update([entry])
    assert contents(tmp_path) == {"a": b"1"}
