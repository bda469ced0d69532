"""One step has one result, on one device, on eight by jit and by pmap, and on two hosts."""

import json

import jax
import numpy as np
import pytest

from resjax.config import default_config
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.training.parallel import Parallel
from tests.data.pictures import encoded, picture
from tests.ports import free_port

QUICK = "--xla_backend_optimization_level=0"
"""Leaves what is done on which device as it is, and takes less time to compile."""

ALL = f"--xla_force_host_platform_device_count=8 {QUICK}"
HALF = f"--xla_force_host_platform_device_count=4 {QUICK}"
ONE_EACH = f"--xla_force_host_platform_device_count=1 {QUICK}"
RANDOM = {"model.shortcut": "dropout", "model.stochastic_depth": 0.4, "norm.examples": 8}
STYLES = ("jit", "pmap")

SCOPES = {"whole": 0, "groups of 32": 32, "groups of 8": 8}


WORKER = "-m", "tests.training.parallel_worker"


def train(zygote, directory, jobs):
    environment = {"XLA_FLAGS": ALL}
    done = zygote.run(*WORKER, directory, json.dumps(jobs), environment=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    return {name: np.load(directory / f"{name}.npz") for name in jobs}


def train_on_two_hosts(zygote, directory, jobs, flags=HALF):
    directory.mkdir()
    environment = {
        "XLA_FLAGS": flags, "COORDINATOR": f"localhost:{free_port()}", "PROCESSES": "2",
    }  # fmt: skip
    processes = [
        zygote.start(
            *WORKER, directory, json.dumps(jobs), environment=environment | {"PROCESS": process}
        )
        for process in "01"
    ]
    errors = [process.communicate(timeout=600)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return {name: np.load(directory / f"{name}.npz") for name in jobs}


def assert_equal(first, second):
    """Parameters, statistics and metrics, relative to the largest of an array."""
    assert set(first) == set(second)
    for name in first:
        scale = np.abs(first[name]).max()
        np.testing.assert_allclose(second[name], first[name], 0, 1e-9 * scale, err_msg=name)


@pytest.fixture(scope="module")
def one_host(zygote, tmp_path_factory):
    """Every scope of batch normalisation: on one device, and on eight in both styles."""
    jobs = {}
    for name, examples in SCOPES.items():
        keys = {"norm.examples": examples, "eval.precise_batches": 3 if examples == 32 else 0}
        jobs[name] = keys | {"train.devices": 1}
        jobs |= {f"{name} {style}": keys | {"train.parallel": style} for style in STYLES}
    return train(zygote, tmp_path_factory.mktemp("one"), jobs)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SCOPES)
def test_eight_devices_equal_one_for_every_scope_of_batch_norm(one_host, name, style):
    assert any("precise" in key for key in one_host[name]) == (SCOPES[name] == 32)
    assert_equal(one_host[name], one_host[f"{name} {style}"])


@pytest.mark.slow
def test_scopes_of_batch_norm_are_told_apart(one_host):
    parameter = "['variables']['params']['stage1']['first']['conv1']['kernel']"
    whole, groups = (one_host[name][parameter] for name in ("whole", "groups of 8"))
    assert not np.allclose(whole, groups, rtol=1e-3)


@pytest.mark.slow
def test_two_hosts_equal_one_device_for_every_scope_of_batch_norm(zygote, one_host, tmp_path):
    jobs = {
        f"{name} {style}": {"norm.examples": examples, "train.parallel": style}
        for name, examples in SCOPES.items() for style in STYLES
    }  # fmt: skip
    two = train_on_two_hosts(zygote, tmp_path / "hosts", jobs)
    for name in SCOPES:
        alone = {key: one_host[name][key] for key in two[f"{name} jit"]}
        for style in STYLES:
            assert_equal(alone, two[f"{name} {style}"])


@pytest.mark.slow
def test_two_hosts_that_stream_equal_one(zygote, tmp_path):
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
        "data.mixup": 0.4, "data.cutmix": 1.0,
    }  # fmt: skip
    one = train(zygote, tmp_path, {"streamed": keys | {"train.devices": 1}})["streamed"]
    two = train_on_two_hosts(zygote, tmp_path / "hosts", {"streamed": keys}, ONE_EACH)
    two = two["streamed"]
    assert any("precise" in name for name in one)
    assert_equal(one, two)


@pytest.mark.slow
def test_what_is_random_belongs_to_an_example_and_not_to_its_device_or_micro_batch(
    zygote, tmp_path
):
    got = train(
        zygote,
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
def test_mixed_images_and_clipped_gradients_are_those_of_the_whole_batch(zygote, tmp_path):
    """The partner of an image is on any device; the norm is that of the mean gradient of all."""
    keys = {
        "data.mixup": 0.4, "data.cutmix": 1.0, "data.flip": True, "norm.examples": 8,
        "optim.nesterov": True, "optim.clip_norm": 0.2, "train.steps_per_call": 4,
    }  # fmt: skip
    jobs = {
        "one": keys | {"train.devices": 1},
        "unclipped": keys | {"train.devices": 1, "optim.clip_norm": 0.0},
        "unmixed": keys | {"train.devices": 1, "data.mixup": 0.0, "data.cutmix": 0.0},
        "parts": keys | {"train.devices": 2, "train.micro_batches": 4},
    }
    got = train(
        zygote, tmp_path, jobs | {style: keys | {"train.parallel": style} for style in STYLES}
    )
    for name in ("parts", *STYLES):
        assert_equal(got["one"], got[name])
    kernel = "['variables']['params']['head']['kernel']"
    for name in ("unclipped", "unmixed"):
        assert not np.allclose(got["one"][kernel], got[name][kernel], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {"norm.examples": 16, "norm.unbiased_running_var": True, "eval.precise_batches": 2},
        {"norm.kind": "none", "train.ema_decay": 0.9, "optim.name": "lars"},
    ],
    ids=["batch norm", "average and lars"],
)
def test_micro_batches_equal_the_whole_batch(zygote, tmp_path, keys):
    got = train(
        zygote,
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


def exchanged(zygote, keys):
    """Bytes by operation, in a training step on eight devices."""
    done = zygote.run(
        "-m", "tests.training.collectives_worker", json.dumps(keys),
        environment={"XLA_FLAGS": ALL}, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def expected(params, channels, within):
    """Gradients and metrics; of every norm `within` a step mean, variance and two sums back."""
    metrics = 3
    # What is beyond them are the running statistics, which have to agree on all devices.
    return {"all-reduce": 4 * (params + metrics + (4 * within + 2) * channels)}


@pytest.mark.slow
def test_a_step_of_resnet_50_exchanges_its_gradients_and_statistics_and_nothing_else(zygote):
    """Its parameters and channels: the counts of `resjax describe resnet50`."""
    keys = {"model.name": "imagenet", "model.depth": 50, "data.name": "fake:32x32x3:1000:64"}
    assert exchanged(zygote, keys) == expected(25_557_032, 26_560, within=True)


@pytest.mark.slow
def test_statistics_of_a_device_are_exchanged_once_a_step_and_those_of_a_batch_within(zygote):
    """In a bottleneck network of three blocks."""
    config = default_config()
    keys = {"model.name": "cifar", "model.depth": 11, "model.block": "bottleneck"}
    config.update_from_flattened_dict(keys | {"model.shortcut": "projection"})
    shapes = variable_shapes(build_model(config, 1000), (32, 32, 3))
    count = {name: sum(leaf.size for leaf in jax.tree.leaves(shapes[name])) for name in shapes}
    keys["data.name"] = "fake:32x32x3:1000:64"
    for examples in (0, 8):
        assert exchanged(zygote, keys | {"norm.examples": examples}) == expected(
            count["params"], count["batch_stats"] // 2, within=examples == 0
        )


def test_what_cannot_be_cut_is_refused():
    parallel = Parallel(tuple(jax.devices()) * 3)
    with pytest.raises(ValueError, match="an axis of 8 is not a multiple of 3"):
        parallel.shard(np.zeros((2, 8)), 1)


@pytest.mark.slow
def test_a_step_that_users_split_over_devices_themselves_equals_that_of_one_device(zygote):
    """In `shard_map`, whether JAX keeps account of what varies or not, and over meshes."""
    words = "-m", "tests.training.split_by_hand"
    done = zygote.run(*words, environment={"XLA_FLAGS": ALL}, timeout=600)
    assert done.returncode == 0, done.stderr
    away = json.loads(done.stdout)
    assert len(away) >= 8
    assert max(away.values()) < 1e-10, away
