import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from resjax.runs import claims, disk
from resjax.runs.claims import Claimed, ClaimFile, claimed
from resjax.runs.opening import OpenDirectory
from resjax.runs.run import OpenRun
from resjax.training.plan import make_plan

CODE = """
import sys
from pathlib import Path
from resjax.runs.claims import claimed
with claimed(Path(sys.argv[1])):
    print('claimed', flush=True)
    sys.stdin.read()
"""


def of_another_machine(directory, age=0.0):
    """A claim as a process elsewhere would have made it, touched some seconds ago."""
    path = directory / "claim.json"
    content = {"host": "far", "boot": "another", "pid": 7, "token": "theirs"}
    path.write_text(disk.sealed_text(content))
    touched = path.stat().st_mtime - age
    os.utime(path, (touched, touched))
    return path


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing_that_matters(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"claimed\n"
        assert claims.owner(tmp_path) == f"process {process.pid} on {os.uname().nodename}"
        refused = pytest.raises(Claimed, match="is being run by another process")
        with refused, claimed(tmp_path):
            pass
        process.kill()
        process.wait()
    assert claims.owner(tmp_path) is None
    with claimed(tmp_path):  # at once
        assert claims.owner(tmp_path) == f"process {os.getpid()} on {os.uname().nodename}"
    assert list(tmp_path.iterdir()) == []


def test_a_claim_from_the_future_is_stale_once_it_was_seen_untouched_for_long(
    tmp_path, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(claims, "monotonic", lambda: now)
    path = of_another_machine(tmp_path, age=-86_400)
    assert claims.owner(tmp_path) == "process 7 on far"
    now += claims.SECONDS_TO_STALE - 1
    touched = path.stat().st_mtime + 10
    os.utime(path, (touched, touched))  # by a process that lives, on a storage with a fast clock
    assert claims.owner(tmp_path) == "process 7 on far"
    now += claims.SECONDS_TO_STALE - 1
    with pytest.raises(Claimed, match="process 7 on far"), claimed(tmp_path):
        pass
    now += 2
    assert claims.owner(tmp_path) is None
    with claimed(tmp_path) as claim:
        assert disk.read_json(tmp_path / "claim.json")["token"] == claim.token
    assert list(tmp_path.iterdir()) == []


def test_who_watches_a_claim_asks_the_clock_of_its_storage_once_about_each_touch(
    tmp_path, monkeypatch
):
    def make(**options):
        asked.append(options["dir"])
        return temporary(**options)

    asked, temporary, now = [], tempfile.TemporaryFile, 1000.0
    monkeypatch.setattr(tempfile, "TemporaryFile", make)
    monkeypatch.setattr(claims, "monotonic", lambda: now)
    path = of_another_machine(tmp_path, age=claims.SECONDS_TO_STALE - 10)
    for _ in range(3):
        assert claims.owner(tmp_path) == "process 7 on far"
    assert asked == [tmp_path]
    now += 11
    assert claims.owner(tmp_path) is None  # nobody has touched it
    assert asked == [tmp_path]
    os.utime(path)
    assert claims.owner(tmp_path) == "process 7 on far"
    assert asked == 2 * [tmp_path]


def test_a_take_over_that_began_in_the_future_blocks_no_other_for_ever(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(claims, "monotonic", lambda: now)
    of_another_machine(tmp_path, age=claims.SECONDS_TO_STALE + 5)
    taking = tmp_path / "claim.json.theirs"  # of a process that was killed meanwhile
    taking.touch()
    os.utime(taking, (time.time() + 86_400,) * 2)
    with pytest.raises(Claimed, match="being taken over"), claimed(tmp_path):
        pass
    now += claims.SECONDS_TO_STALE + 1
    with claimed(tmp_path) as claim:
        assert disk.read_json(tmp_path / "claim.json")["token"] == claim.token


def test_a_claim_of_another_machine_is_respected_until_it_is_stale(tmp_path):
    of_another_machine(tmp_path)
    assert claims.owner(tmp_path) == "process 7 on far"
    refused = pytest.raises(Claimed, match="is being run by process 7 on far; wait for it")
    with refused, claimed(tmp_path):
        pass
    of_another_machine(tmp_path, age=claims.SECONDS_TO_STALE + 5)
    assert claims.owner(tmp_path) is None
    with claimed(tmp_path) as claim:
        assert disk.read_json(tmp_path / "claim.json")["token"] == claim.token
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_find_a_stale_claim_one_takes_it(tmp_path):
    """Without locks, as on a storage that has none."""
    for _ in range(20):
        of_another_machine(tmp_path, age=claims.SECONDS_TO_STALE + 5)
        taken, start = [], threading.Barrier(8)

        def take(start=start, taken=taken):
            claim = claims.Claim(ClaimFile(tmp_path), f"token{threading.get_ident()}")
            start.wait()
            try:
                claim.take(locked=False)
                taken.append(claim.token)
            except Claimed:
                pass

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        assert disk.read_json(tmp_path / "claim.json")["token"] == taken[0]
        (tmp_path / "claim.json").unlink()


def test_a_claim_that_was_taken_over_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.01)
    with claimed(tmp_path) as claim:
        of_another_machine(tmp_path)
        claim_was_lost = threading.Event()
        for _ in range(500):
            if claim.lost:
                break
            claim_was_lost.wait(0.01)
        assert claim.lost
    assert (tmp_path / "claim.json").exists()  # theirs


@pytest.mark.parametrize("write", [
    lambda run: run.report_progress("training"),
    lambda run: run.note("evaluated"),
    lambda run: run.write_line(None),
    lambda run: run.probe(None, None),
    lambda run: run.save(None),
    lambda run: run.stopped(RuntimeError()),
], ids=["tell", "note", "line", "probe", "save", "stopped"])  # fmt: skip
def test_a_run_writes_nothing_once_another_process_has_its_directory(tiny, tmp_path, write):
    with claimed(tmp_path) as claim:
        opened = OpenDirectory(tmp_path, tiny, lambda progress: None, claim, None)
        run = OpenRun(make_plan(tiny), opened)
        run.at.lines.append({"step": 10, "train_error": 0.5})
        claim.lost = True
        before = sorted(tmp_path.iterdir())
        with pytest.raises(Claimed, match="was taken over by another process while this one stood"):
            write(run)
        assert sorted(tmp_path.iterdir()) == before


def test_a_claim_that_is_damaged_stands_until_it_is_stale(tmp_path, monkeypatch):
    """For who holds it, and for others, who would run beside a process that is alive."""
    path = of_another_machine(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"far", b"fer"))
    assert claims.owner(tmp_path) == "a process that its claim.json does not tell"
    refused = pytest.raises(Claimed, match=r"by a process that its claim\.json does not tell; wait")
    with refused, claimed(tmp_path):
        pass
    os.utime(path, (0, 0))
    assert claims.owner(tmp_path) is None
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.01)
    with claimed(tmp_path) as claim:
        path.write_bytes(path.read_bytes().replace(b"pid", b"pie"))
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0
        assert not claim.lost
    assert list(tmp_path.iterdir()) == []


def test_a_claim_is_touched_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "SECONDS_BETWEEN_RENEWALS", 0.01)
    with claimed(tmp_path):
        path = tmp_path / "claim.json"
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime:
                break
            threading.Event().wait(0.01)
        assert path.stat().st_mtime > 0


def test_a_process_of_another_container_on_this_machine_is_not_taken_for_gone(tmp_path):
    """Its number says nothing here, where another process may have it, or none."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    own = {"host": "here", "boot": claims.boot(), "pid": process.pid, "token": "theirs"}
    for claim, owner in (
        (own | {"pids": "pid:[1]"}, f"process {process.pid} on here"),
        (own | {"pids": claims.pid_namespace()}, None),
        (own, None),  # as earlier versions wrote it
    ):
        (tmp_path / "claim.json").write_text(disk.sealed_text(claim))
        assert claims.owner(tmp_path) == owner
