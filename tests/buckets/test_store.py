"""A store of objects: what it promises, on servers that speak as S3 and Google do."""

import os
import sys
import threading

import pytest

from resjax.buckets import store as stores
from resjax.buckets.faults import Changed, NotThere, Refused, Unanswered
from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.config.addresses import Address


@pytest.fixture
def store(bucket, fresh, monkeypatch):
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)
    return Store(Address.of(bucket.address(fresh)), patience=5.0)


def test_an_object_is_read_as_it_was_written(store, tmp_path):
    content = bytes(range(256)) * 10
    version = store.put("a/b.bin", content)
    assert store.get("a/b.bin") == (content, version)
    [entry] = store.list()
    assert (entry.name, entry.size) == ("a/b.bin", 2560)
    head, same = store.head("a/b.bin")
    assert head.size == 2560
    assert head.e_tag == entry.e_tag
    assert same == version
    assert store.get_range(entry, 5, 8) == content[5:8]
    store.fetch(entry, tmp_path / "x" / "b.bin")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["b.bin"]
    assert (tmp_path / "x" / "b.bin").read_bytes() == content


def test_what_is_not_there_is_said_to_be_not_there(store):
    for read in (store.get, store.head):
        with pytest.raises(NotThere):
            read("nothing")
    store.delete(["nothing", "nor this"])
    assert store.list("no/such") == []


def test_a_listing_is_of_what_lies_below_a_directory_and_costs_one_request(store):
    for name in ("a/1", "a/2/3", "ab/1", "b"):
        store.put(name, name.encode())
    before = store.requests["list"]
    assert [entry.name for entry in store.list("a")] == ["a/1", "a/2/3"]
    assert [entry.name for entry in store.list()] == ["a/1", "a/2/3", "ab/1", "b"]
    assert store.requests["list"] - before == 2
    store.delete(["a/1", "nothing", "b"])
    assert [entry.name for entry in store.list()] == ["a/2/3", "ab/1"]


def test_an_object_is_created_only_once_and_replaced_only_if_unchanged(store):
    first = store.put("claim", b"1", create=True)
    with pytest.raises(Changed):
        store.put("claim", b"2", create=True)
    second = store.put("claim", b"3", replacing=first)
    with pytest.raises(Changed):
        store.put("claim", b"4", replacing=first)
    assert store.get("claim") == (b"3", second)


def test_of_many_that_create_an_object_one_does(store):
    won, start = [], threading.Barrier(8)

    def create(number):
        start.wait()
        try:
            store.put("claim", b"%d" % number, create=True)
            won.append(number)
        except Changed:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.get("claim")[0] == b"%d" % won[0]


@pytest.mark.parametrize("fault", ["drop", "lose", "503", "429", "cut", "expired"])
def test_a_fault_that_passes_is_not_noticed(store, bucket, fault, tmp_path):
    store.put("x", 1000 * b"content")
    [entry] = store.list()
    for work, expected in (
        (lambda: store.get("x")[0], 1000 * b"content"),
        (
            lambda: store.fetch(entry, tmp_path / "x") or (tmp_path / "x").read_bytes(),
            1000 * b"content",
        ),
        (lambda: [entry.name for entry in store.list()], ["x"]),
        (lambda: store.head("x")[0].size, 7000),
        (lambda: store.get(store.put("new", b"1", create=True) and "new")[0], b"1"),
    ):
        bucket.faults.next.extend([fault, fault])
        assert work() == expected
        bucket.faults.next.clear()


def test_a_write_whose_answer_was_lost_is_not_taken_for_that_of_another(store, bucket):
    bucket.faults.next.append("lose")
    first = store.put("claim", b"mine", create=True)
    bucket.faults.next.append("lose")
    second = store.put("claim", b"mine still", replacing=first)
    assert store.get("claim") == (b"mine still", second)
    bucket.faults.next.append("lose")
    with pytest.raises(Changed):
        store.put("claim", b"theirs", create=True)


def test_a_bucket_that_is_silent_is_told_of_and_given_up_after_the_patience(
    bucket, fresh, monkeypatch
):
    for name in ("FIRST_PAUSE", "LONGEST_PAUSE", "SECONDS_TO_TELL"):
        monkeypatch.setattr(stores, name, 0.05)
    lines = []
    store = Store(Address.of(bucket.address(fresh)), patience=0.5, tell=lines.append)
    store.put("x", b"")
    bucket.faults.down = True
    with pytest.raises(Unanswered, match=r"^\w\w://lab/\w+ does not answer: "):
        store.get("x")
    assert "does not answer since 0 s (" in lines[0]
    assert len(lines) >= 2
    bucket.faults.down = False
    assert store.get("x")[0] == b""
    assert lines[-1].startswith(f"{store.address} answers again, after ")


def test_a_silent_bucket_is_not_asked_all_the_time(bucket, fresh):
    store = Store(Address.of(bucket.address(fresh)), patience=0.7)
    bucket.faults.down = True
    with pytest.raises(Unanswered):
        store.list()
    assert 2 <= len(bucket.faults.seen) <= 8


def test_what_a_person_has_to_put_right_is_refused_at_once(bucket, store, monkeypatch):
    bucket.faults.next.append("denied")
    role = {"s3": "s3:ListBucket", "gs": "roles/storage.objectUser"}[bucket.kind]
    with pytest.raises(Refused, match=rf"no permission to use \S+ \(AccessDenied\); grant {role}"):
        store.list()
    wrong = Store(Address.of(f"{bucket.kind}://other/runs"))
    for request in (wrong.list, lambda: wrong.get("x"), lambda: wrong.put("x", b"")):
        with pytest.raises(Refused, match=rf"^there is no bucket {bucket.kind}://other; correct"):
            request()


@pytest.mark.parametrize(("fault", "told"), [
    ("full", r"^s3://lab is full \(QuotaExceeded\); remove objects"),
    ("locked", r"key that s3://lab is encrypted with .* \(KMS.DisabledException\); enable it$"),
    ("elsewhere", "^s3://lab is in another region; set AWS_REGION to its own$"),
    ("unconditional", r"\(501 Not Implemented\); use a store with conditional writes$"),
])  # fmt: skip
def test_a_refusal_is_told_with_its_remedy(fault, told, one_bucket, fresh):
    store = Store(Address.of(one_bucket.address(fresh)), patience=5.0)
    one_bucket.faults.rates = {fault: 1.0}
    for request in (lambda: store.put("a", b"1", create=True), store.list):
        with pytest.raises(Refused, match=told):
            request()


def test_a_machine_without_credentials_is_told_how_to_get_some(one_bucket, fresh, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(Refused, match=r"^no credentials for s3://lab/\w+ \(.*set AWS_ACCESS"):
        Store(Address.of(one_bucket.address(fresh))).list()


class Careless:
    """A store that heeds one condition of a write and not the other."""

    def __init__(self, objects, heeded):
        self.objects, self.heeded = objects, heeded

    def __getattr__(self, name):
        return getattr(self.objects, name)

    def put(self, name, content, mode, **options):
        heeded = (mode == "create") == (self.heeded == "create")
        return self.objects.put(name, content, mode=mode if heeded else "overwrite", **options)


def test_an_environment_that_makes_no_sense_is_refused_in_a_line(one_bucket, fresh, monkeypatch):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", os.devnull)
    with pytest.raises(Refused, match=r"^no credentials for gs://lab/x \(.*gcloud auth applicat"):
        Store(Address.of("gs://lab/x"))
    with pytest.raises(Refused, match=r"^no credentials for az://lab/x \(.*AZURE_STORAGE_ACCOUNT"):
        Store(Address.of("az://lab/x"))
    for value in ("nonsense", "ftp://here", "http://", "https://a b"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", value)
        with pytest.raises(Refused, match=f"^AWS_ENDPOINT_URL={value} is no address of a server"):
            Store(Address.of("s3://lab/x"))


def test_a_store_without_conditions_is_refused(store):
    store.refuse_unconditional(".probe")
    assert store.list() == []
    objects = store.objects
    for heeded, said in (("create", "it is unchanged"), ("replace", "it is not there")):
        store.objects = Careless(objects, heeded)
        with pytest.raises(ConfigError, match=f"told to write only if {said}, so two machines"):
            store.refuse_unconditional(".probe")
    assert store.list() == []


def test_large_objects_are_written_and_read_in_parts(one_bucket, fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "PART", 5 << 20)
    store = Store(Address.of(one_bucket.address(fresh)))
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * (12 << 12))
    one_bucket.faults.seen.clear()
    store.put("large", path)
    assert [method for method, _ in one_bucket.faults.seen].count("PUT") == 3
    [entry] = store.list()
    one_bucket.faults.next.extend([None, "cut"])
    store.fetch(entry, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert [method for method, _ in one_bucket.faults.seen].count("GET") == 1 + 3 + 1
    store.put("large", b"other")
    with pytest.raises(Changed):
        store.fetch(entry, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_two_that_fetch_one_object_at_once_both_have_it_whole(one_bucket, fresh, tmp_path):
    """As two processes, whose main threads may have the same number."""

    class Overtaken(Store):
        def get_range(self, entry, start, stop):
            Store(self.address).fetch(entry, path)
            assert path.read_bytes() == b"whole"
            return super().get_range(entry, start, stop)

    store, path = Overtaken(Address.of(one_bucket.address(fresh))), tmp_path / "copy"
    store.put("name", b"whole")
    store.fetch(store.head("name")[0], path)
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_without_its_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"not installed: pip install -e '\.\[bucket\]' in"):
        Store(Address.of("s3://lab/runs"))
