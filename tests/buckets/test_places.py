"""Copies of what is at an address: the same files as there, fetched once, for one code path."""

import collections
import shutil

import pytest

from resjax.buckets import fetching, places
from resjax.buckets.faults import Refused
from resjax.buckets.places import Copy, everything, reading, reading_file
from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.config.addresses import Address
from tests.buckets.fixtures import contents

pytestmark = pytest.mark.usefixtures("copies")


@pytest.fixture
def store(one_bucket, fresh):
    return Store(Address.of(one_bucket.address(fresh)))


def fill(store, **contents):
    for name, content in contents.items():
        store.put(name.replace("__", "/"), content.encode())


def refreshed(store, choose=everything):
    """The files of a new copy after a refresh, and the requests that it took."""
    copy = Copy(store.address)
    copy.refresh(choose)
    return contents(copy.directory), dict(copy.store.requests)


def test_a_copy_has_what_is_there_and_takes_one_listing_where_nothing_has_changed(store):
    fill(store, one="1", two__three="23", two__four="24")
    there = {"one": b"1", "two/three": b"23", "two/four": b"24"}
    assert refreshed(store) == (there, {"list": 1, "get": 3})
    assert refreshed(store) == (there, {"list": 1})
    fill(store, one="new")
    store.delete(["two/three"])
    assert refreshed(store) == ({"one": b"new", "two/four": b"24"}, {"list": 1, "get": 1})


def test_only_what_is_chosen_is_fetched(store):
    fill(store, a="1", b="2", c__a="3")
    choose = lambda names: [name for name in names if name.endswith("a")]  # noqa: E731
    assert refreshed(store, choose) == ({"a": b"1", "c/a": b"3"}, {"list": 1, "get": 2})
    assert refreshed(store)[1] == {"list": 1, "get": 1}


def test_files_that_only_need_to_be_there_are_empty_until_they_are_read(store):
    fill(store, config="1", result="2")
    show = lambda names: ["config"]  # noqa: E731
    with reading(store.address, lambda names: ["result"], show) as place:
        assert contents(place.directory) == {"config": b"", "result": b"2"}
    assert refreshed(store)[0] == {"config": b"1", "result": b"2"}
    with reading(store.address, lambda names: ["result"], show) as place:
        assert contents(place.directory) == {"config": b"1", "result": b"2"}
    store.delete(["config"])
    assert refreshed(store, lambda names: [])[0] == {"result": b"2"}


def test_a_fetch_that_is_cut_short_goes_on_from_there(store, one_bucket, monkeypatch):
    monkeypatch.setattr("resjax.buckets.mirror.BUSY_WITH_SMALL", 1)
    fill(store, **{f"n{number}": str(number) for number in range(6)})
    one_bucket.faults.next.extend([None, None, None, "denied"])  # a listing and two files pass
    with pytest.raises(Refused, match="no permission to use"):
        refreshed(store)
    one_bucket.faults.next.clear()
    there, requests = refreshed(store)
    assert len(there) == 6
    assert requests == {"list": 1, "get": 4}


def test_what_a_killed_fetch_left_is_no_part_of_the_copy(store):
    fill(store, config="1")
    left = places.Copy(store.address).directory / "run" / "error.txt"
    left.parent.mkdir(parents=True)
    left.write_text("it was removed in the bucket meanwhile")
    assert refreshed(store)[0] == {"config": b"1"}
    assert not left.exists()


def test_objects_that_stand_for_directories_are_no_files(store):
    fill(store, images="", images__cat="meow")
    assert refreshed(store)[0] == {"images/cat": b"meow"}


def test_files_that_are_removed_while_they_are_fetched_are_chosen_anew(store, monkeypatch):
    fill(store, old="1")
    fetch = Store.fetch

    def removed_meanwhile(self, entry, path):
        if entry.name == "old":
            store.delete(["old"])
            fill(store, new="2")
        return fetch(self, entry, path)

    monkeypatch.setattr(Store, "fetch", removed_meanwhile)
    assert refreshed(store, lambda names: names[-1:])[0] == {"new": b"2"}


def test_an_error_names_the_address_and_not_the_copy(store, tmp_path):
    with pytest.raises(ConfigError) as raised, reading(store.address) as place:
        raise ConfigError(f"{place.directory}/x is damaged")
    assert str(raised.value) == f"{store.address}/x is damaged"
    with pytest.raises(ConfigError) as raised, reading(tmp_path) as place:
        raise ConfigError(f"{place.directory}/x is damaged")
    assert str(raised.value) == f"{tmp_path}/x is damaged"


def test_what_does_not_fit_on_the_disk_is_refused_before_it_is_fetched(store, copies, monkeypatch):
    fill(store, large="12345678")
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**28, 0, 2**28))
    with pytest.raises(ConfigError, match=r"0\.0 MB here, and 268\.4 MB are free .*XDG_CACHE"):
        refreshed(store)
    assert not list(copies.rglob("large"))


def test_a_long_fetch_tells_how_far_it_is(store, monkeypatch):
    told = []
    monkeypatch.setattr(fetching, "SECONDS_TO_TELL", 0.0)
    monkeypatch.setattr(fetching, "show_notice", told.append)
    fill(store, a=1000 * "x", b=1000 * "x", c=1000 * "x")
    refreshed(store)
    assert told[0].startswith(f"fetching from {store.address}: 1 of 3 files, 0.0 MB of 0.0 MB")


def test_what_is_written_in_a_copy_is_uploaded_its_last_file_last(store, one_bucket):
    fill(store, run="1", report__old="2")
    with reading(store.address, lambda names: ["run"]) as place:
        (place.directory / "report").mkdir()
        for name in ("index.html", "results.csv"):
            (place.directory / "report" / name).write_text(name)
        one_bucket.faults.seen.clear()
        place.upload("report", last="report/index.html", alone=True)
    seen = one_bucket.faults.seen
    written = [path.rpartition("/")[2] for method, path in seen if method == "PUT"]
    assert written == ["results.csv", "index.html"]
    assert [entry.name for entry in store.list("report")] == [
        "report/index.html", "report/results.csv",
    ]  # fmt: skip
    there, requests = refreshed(store)
    assert there.keys() == {"run", "report/index.html", "report/results.csv"}
    assert requests == {"list": 1}


def test_an_address_may_be_that_of_a_file(store):
    fill(store, net__x="weights", net__config="beside", net__y="another")
    with reading_file(store.address / "net/x", everything, ["config"]) as path:
        assert path.read_bytes() == b"weights"
        assert contents(path.parent) == {"x": b"weights", "config": b"beside"}
    with reading_file(store.address / "net", everything) as path:
        assert len(contents(path)) == 3
    store.delete(["net/config"])
    with reading_file(store.address / "net/x", everything, ["config"]) as path:
        assert contents(path.parent) == {"x": b"weights", "y": b"another"}
