"""A run killed at any moment, however often, ends with the bits of one that was not."""

import random
import signal

import numpy as np
import pytest
from PIL import Image

from resjax.training import checkpoint, rundir
from tests.data.pictures import picture
from tests.durability.attempts import Zygote, sender

KILLS, STEPS = 13, 280

SEEDS = [0, 5, 2]

TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


def resident(tmp_path):
    """Whole-batch BatchNorm under jit, augmented, with all that a state can hold."""
    return {
        "data.pad": 1, "data.flip": True, "train.ema_decay": 0.9, "model.stochastic_depth": 0.2,
        "eval.select": "best", "data.train": "train[:90%]", "data.validation": "train[90%:]",
    }  # fmt: skip


def streaming(tmp_path):
    """Grouped BatchNorm under pmap, from JPEG files."""
    for split, examples in (("train", 150), ("test", 20)):
        for number in range(examples):
            path = tmp_path / "pictures" / split / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(number, 20, 24)).save(path)
    return {
        "data.name": f"folder:{tmp_path / 'pictures'}", "data.size": 16, "data.resize": 18,
        "data.flip": True, "data.standardise": "none", "train.batch_size": 24,
        "norm.examples": 6, "train.parallel": "pmap", "eval.batch_size": 60,
    }  # fmt: skip


def arrays(run):
    """The training state of the newest checkpoint, {path of a leaf: array}."""
    import jax
    import orbax.checkpoint

    path, facts, complaints = checkpoint.newest(run)
    assert complaints == []
    with orbax.checkpoint.PyTreeCheckpointer() as reader:
        restored = reader.restore(path.absolute() / checkpoint.STATE)
    leaves, _ = jax.tree_util.tree_flatten_with_path(restored)
    return facts, {jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in leaves}


def assert_same_end(run, expected):
    facts, state = arrays(run)
    expected_facts, expected_state = arrays(expected)
    assert state.keys() == expected_state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(array, expected_state[name], name)
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    results = [rundir.read_json(path / "result.json") for path in (run, expected)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
    assert (facts.lines, facts.best) == (expected_facts.lines, expected_facts.best)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize(
    ("feed", "environment"), [(resident, {}), (streaming, TWO_DEVICES)], ids=["resident", "stream"]
)
def test_a_run_killed_13_times_ends_with_the_same_bits(tmp_path, feed, environment):
    keys = feed(tmp_path) | {"train.duration": f"{STEPS} steps", "eval.every": "40 steps"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    chance = random.Random(7)
    with Zygote(environment) as zygote:
        assert zygote.attempt(keys, whole, tell_every=0.25)[0] == 0
        keys["checkpoint.seconds"] = 0.02  # so that most of the time one is being written
        reached, statuses = 0, []
        while len(statuses) < KILLS:
            phase = chance.choice(["training"] * 8 + ["compiling", "evaluating"])
            step = reached + chance.randrange(30) if phase == "training" else 0
            act = sender(signal.SIGKILL, phase, step, chance.random() * 0.3)
            status, told = zygote.attempt(keys, killed, act)
            statuses.append(status)
            reached = max((fact.get("step", 0) for fact in told), default=0)
        assert statuses == [-9] * KILLS
        assert zygote.attempt(keys, killed)[0] == 0
    assert_same_end(killed, whole)
    begun = [line["step"] for line in rundir.read_lines(killed / "timing.jsonl")
             if line["event"] == "begun"]  # fmt: skip
    assert begun == sorted(begun)
    assert begun[-1] > STEPS / 3  # it went on, and did not start anew


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_group_killed_5_times_ends_with_the_same_bits(tmp_path):
    """Three seeds side by side, also where some have ended and others have not."""
    keys = resident(tmp_path) | {"train.duration": "120 steps", "eval.every": "40 steps"}
    keys["train.side_by_side"] = 3
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    chance = random.Random(3)
    with Zygote() as zygote:
        assert zygote.attempt(keys, whole, seeds=SEEDS, tell_every=0.25)[0] == 0
        keys |= {"checkpoint.seconds": 0.02, "checkpoint.keep": 1}
        reached, statuses = 0, []
        while len(statuses) < 5:
            phase = chance.choice(["training"] * 8 + ["compiling", "evaluating"])
            step = reached + chance.randrange(16) if phase == "training" else 0
            act = sender(signal.SIGKILL, phase, min(step, 119), chance.random() * 0.3)
            status, told = zygote.attempt(keys, killed, act, seeds=SEEDS)
            statuses.append(status)
            reached = max((fact.get("step", 0) for fact in told), default=0)
        status, told = zygote.attempt(keys, killed, seeds=SEEDS)
        assert status == 0, told[-1]
    assert -9 in statuses
    for seed in SEEDS:
        assert_same_end(killed / str(seed), whole / str(seed))
        manifest = rundir.read_json(killed / str(seed) / "manifest.json")
        assert manifest["execution"]["side_by_side"] == SEEDS
