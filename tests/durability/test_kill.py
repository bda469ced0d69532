"""A run killed at any moment, however often, ends with the bits of one that was not.

Here at moments that were chosen; `python -m tests.benchmarks.kills` kills at random ones.
"""

import signal

import numpy as np
import pytest
from PIL import Image

from resjax.runs import checkpoint, disk, rundir
from tests.data.pictures import picture
from tests.durability.attempts import Attempts

STEPS = 45

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
        restored = reader.restore(path.absolute() / "state")
    leaves, _ = jax.tree_util.tree_flatten_with_path(restored)
    return facts, {jax.tree_util.keystr(key): np.asarray(leaf) for key, leaf in leaves}


def assert_same_end(run, expected):
    facts, state = arrays(run)
    expected_facts, expected_state = arrays(expected)
    assert state.keys() == expected_state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(array, expected_state[name], name)
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    results = [disk.read_json(path / "result.json") for path in (run, expected)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
    assert (facts.lines, facts.best) == (expected_facts.lines, expected_facts.best)


KILLS = [
    {"send": (signal.SIGKILL, "compiling", 0, 0.0)},
    {"die": ("a state is being written", 4)},
    {"die": ("a state is written and not sealed", 4)},
    {"die": ("a seal is written and not in its place", 4)},
    {"send": (signal.SIGKILL, "evaluating", 0, 0.0)},
    {"die": ("a line is half written", 1)},
    {"die": ("a checkpoint is half removed", 4)},
    {"send": (signal.SIGKILL, "training", 0, 0.0)},
    {"die": ("a seal is in its place", 4)},
    {"die": ("a result is written and not in its place", 1)},
]


def killed(attempt, keys, run, kill, **options):
    """Kills a run, which must not have ended before."""
    status, told = attempt(keys, run, **options, **kill)
    assert status == -9, (kill, told[-1])


def begun(run):
    """The steps at which a run was begun."""
    lines = disk.read_lines(run / "timing.jsonl")
    return [line["step"] for line in lines if line["event"] == "begun"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize(
    ("feed", "environment", "kills"),
    [(resident, {}, KILLS), (streaming, TWO_DEVICES, KILLS[2:5])],
    ids=["resident", "stream"],
)
def test_a_run_killed_at_every_instant_ends_with_the_same_bits(
    zygote, tmp_path, feed, environment, kills
):
    keys = feed(tmp_path) | {"train.duration": f"{STEPS} steps", "eval.every": "15 steps"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    attempt = Attempts(zygote, environment)
    assert attempt(keys, whole, tell_every=0.25)[0] == 0
    keys["checkpoint.seconds"] = 0.0  # so that most of the time one is being written
    for kill in kills:
        killed(attempt, keys, cut, kill)
    assert attempt(keys, cut)[0] == 0
    assert_same_end(cut, whole)
    steps = begun(cut)
    assert steps == sorted(steps)
    assert len(set(steps)) > len(kills) / 2  # it went on, and did not start anew


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_group_killed_between_its_runs_ends_with_the_same_bits(zygote, tmp_path):
    """Three seeds side by side, also where some have ended and others have not."""
    keys = resident(tmp_path) | {"train.duration": "20 steps", "eval.every": "10 steps"}
    keys["train.side_by_side"] = 3
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    attempt = Attempts(zygote)
    assert attempt(keys, whole, seeds=SEEDS, tell_every=0.25)[0] == 0
    keys |= {"checkpoint.seconds": 0.0, "checkpoint.keep": 1}
    for kill in (
        {"die": ("a state is written and not sealed", 8)},  # two are left behind by the third
        {"die": ("a line is half written", 2)},
        {"send": (signal.SIGKILL, "evaluating", 0, 0.0)},
        {"die": ("a result is written and not in its place", 2)},
    ):
        killed(attempt, keys, cut, kill, seeds=SEEDS)
    states = [rundir.run_state(cut / str(seed)) for seed in SEEDS]
    assert sorted(states) == [rundir.DONE, rundir.UNFINISHED, rundir.UNFINISHED]
    status, told = attempt(keys, cut, seeds=SEEDS)
    assert status == 0, told[-1]
    for seed in SEEDS:
        assert_same_end(cut / str(seed), whole / str(seed))
        manifest = disk.read_json(cut / str(seed) / "manifest.json")
        assert manifest["execution"]["side_by_side"] == SEEDS
