"""A run in a bucket, killed at any moment, on a bucket with faults, by any machine.

Here at moments that were chosen; `python -m tests.benchmarks.bucket_kills` kills at random ones.
"""

import os
import signal

import pytest

from resjax.buckets.mirror import Mirror
from resjax.buckets.store import Store
from resjax.config.addresses import Address
from resjax.exits import EXIT_UNFINISHED
from resjax.runs import checkpoint, disk
from resjax.runs.scratch import workplace
from tests.durability import test_kill
from tests.durability.attempts import INSTANTS, Attempts
from tests.durability.test_kill import assert_same_end, resident

STEPS = 45

SOON = {
    "resjax.runs.claims.SECONDS_TO_STALE": 4.0,
    "resjax.runs.claims.SECONDS_BETWEEN_RENEWALS": 0.5,
    "resjax.runs.upload.SECONDS_BEFORE_A_WRITE": 1.0,
    "resjax.runs.upload.SECONDS_BETWEEN_CHECKS": 0.02,
    "resjax.runs.upload.SECONDS_BETWEEN_OTHER_UPLOADS": 0.1,
    "resjax.buckets.connection.SECONDS_OF_A_REQUEST": 5.0,
}
"""So that a machine follows another in some seconds, and the bucket is busy."""

FAULTS = {"drop": 0.03, "lose": 0.03, "503": 0.03, "429": 0.02, "cut": 0.03, "expired": 0.01}

KILLS = [
    {"die": ("a checkpoint is half uploaded", 8)},
    {"die": ("a seal is about to be uploaded", 2)},
    {"die": ("a seal is uploaded", 1)},
    {"die": ("a result is about to be uploaded", 1)},
]


def downloaded(address, directory):
    """What is in the bucket, as a directory."""
    store = Store(address)
    Mirror(store, directory).update(store.list())
    return directory


@pytest.mark.slow
def test_killed_again_and_again_on_a_bucket_with_faults_it_ends_with_the_same_bits(
    zygote, one_bucket, fresh, tmp_path
):
    keys = resident(tmp_path) | {"train.duration": f"{STEPS} steps", "eval.every": "15 steps"}
    attempt = Attempts(zygote, dict(os.environ))
    assert attempt(keys, tmp_path / "whole", tell_every=0.25)[0] == 0
    keys["checkpoint.seconds"] = 0.2
    address = Address.of(one_bucket.address(fresh))
    machines = [workplace(address, tmp_path / name) for name in ("one", "two")]
    one_bucket.faults.rates = FAULTS
    for number, kill in enumerate(KILLS):  # the second and the fourth by the other machine
        status, told = attempt(keys, machines[number % 2], seeds=[0], set=SOON, **kill)
        assert status == -signal.SIGKILL, told
        assert all(
            checkpoint.verified(path)
            for path in checkpoint.found(downloaded(address / "0", tmp_path / f"seen{number}"))
            if not checkpoint.is_partial(path)
        )
    status, told = attempt(keys, machines[0], seeds=[0], set=SOON)
    assert status == 0, told
    one_bucket.faults.rates = {}
    assert_same_end(downloaded(address / "0", tmp_path / "uploaded"), tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_uploads_its_last_state_and_says_how_long_that_took(
    zygote, bucket, fresh, tmp_path, capfd
):
    keys = resident(tmp_path) | {"train.duration": f"{STEPS} steps", "checkpoint.seconds": 1e6}
    address = Address.of(bucket.address(fresh))
    run = workplace(address, tmp_path / "machine")
    attempt = Attempts(zygote, dict(os.environ))
    for phase, step in (("training", 20), ("compiling", 20)):
        status, _ = attempt(keys, run, send=(signal.SIGTERM, phase, step, 0.0))
        assert status == EXIT_UNFINISHED
        assert f"the last state was uploaded to {address} in " in capfd.readouterr().err
        copy = downloaded(address, tmp_path / phase)
        assert checkpoint.newest(copy)[1].step >= 20
        assert disk.read_json(copy / "claim.json")["released"]


def test_every_instant_has_its_kill():
    """Here, or where a run has no bucket."""
    kills = (*test_kill.KILLS, *KILLS)
    assert {kill["die"][0] for kill in kills if "die" in kill} == INSTANTS.keys()
