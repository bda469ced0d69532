"""Runs that are uploaded to a bucket: what is there at every moment, and who goes on from it."""

import contextlib
import errno
import hashlib
import os
import shutil
import threading

import pytest

from resjax.buckets import store as stores
from resjax.buckets.faults import Changed, NotThere
from resjax.buckets.store import Store
from resjax.config import default_config
from resjax.config.addresses import Address
from resjax.runs import checkpoint, claims, disk, rundir, scratch, sync, upload
from resjax.runs.claim_objects import ClaimObject
from resjax.runs.claims import Claimed
from resjax.runs.sync import at_work
from resjax.runs.upload import NotUploaded, Upload

ON_ONE_KIND = pytest.mark.parametrize("bucket", ["s3"], indirect=True)
"""For tests in which it does not matter how a bucket knows its versions."""


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch):
    """Uploads are made when a test says so, and faults are waited for shortly."""
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_CHECKS", 1e4)
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_OTHER_UPLOADS", 0.0)
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_UPLOADS", {})
    monkeypatch.setattr(upload, "SECONDS_OF_A_TRY", 1.0)
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)


@pytest.fixture
def machine(bucket, fresh, tmp_path):
    """A function that makes the directory of a run on a machine of a name."""

    def make(name, run=None):
        address = Address.of(bucket.address(fresh))
        directory = scratch.workplace(address, tmp_path / name)
        return directory / run if run else directory

    return make


@pytest.fixture
def store(bucket, fresh):
    return Store(Address.of(bucket.address(fresh)))


def save(run, step, text="state"):
    """A checkpoint as a run would have written it."""
    path = run / "checkpoints" / str(step)
    files = {}
    for name in ("state/manifest", f"state/d/{text}"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"{text} {step} {name}")
        files[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    empty = {key: {} for key in ("best", "seconds", "data", "execution")}
    facts = checkpoint.Facts(run="run", step=step, evaluated=0, grown=False, lines=[], **empty)
    disk.write_json(path / "checkpoint.json", {**vars(facts), "files": files})


def evaluate(run, step):
    disk.append_line(run / "metrics.jsonl", {"step": step, "error": 0.5})


def end(run):
    rundir.write_result(run, {"train_error": 0.5})


@contextlib.contextmanager
def begun(run):
    run.mkdir(exist_ok=True)
    with at_work(run):
        rundir.begin_run(run, default_config())
        yield upload_of()


def upload_of():
    """The upload of the innermost block."""
    from resjax import interruption

    return interruption._finishing[-1].__self__


def downloaded(store, directory, prefix=""):
    """What a reader finds in the bucket, as files of a directory.

    If something is replaced or removed meanwhile, the reader begins anew.
    """
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        with contextlib.suppress(Changed, NotThere):
            for entry in store.list(prefix):
                store.fetch(entry, directory / entry.name)
            return directory / prefix


def assert_promises_are_kept(store, directory):
    """What is sealed is whole, and what is done has everything that it tells of."""
    copy = downloaded(store, directory)
    for path in checkpoint.found(copy):
        if not checkpoint.is_partial(path):
            checkpoint.verified(path)
    if rundir.run_state(copy) == rundir.DONE:
        assert rundir.read_metrics(copy)
        assert checkpoint.newest(copy)[1].step == 20
        assert (copy / "weights.safetensors").exists()


@contextlib.contextmanager
def watched(bucket, look):
    """Calls `look` between all requests that write, as a reader might look."""
    fault, lock, failed = bucket.faults.fault, threading.Lock(), []

    def seen(method, path):
        if method in ("PUT", "POST", "DELETE"):
            try:
                with lock:
                    look()
            except Exception as error:
                failed.append(error)
        return fault(method, path)

    bucket.faults.fault = seen
    try:
        yield
    finally:
        bucket.faults.fault = fault
    assert failed == []


def test_a_reader_sees_no_promise_without_its_content(machine, store, bucket, tmp_path):
    run = machine("here")
    looks = []

    def look():
        looks.append(1)
        assert_promises_are_kept(store, tmp_path / "copy")

    with watched(bucket, look), begun(run) as uploading:
        uploading.upload_changes()
        save(run, 10)
        evaluate(run, 10)
        uploading.upload_changes()
        save(run, 20)
        checkpoint.remove(run / "checkpoints" / "10")
        evaluate(run, 20)
        (run / "weights.safetensors").write_bytes(b"weights")
        end(run)
    assert len(looks) > 10
    copy = downloaded(store, tmp_path / "copy")
    assert rundir.run_state(copy) == rundir.DONE
    assert [path.name for path in checkpoint.found(copy)] == ["20"]
    assert checkpoint.newest(copy)[1].step == 20
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_another_machine_starts_from_what_was_uploaded(machine, store):
    first, second = machine("first"), machine("second")
    with begun(first) as uploading:
        save(first, 10)
        evaluate(first, 10)
        uploading.upload_changes()
    with begun(second) as uploading:
        assert checkpoint.newest(second)[1].step == 10
        assert rundir.read_metrics(second) == [{"step": 10, "error": 0.5}]
        save(second, 20)
        checkpoint.remove(second / "checkpoints" / "10")
        evaluate(second, 20)
    save(first, 15)  # of a process that did not notice; it is uploaded nowhere
    with begun(first):
        assert [path.name for path in checkpoint.found(first)] == ["20"]
        assert len(rundir.read_metrics(first)) == 2


def test_the_same_machine_goes_on_from_what_it_had_not_uploaded(machine, bucket, store):
    run = machine("here")
    with contextlib.suppress(Claimed), begun(run) as uploading:
        save(run, 10)
        uploading.upload_changes()
        save(run, 20)
        uploading.claim.lost = uploading.over = True  # nothing more is done, as if it were killed
    bucket.faults.seen.clear()
    with begun(run):
        assert [path.name for path in checkpoint.found(run)] == ["20", "10"]
    written = [path for method, path in bucket.faults.seen if method == "PUT"]
    assert not any("checkpoints%2F10" in path or "checkpoints/10" in path for path in written)
    assert {entry.name.split("/")[1] for entry in store.list("checkpoints")} == {"10", "20"}


@ON_ONE_KIND
def test_where_a_storage_has_no_locks_a_run_at_work_is_left_as_it_is(machine, store, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    run, there = machine("here"), machine("there")
    with begun(there):
        save(there, 10)
    with begun(run):
        save(run, 20)
        monkeypatch.setattr(claims.fcntl, "flock", no_locks)
        (run / ".landed.json").unlink()  # as before the first upload of a new process
        assert scratch.fetch_states([run]) == []
        assert [path.name for path in checkpoint.found(run)] == ["20", "10"]


@ON_ONE_KIND
@pytest.mark.parametrize("lost", ["checkpoints", "all but what is hidden"])
def test_what_was_lost_on_this_machine_is_fetched_and_not_deleted_in_the_bucket(
    machine, store, lost
):
    run = machine("here")
    with begun(run):
        save(run, 10)
        evaluate(run, 10)
    before = {entry.name for entry in store.list()}
    for path in list(run.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif lost != "checkpoints" and not path.name.startswith("."):
            path.unlink()
    with begun(run):
        assert checkpoint.newest(run)[1].step == 10
    assert {entry.name for entry in store.list()} == before


@ON_ONE_KIND
def test_a_run_that_was_deleted_in_the_bucket_starts_anew(machine, store):
    run = machine("here")
    with begun(run):
        save(run, 10)
    store.delete([entry.name for entry in store.list()])
    with begun(run):
        assert checkpoint.found(run) == []


@ON_ONE_KIND
def test_a_run_that_failed_and_is_tried_again_has_no_error_in_the_bucket(machine, store):
    run = machine("here")
    with begun(run):
        disk.write_text(run / "error.txt", "it failed")
    assert "error.txt" in [entry.name for entry in store.list()]
    with begun(run) as uploading:
        uploading.upload_changes()
        assert "error.txt" not in [entry.name for entry in store.list()]


@ON_ONE_KIND
def test_a_failure_is_forgotten_by_all_machines(machine):
    here, there = machine("here", "run"), machine("there", "run")
    with begun(there):
        disk.write_text(there / "error.txt", "it failed")
    sync.refresh([here])
    assert rundir.run_state(here) == rundir.FAILED
    sync.forget_failure(here)
    sync.refresh([here])
    assert rundir.run_state(here) == rundir.UNFINISHED


@ON_ONE_KIND
def test_a_failure_that_a_driver_records_of_the_run_of_another_machine_stays(machine):
    driver, other = machine("driver", "run"), machine("other", "run")
    with begun(machine("node", "run")):
        pass
    sync.refresh([driver])
    sync.record_failure(driver, "its process died 3 times")
    for run in (driver, other):
        sync.refresh([run])
        assert rundir.read_failure(run) == "its process died 3 times"


@ON_ONE_KIND
def test_a_checkpoint_that_the_run_removes_is_uploaded_whole_or_not_at_all(
    machine, store, bucket, tmp_path
):
    run = machine("here")

    def save_another():
        if not (run / "checkpoints" / "20").exists():
            save(run, 20)
            checkpoint.remove(run / "checkpoints" / "10")

    with begun(run) as uploading:
        save(run, 10)
        with watched(bucket, save_another):
            while not uploading.upload_changes():
                pass
        assert_promises_are_kept(store, tmp_path / "copy")
        copy = downloaded(store, tmp_path / "copy")
        assert [path.name for path in checkpoint.found(copy)] == ["20"]


def test_nothing_is_written_by_a_process_that_was_overtaken(machine, store, monkeypatch):
    first, second = machine("first"), machine("second")
    now = [1000.0]
    monkeypatch.setattr(claims, "since_boot", lambda: now[0])
    monkeypatch.setattr(claims, "monotonic", lambda: now[0])
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 1e4)
    overtaken = pytest.raises(Claimed, match="was taken over by another process")
    with overtaken, begun(first) as late:
        save(first, 10)
        assert late.upload_changes()
        with pytest.raises(Claimed, match=r"is being run by process \d+ on"), begun(second):
            pass
        now[0] += claims.SECONDS_TO_STALE + 1
        with begun(second):
            save(second, 20, "theirs")
            (first / "config.json").write_text("{}")
            save(first, 20, "ours")
            end_of_first = {entry.name: entry.e_tag for entry in store.list()}
            with pytest.raises(upload._Lost):
                late.upload_changes()
            assert {e.name: e.e_tag for e in store.list()} == end_of_first
    assert checkpoint.newest(second)[1].step == 20


def test_a_late_write_of_a_process_that_was_overtaken_replaces_nothing(machine, store, monkeypatch):
    """It stood still between making sure of its claim and its request."""
    first = machine("first")
    with pytest.raises(Claimed), begun(first) as late:  # noqa: PT012 - it ends when the block does
        evaluate(first, 10)
        late.upload_changes()
        theirs = ClaimObject(store)
        theirs.replace(theirs.read(), {"token": "theirs"})
        version = late.versions["metrics.jsonl"]
        store.put("metrics.jsonl", b"what the other wrote", replacing=version)
        evaluate(first, 20)
        with pytest.raises(upload._Lost):
            late.upload_changes()
        assert late.claim.lost
    assert store.get("metrics.jsonl")[0] == b"what the other wrote"


@ON_ONE_KIND
def test_a_bucket_that_fails_stops_no_run_and_the_next_command_uploads_what_is_left(
    machine, store, bucket, monkeypatch
):
    monkeypatch.setattr(upload, "SECONDS_AT_THE_END", 0.2)
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.2)
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_CHECKS", 0.05)
    run = machine("here")
    line = r"lacks what the run wrote last \(.*the same command uploads it"
    refused = pytest.raises(NotUploaded, match=line)
    with refused, begun(run):
        save(run, 10)
        bucket.faults.down = True
        evaluate(run, 10)
        end(run)
    bucket.faults.down = False
    assert "result.json" not in [entry.name for entry in store.list()]
    sync.refresh([run])
    assert "result.json" in [entry.name for entry in store.list()]
    bucket.faults.seen.clear()
    sync.refresh([run])
    assert [method for method, _ in bucket.faults.seen] == ["GET"]


@ON_ONE_KIND
def test_a_run_that_is_asked_to_end_waits_for_no_upload_under_way_for_longer_than_it_has(
    machine, monkeypatch
):
    monkeypatch.setattr(upload, "SECONDS_AT_A_SIGNAL", 0.1)
    told = []
    monkeypatch.setattr("resjax.interruption.tell_at_the_end", told.append)
    with begun(machine("here")) as uploading:
        uploading.passing.acquire()  # as while a large checkpoint is uploaded
        uploaded = threading.Timer(5.0, uploading.passing.release)
        uploaded.start()
        uploading.leave()
        assert uploaded.is_alive()
        uploaded.cancel()
        uploading.passing.release()
    [line] = told
    assert "lacks what the run wrote last (its upload takes longer); it is kept in" in line


@ON_ONE_KIND
def test_a_permission_that_is_withdrawn_is_told_of_and_waited_for(
    machine, store, bucket, monkeypatch
):
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_CHECKS", 0.02)
    told = []
    monkeypatch.setattr(upload, "show_notice", told.append)
    run = machine("here")
    with begun(run) as uploading:
        while not uploading._has("config.json"):
            pass
        bucket.faults.next.extend(3 * ["denied"])
        save(run, 10)
    assert checkpoint.newest(run)[1].step == 10
    assert "checkpoints/10/checkpoint.json" in [entry.name for entry in store.list()]


@ON_ONE_KIND
def test_a_permission_that_is_not_given_back_ends_the_run_as_a_bucket_that_fails(
    machine, store, bucket, monkeypatch
):
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_CHECKS", 0.02)
    monkeypatch.setattr(upload, "SECONDS_AFTER_A_REFUSAL", 0.5)
    told = []
    monkeypatch.setattr(upload, "show_notice", told.append)
    run = machine("here")
    with pytest.raises(NotUploaded) as refused, begun(run) as uploading:  # noqa: PT012
        while not uploading._has("config.json"):
            pass
        bucket.faults.writes = "denied"
        save(run, 10)
    said = str(refused.value)
    assert f"it is kept in {run}, and the same command uploads it" in said
    assert "no permission to use" in said
    assert any("(AccessDenied)" in line and "tried again for 0 s" in line for line in told)
    bucket.faults.writes = None
    with begun(run):
        pass
    assert "checkpoints/10/checkpoint.json" in [entry.name for entry in store.list()]


def test_states_of_the_runs_of_other_machines_take_one_listing(machine, store, bucket, monkeypatch):
    here, there = machine("here"), machine("there")
    names = ["one", "two", "three"]
    for name in names:
        with begun(there / name):
            save(there / name, 10)
            evaluate(there / name, 10)
            if name != "two":
                end(there / name)
    bucket.faults.seen.clear()
    runs = [here / name for name in [*names, "four"]]
    assert scratch.fetch_states(runs) == []
    listings = [path for method, path in bucket.faults.seen if "list-type" in path]
    assert len(listings) == 1
    states = [rundir.run_state(run) for run in runs]
    assert states == [rundir.DONE, rundir.UNFINISHED, rundir.DONE, rundir.ABSENT]
    assert not (here / "one" / "checkpoints").exists()
    bucket.faults.seen.clear()
    assert scratch.fetch_states(runs) == []
    assert len(bucket.faults.seen) == 2  # and whether somebody is at work on that which is not done
    with begun(there / "two"):
        scratch.fetch_states(runs)
        assert claims.owner(here / "two") == f"process {os.getpid()} on {os.uname().nodename}"
        with pytest.raises(Claimed, match="is being run by process"), at_work(here / "two"):
            pass
    scratch.fetch_states(runs)
    assert claims.owner(here / "two") is None
    with begun(here / "two"):
        assert checkpoint.newest(here / "two")[1].step == 10


@ON_ONE_KIND
def test_a_run_whose_machine_is_gone_is_taken_over_after_one_minute(machine, store, monkeypatch):
    """The copy of its claim here, which is for readers, makes nobody wait for longer."""
    now, run = [1000.0], machine("here", "run")
    monkeypatch.setattr(claims, "monotonic", lambda: now[0])
    gone = {"host": "far", "boot": "another", "pid": 7, "token": "theirs"}
    ClaimObject(store.below("run")).create(gone)
    scratch.fetch_states([run])
    assert claims.owner(run) == "process 7 on far"
    now[0] += claims.SECONDS_TO_STALE - 1
    scratch.fetch_states([run])
    with pytest.raises(Claimed, match="is being run by process 7 on far"), at_work(run):
        pass
    now[0] += 2
    scratch.fetch_states([run])
    assert claims.owner(run) is None
    with at_work(run) as claim:
        assert claim.place.read()["token"] == claim.token


def test_a_directory_of_this_machine_is_uploaded_nowhere(tmp_path):
    with at_work(tmp_path):
        assert scratch.address_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_every_address_has_a_scratch_directory_of_its_own():
    lab = Address.of("gs://lab/runs")
    others = [Address.of(text) for text in ("s3://lab/runs", "gs://lab2/runs", "gs://lab/x/runs")]
    assert len({scratch.scratch_directory(each) for each in [lab, *others]}) == 4
    assert scratch.scratch_directory(lab).name == "runs"


def test_a_process_that_marks_a_directory_while_another_begins_the_run_goes_on(
    tmp_path, monkeypatch
):
    address = Address.of("gs://lab/runs")

    def begun_by_another(file):
        monkeypatch.undo()
        scratch.mark(tmp_path, address)
        rundir.begin_run(tmp_path, default_config())

    monkeypatch.setattr(os, "fsync", begun_by_another)
    scratch.mark(tmp_path, address)
    assert scratch.address_of(tmp_path) == address
    assert rundir.partial_files(tmp_path) == []


@ON_ONE_KIND
def test_idle_looks_ask_the_bucket_for_nothing(machine, bucket):
    run = machine("here")
    with begun(run) as uploading:
        save(run, 10)
        assert isinstance(uploading, Upload)
        assert uploading.upload_changes()
        bucket.faults.seen.clear()
        for _ in range(5):
            assert uploading.upload_changes()
        assert bucket.faults.seen == []


@ON_ONE_KIND
def test_a_result_is_not_uploaded_before_the_lines_that_it_tells_of(machine, store, monkeypatch):
    monkeypatch.setattr(upload, "SECONDS_BETWEEN_OTHER_UPLOADS", 1e4)
    run = machine("here")
    with begun(run) as uploading:
        evaluate(run, 10)
        uploading.upload_changes()
        evaluate(run, 20)  # so soon after the first that it waits
        end(run)
        assert not uploading.upload_changes()
        assert "result.json" not in [entry.name for entry in store.list()]
    assert "result.json" in [entry.name for entry in store.list()]
