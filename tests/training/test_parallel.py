"""One step has one result, on one device, on eight by jit and by pmap, and on two hosts."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from resjax.training.parallel import Parallel
from tests.data.pictures import encoded, picture

ALL = "--xla_force_host_platform_device_count=8"
HALF = "--xla_force_host_platform_device_count=4"
ONE_EACH = "--xla_force_host_platform_device_count=1"
WORKER = [sys.executable, "-m", "tests.training.parallel_worker"]

RANDOM = {"model.shortcut": "dropout", "model.stochastic_depth": 0.4, "norm.examples": 8}
SCOPES = {"whole": 0, "groups of 32": 32, "groups of 8": 8}


def run(words, flags, **environment):
    environment = os.environ | {"XLA_FLAGS": flags} | environment
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port():
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


def train(directory, jobs):
    run([*WORKER, str(directory), json.dumps(jobs)], ALL)
    return {name: np.load(directory / f"{name}.npz") for name in jobs}


def train_on_two_hosts(directory, jobs, flags=HALF):
    address = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [*WORKER, str(directory), json.dumps(jobs)],
            env=os.environ
            | {"XLA_FLAGS": flags, "COORDINATOR": address, "PROCESSES": "2", "PROCESS": process},
            stderr=subprocess.PIPE, text=True,
        )
        for process in "01"
    ]  # fmt: skip
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return {name: np.load(directory / f"{name}.npz") for name in jobs}


def assert_equal(first, second):
    """Parameters, statistics and metrics, relative to the largest of an array."""
    assert set(first) == set(second)
    for name in first:
        scale = np.abs(first[name]).max()
        np.testing.assert_allclose(second[name], first[name], 0, 1e-9 * scale, err_msg=name)


@pytest.mark.slow
def test_eight_devices_equal_one_under_jit_and_pmap(tmp_path):
    keys = {"norm.examples": 32, "eval.precise_batches": 3}
    got = train(
        tmp_path,
        {
            "one": keys | {"train.devices": 1},
            "jit": keys,
            "pmap": keys | {"train.parallel": "pmap"},
        },
    )
    assert any("precise" in name for name in got["one"])
    assert_equal(got["one"], got["jit"])
    assert_equal(got["one"], got["pmap"])


@pytest.mark.slow
def test_two_hosts_equal_one_device_for_every_scope_of_batch_norm(tmp_path):
    alone, styles, spread = {}, {}, {}
    for name, examples in SCOPES.items():
        keys = {"norm.examples": examples}
        alone[name] = keys | {"train.devices": 1}
        for style in ("jit", "pmap"):
            styles[f"{name} {style}"] = keys | {"train.parallel": style}
            spread[f"{name} {style}"] = keys | {"train.parallel": style}
    (tmp_path / "hosts").mkdir()
    one = train(tmp_path, alone | styles)
    two = train_on_two_hosts(tmp_path / "hosts", spread)
    for name in SCOPES:
        for style in ("jit", "pmap"):
            assert_equal(one[name], one[f"{name} {style}"])
            assert_equal(one[name], two[f"{name} {style}"])
    parameter = "['variables']['params']['stage1']['first']['conv1']['kernel']"
    assert not np.allclose(one["whole"][parameter], one["groups of 8"][parameter], rtol=1e-3)


@pytest.mark.slow
def test_two_hosts_that_stream_equal_one(tmp_path):
    """Each reads its own half of every batch, in training, precise statistics and evaluation."""
    for split, examples in (("train", 13), ("test", 5)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(examples):
                data = encoded(picture(2 * number + label, 20 + number, 30 - number))
                (tmp_path / split / name / f"{number}.jpg").write_bytes(data)
    keys = {
        "data.name": f"folder:{tmp_path}", "data.size": 8, "data.resize": 9, "data.contrast": 0.3,
        "data.flip": True, "train.batch_size": 12, "eval.batch_size": 4, "eval.precise_batches": 2,
    }  # fmt: skip
    (tmp_path / "hosts").mkdir()
    one = train(tmp_path, {"streamed": keys | {"train.devices": 1}})["streamed"]
    two = train_on_two_hosts(tmp_path / "hosts", {"streamed": keys}, ONE_EACH)["streamed"]
    assert any("precise" in name for name in one)
    assert_equal(one, two)


@pytest.mark.slow
def test_what_is_random_belongs_to_an_example_and_not_to_its_device_or_micro_batch(tmp_path):
    got = train(
        tmp_path,
        {
            "one": RANDOM | {"train.devices": 1},
            "eight": RANDOM,
            "four parts": RANDOM | {"train.devices": 2, "train.micro_batches": 4},
        },
    )
    assert_equal(got["one"], got["eight"])
    assert_equal(got["one"], got["four parts"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"norm.examples": 16, "norm.unbiased_running_var": True, "eval.precise_batches": 2},
        {"norm.kind": "none", "train.ema_decay": 0.9, "optim.name": "lars"},
    ],
    ids=["batch norm", "average and lars"],
)
def test_micro_batches_equal_the_whole_batch(tmp_path, keys):
    got = train(
        tmp_path,
        {
            "whole": keys | {"train.devices": 1},
            "one device": keys | {"train.devices": 1, "train.micro_batches": 4},
            "two devices": keys | {"train.devices": 2, "train.micro_batches": 2},
            "in one call": keys | {"train.micro_batches": 4, "train.devices": 2,
                                   "train.steps_per_call": 7},
        },
    )  # fmt: skip
    for name in ("one device", "two devices", "in one call"):
        assert_equal(got["whole"], got[name])


@pytest.mark.slow
@pytest.mark.parametrize("examples", [0, 8], ids=["whole", "a device"])
def test_a_step_of_resnet_50_exchanges_its_gradients_and_statistics_and_nothing_else(examples):
    """Its parameters and channels: the counts of `resjax describe resnet50`."""
    words = [sys.executable, "-m", "tests.training.collectives_worker"]
    sizes = json.loads(run([*words, json.dumps({"norm.examples": examples})], ALL))
    params, channels, metrics = 25_557_032, 26_560, 3
    # Forward a mean and a variance, backward two sums.
    within = 4 * channels if examples != 8 else 0
    expected = 4 * (params + metrics + within)
    assert set(sizes) == {"all-reduce"}
    assert sizes["all-reduce"] == pytest.approx(expected, rel=0.01)
    # What is beyond it are the running statistics, which have to agree on all devices.
    assert sizes["all-reduce"] == expected + 4 * 2 * channels


def test_what_cannot_be_cut_is_refused():
    parallel = Parallel(tuple(jax.devices()) * 3)
    with pytest.raises(ValueError, match="an axis of 8 is not a multiple of 3"):
        parallel.pieces(np.zeros((2, 8)), 1)
