"""Commands that read a bucket, and say of it what they say of a directory of the same files."""

import json
import re
import shutil
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest

from resjax.buckets import places
from resjax.buckets.objects import Listed
from resjax.buckets.places import Copy
from resjax.buckets.store import Store
from resjax.cli.commands import status
from resjax.cli.main import main
from resjax.report.report import read_sweep
from resjax.runs import disk, rundir
from resjax.runs.claims import SECONDS_TO_STALE
from tests.buckets.fixtures import made_ready, uploaded
from tests.report.fabricate import begin_run, write_run

pytestmark = pytest.mark.usefixtures("copies")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep with runs that are done, one that failed, and one that was interrupted."""
    workdir = tmp_path_factory.mktemp("runs") / "sweep"
    for seed in range(2):
        write_run(workdir, f"none-8-seed{seed}", 0.1, model__depth=8, seed=seed)
        write_run(workdir, f"none-20-seed{seed}", 0.2, model__depth=20, seed=seed)
    (begin_run(workdir, "failed", seed=7) / "error.txt").write_text("the loss is NaN\n")
    rundir.write_progress(begin_run(workdir, "begun", seed=8), {"phase": "training", "step": 3})
    return workdir


def told(capsys, *words):
    """What a command prints to stdout; it must succeed."""
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "doctor"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_bucket_is_told_of_as_a_directory(command, form, sweep, one_bucket, fresh, capsys):
    there = uploaded(sweep, one_bucket.address(f"{fresh}/sweep")).address
    here = told(capsys, command, sweep, *form).replace(str(sweep), str(there))
    assert told(capsys, command, there, *form) == here


def test_the_status_of_a_sweep_takes_one_listing_and_no_more_than_it_shows(
    sweep, bucket, fresh, capsys
):
    there = uploaded(sweep, bucket.address(fresh)).address
    bucket.faults.seen.clear()
    first = told(capsys, "status", there)
    asked = [unquote(path).rpartition("/")[2] for _, path in bucket.faults.seen]
    of_done = 4 * ["config.json", "result.json", "timing.jsonl"]
    of_others = 2 * ["config.json", "timing.jsonl"] + ["error.txt", "progress.json"]
    assert sorted(asked[1:]) == sorted(of_done + of_others)
    bucket.faults.seen.clear()
    assert told(capsys, "status", there) == first
    assert len(bucket.faults.seen) == 1


def test_a_bucket_with_faults_is_told_of_as_without(sweep, bucket, fresh, capsys, monkeypatch):
    monkeypatch.setattr("resjax.buckets.store.FIRST_PAUSE", 0.01)
    there = uploaded(sweep, bucket.address(fresh)).address
    bucket.faults.rates = {"503": 0.1, "drop": 0.1, "cut": 0.1, "429": 0.05, "expired": 0.05}
    here = told(capsys, "status", "--json", sweep).replace(str(sweep), str(there))
    assert told(capsys, "status", "--json", there) == here


def test_a_run_is_in_training_while_its_claim_is_young_by_the_clock_of_the_bucket(
    one_bucket, fresh, tmp_path, copies, capsys, monkeypatch
):
    run = begin_run(tmp_path, "run", seed=0)
    rundir.write_progress(run, {"phase": "training", "step": 3})
    disk.write_json(run / "claim.json", {"host": "tpu-1", "pid": 7, "token": "x", "boot": "other"})
    store = uploaded(run, one_bucket.address(f"{fresh}/run"))

    def state():
        status = json.loads(told(capsys, "status", "--json", store.address))
        return status["state"], status["owner"]

    assert state() == ("training", "process 7 on tpu-1")
    shutil.rmtree(copies)
    of = Listed.of
    monkeypatch.setattr(
        Listed, "of", lambda *meta: replace(of(*meta), modified=time.time() - 2 * SECONDS_TO_STALE)
    )
    assert state() == ("interrupted", None)


@pytest.mark.slow
def test_runs_in_a_bucket_are_followed_until_they_have_ended(
    one_bucket, fresh, tmp_path, capsys, monkeypatch
):
    store = uploaded(begin_run(tmp_path, "run", seed=0), one_bucket.address(f"{fresh}/run"))
    done, refresh, looks = write_run(tmp_path, "done", 0.25, seed=0), Copy.refresh, []

    def ended_at_last(copy, *choices):
        looks.append(copy)
        if len(looks) == 3:
            store.put("result.json", done / "result.json")
        return refresh(copy, *choices)

    monkeypatch.setattr(status, "SECONDS_BETWEEN_LISTINGS", 0.0)
    monkeypatch.setattr(Copy, "refresh", ended_at_last)
    told(capsys, "status", "--watch", store.address)
    assert len(looks) == 3


def test_a_bucket_that_does_not_answer_is_told_of_in_a_line(
    sweep, one_bucket, fresh, capsys, monkeypatch
):
    there = uploaded(sweep, one_bucket.address(fresh)).address
    monkeypatch.setattr(places, "Store", partial(Store, patience=0.2))
    one_bucket.faults.down = True
    assert main(["status", str(there)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"resjax: {there} does not answer: ")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_the_report_of_a_bucket_is_written_there_as_in_a_directory(sweep, gs_of, capsys):
    store = gs_of("sweep", sweep)
    here = told(capsys, "report", sweep).replace(str(sweep), str(store.address)).splitlines()
    told(capsys, "status", store.address)  # for which a config need not be read
    there = told(capsys, "report", store.address).splitlines()
    link = (
        f"in a browser: https://storage.cloud.google.com/lab/{store.address.path}/report/index.html"
    )
    assert there[:-2] == here
    assert there[-2] == link
    page, _ = store.get("report/index.html")
    written = rb"as of [-0-9: ]+ UTC"  # a run is not finished, and a minute may have passed
    expected = (sweep / "report" / "index.html").read_bytes()
    assert re.sub(written, b"", page) == re.sub(written, b"", expected)
    names = [entry.name for entry in store.list("report")]
    assert names == sorted(
        path.relative_to(sweep).as_posix() for path in (sweep / "report").rglob("*.*")
    )
    assert len(read_sweep(str(store.address)).runs) == 4


@pytest.mark.slow
def test_a_report_that_may_not_be_written_is_where_the_message_says(
    sweep, one_bucket, fresh, copies, capsys
):
    there = uploaded(sweep, one_bucket.address(fresh)).address
    one_bucket.faults.writes = "denied"
    assert main(["report", str(there)]) == 2
    said = capsys.readouterr()
    assert "verdict" in said.out
    assert "report: " not in said.out
    assert f"no permission to use {there} (AccessDenied)" in said.err
    kept = Path(said.err.split("; what was to be written there is in ")[1].strip())
    assert kept.is_relative_to(copies)
    assert (kept / "index.html").is_file()


@pytest.fixture
def gs_of(gs, fresh, monkeypatch):
    """A function that uploads a directory to a bucket of Google's."""
    made_ready(gs, monkeypatch)
    return lambda name, directory: uploaded(directory, gs.address(f"{fresh}/{name}"))


COMMANDS = [
    ["status"], ["report"], ["doctor"], ["probe"], ["evaluate"],
    ["export", "--names=timm", "--out=x.safetensors"], ["import", "--out=x"],
    ["predict", "README.md"], ["train", "--config=experiments/degradation.py", "init_from"],
    ["train", "--config=experiments/degradation.py", "folder"],
    ["train", "--config=experiments/degradation.py", "dir"],
]  # fmt: skip

KEYS = {
    "init_from": "--config.train.init_from={}",
    "folder": "--config.data.name=folder:{}",
    "dir": "--config.data.name=cifar10 --config.data.dir={}",
}


def of(command, address, tmp_path):
    """The words of a command that reads an address."""
    *words, last = command
    if last in KEYS:
        return [*words, f"--workdir={tmp_path / 'run'}", *KEYS[last].format(address).split()]
    return [command[0], address, *command[1:]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command[0]} {command[-1]}")
def test_a_bucket_that_cannot_be_read_is_refused_in_a_line(
    command, one_bucket, fresh, tmp_path, capsys, monkeypatch
):
    def refused(address):
        assert main(of(command, address, tmp_path)) == 2
        said = capsys.readouterr().err
        assert said.startswith("resjax: ")
        assert said.count("\n") == 1
        return said

    address = one_bucket.address(fresh)
    assert "there is no bucket s3://other; correct its name, or make it" in refused("s3://other/x")
    assert address in refused(address)  # nothing is there
    one_bucket.faults.rates = {"denied": 1.0}
    assert "no permission to use" in refused(address)
    one_bucket.faults.reset()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the" in refused(address)
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert "obstore, which is not installed: pip install -e '.[bucket]' in" in refused(address)


def test_a_bucket_is_not_repaired(one_bucket, fresh, capsys):
    assert main(["doctor", one_bucket.address(fresh), "--repair"]) == 2
    assert "--repair is for directories of this machine" in capsys.readouterr().err
