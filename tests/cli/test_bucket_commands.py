"""What commands refuse that work in a bucket, in one line, before anything is compiled."""

import json

import pytest

from resjax.buckets.store import Store
from resjax.cli.main import main
from resjax.config.addresses import Address

TRAIN = ("train", "--config=experiments/degradation.py")


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """A function that runs a command, which is refused, and returns what it says."""
    monkeypatch.setattr("resjax.runs.loop.fit", None)  # it would compile

    def run(*words):
        assert main([*words, f"--scratch={tmp_path / 'scratch'}"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert said.startswith("resjax: ")
        return said

    return run


@pytest.mark.parametrize("command", [TRAIN, ("sweep", TRAIN[1]), ("sweep", TRAIN[1], "--jobs=2")])
def test_a_bucket_that_is_not_there_or_may_not_be_used_is_refused(bucket, fresh, refused, command):
    address = bucket.address(fresh)
    said = refused(*command, f"--workdir={bucket.kind}://other/{fresh}")
    assert f"there is no bucket {bucket.kind}://other; correct its name, or make it" in said
    bucket.faults.rates = {"denied": 1.0}
    assert f"no permission to use {address} (AccessDenied); grant " in refused(
        *command, f"--workdir={address}"
    )


def test_credentials_that_are_missing_are_asked_for(one_bucket, fresh, refused, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    said = refused(*TRAIN, f"--workdir={one_bucket.address(fresh)}")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role" in said


@pytest.mark.parametrize(("address", "told"), [
    ("gcs://lab/runs", "use gs://lab/runs"),
    ("gs://Lab/runs", "names the bucket 'Lab'"),
    ("s3://lab//runs", "has an empty name"),
])  # fmt: skip
def test_an_address_that_is_none_is_refused(refused, address, told):
    assert told in refused(*TRAIN, f"--workdir={address}")


def test_scratch_is_for_addresses(refused, tmp_path):
    assert "--scratch=" in refused(*TRAIN, f"--workdir={tmp_path}")


@pytest.mark.slow
def test_a_sweep_is_uploaded_with_its_report_and_is_done_on_any_machine(
    one_bucket, fresh, tmp_path, capsys
):
    address = one_bucket.address(fresh)
    words = [
        "sweep", TRAIN[1], "--sweep=seed", "--seeds=2", "--jobs=1", f"--workdir={address}",
        "--config.model.width=2", "--config.model.depth=8", "--config.train.duration=3 steps",
        "--config.eval.every=3 steps",
    ]  # fmt: skip
    assert main([*words, f"--scratch={tmp_path / 'here'}"]) == 0
    said = capsys.readouterr().out
    assert f"{address}/report/index.html" in said
    names = {entry.name for entry in Store(Address.of(address)).list()}
    assert "report/index.html" in names
    assert sum(name.endswith("/result.json") for name in names) == 2
    one_bucket.faults.seen.clear()
    assert main([*words, f"--scratch={tmp_path / 'there'}"]) == 0
    assert "already done" in capsys.readouterr().err
    put = [path for method, path in one_bucket.faults.seen if method == "PUT"]
    assert len([path for path in put if ".probe" not in path and "report" not in path]) == 0
    one_bucket.faults.seen.clear()
    assert main([*words[:3], *words[5:], "--seeds=2", "--dry-run", "--json",
                 f"--scratch={tmp_path / 'dry'}"]) == 0  # fmt: skip
    states = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert states == ["done", "done"]
    assert {method for method, _ in one_bucket.faults.seen} == {"GET"}
