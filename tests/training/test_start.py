"""Runs that start from the weights of others, with a new head or grown."""

import dataclasses
import json
import random
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from resjax.config import ConfigError
from resjax.runs.loop import train_and_evaluate
from resjax.runs.plans import Plans
from resjax.runs.probing import probe_run
from resjax.runs.weights import paths, read_header, read_weights

ROUNDED = 1e-4
"""Relative, of a loss in float32; the weights that a run leaves have no more precision.

Each of up to 14 layers sums up to 9 * 8 products: 10 * 14 sqrt(9 * 8) 6e-8 = 7e-5.
"""


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Identity-8 of width 2, trained for 20 steps; its config and its directory."""
    from resjax.config import default_config

    config = default_config()
    config.model.update({"depth": 8, "width": 2})
    config.optim.learning_rate = 0.05
    config.train.update({"batch_size": 100, "duration": "20 steps"})
    config.eval.every = "20 steps"
    directory = tmp_path_factory.mktemp("start") / "first"
    return config, directory, train_and_evaluate(config, directory)


@pytest.fixture
def later(trained):
    """The config of a run that starts from it, for 10 steps."""
    config = trained[0].copy_and_resolve_references()
    config.train.init_from, config.train.duration = str(trained[1]), "10 steps"
    return config


@pytest.mark.slow
def test_a_run_leaves_the_weights_of_its_last_evaluation(trained):
    config, directory, _ = trained
    weights, header = read_weights(directory), read_header(directory)
    assert header.shapes == {path: leaf.shape for path, leaf in paths(weights.variables).items()}
    assert weights.about.config.to_json() == config.to_json()
    assert weights.about.class_names == tuple("0123456789")
    assert weights.about.image_shape == (8, 8, 1)
    assert weights.about.batches == 20
    from resjax.data.digits import digits

    pixels = digits().train.images
    np.testing.assert_allclose(weights.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(weights.deviation, pixels.std((0, 1, 2)), rtol=1e-6)


@pytest.mark.slow
def test_a_run_starts_where_the_other_ended(trained, later, tmp_path):
    summary = trained[2]
    after = train_and_evaluate(later, tmp_path / "second")
    first = lines(tmp_path / "second")[0]
    assert first["step"] == 0
    assert first["train_error"] == summary.train_error
    assert first["train_loss"] == pytest.approx(summary.train_loss, rel=ROUNDED)
    assert after.train_loss < summary.train_loss


def test_the_same_start_gives_the_same_bits(later, tmp_path):
    one, two = (train_and_evaluate(later, tmp_path / name) for name in ("one", "two"))
    assert one.train_loss == two.train_loss


@pytest.mark.slow
def test_a_run_is_probed_without_the_weights_that_it_started_from(trained, later, tmp_path):
    later.train.init_from = str(shutil.copytree(trained[1], tmp_path / "first"))
    train_and_evaluate(later, tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    assert probe_run(tmp_path / "second", ["branches"]).step == 10
    with pytest.raises(ConfigError, match=r"starts from the weights of .*first; probe that run"):
        probe_run(tmp_path / "second", ["branches"], step=0)


@pytest.mark.slow
def test_other_classes_get_a_new_head_and_nothing_else(trained, later, tmp_path):
    later.data.name = "fake:8x8x1:5:500"
    plan = Plans().of(later)
    assert plan.start.classes == 10
    train_and_evaluate(later, tmp_path / "second")
    later.train.init_from, before = "", read_weights(trained[1]).variables
    from jax import random

    from resjax.models.trace import initial_variables

    drawn = initial_variables(plan.model, random.key(0), plan.image_shape)
    variables = plan.start.variables(drawn, plan.model, random.key(0), None)
    for path, leaf in paths(variables).items():
        expected = paths(drawn if "head" in path else before)[path]
        assert np.array_equal(leaf, expected), path


@pytest.mark.slow
def test_a_run_with_frozen_statistics_ends_with_those_that_it_starts_from(trained, later, tmp_path):
    later.norm.frozen, later.train.micro_batches = True, 5  # whose sum is rounded
    train_and_evaluate(later, tmp_path / "second")
    before, after = (
        paths(read_weights(each).variables) for each in (trained[1], tmp_path / "second")
    )
    for path, leaf in after.items():
        assert np.array_equal(leaf, before[path]) == path.startswith("batch_stats"), path


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train.init_from": ""}, r"a run starts from; name them by train\.init_from"),
        ({"train.grow_from": 8, "model.depth": 14}, "new blocks have none; grow a run with"),
        ({"eval.statistics": "precise", "eval.precise_batches": 2}, "measures others; use running"),
        ({"norm.examples": 10}, r"leave out norm\.examples=10"),
        ({"norm.kind": "group"}, r"which norm\.kind=group has not; use norm\.kind=batch"),
    ],
    ids=str,
)
def test_frozen_statistics_that_would_move_are_refused(keys, message, later):
    later.norm.frozen = True
    later.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        Plans().of(later)


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["identity", "none"])
def test_a_grown_run_starts_with_the_errors_of_the_shallow_one(shortcut, trained, later, tmp_path):
    directory = trained[1]
    if shortcut == "none":
        shallow = trained[0].copy_and_resolve_references()
        shallow.model.shortcut, directory = "none", tmp_path / "plain"
        train_and_evaluate(shallow, directory)
    ended = lines(directory)[-1]
    later.train.init_from, later.model.shortcut = str(directory), shortcut
    later.model.depth = 14
    later.train.grow_from, later.train.grow_at = 8, "0 steps"
    train_and_evaluate(later, tmp_path / "deep")
    begun = lines(tmp_path / "deep")[0]
    for split in ("train", "test"):
        assert begun[f"{split}_error"] == ended[f"{split}_error"]
        assert begun[f"{split}_loss"] == pytest.approx(ended[f"{split}_loss"], rel=ROUNDED)


@pytest.mark.slow
def test_a_run_can_start_from_another_and_grow_later(later, tmp_path):
    later.model.depth, later.train.grow_from, later.train.grow_at = 14, 8, "50%"
    train_and_evaluate(later, tmp_path / "deep")
    begun, grown, _ = lines(tmp_path / "deep")
    assert (begun["step"], grown["step"]) == (0, 5)
    assert grown["grown_train_error"] == grown["train_error"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"model.width": 4},
            r"'params/stem/conv1/kernel' is 3x3x1x2 there, 3x3x1x4 here, .* more;",
        ),
        ({"model.depth": 14}, "lacks 'params/stage1/rest/.*; it is cifar-8 with identity: set "),
        (
            {"model.shortcut": "projection"},
            "lacks 'params/stage2/first/shortcut/norm/bias'",
        ),
        ({"model.activation": "gelu"}, "model.activation is 'relu' there, 'gelu' here"),
        ({"model.identity_pad": "both"}, r"identity_pad=end\)' there, 'Identity\(identity_pad=bo"),
        ({"norm.epsilon": 1e-3}, "norm.epsilon is '1e-05' there, '0.001' here"),
        ({"norm.kind": "none"}, "lacks 'params/stem/conv1/bias'"),
        ({"train.init_from": "absent"}, "absent does not exist; name a run, or a file of weights"),
        ({"data.channels": 3}, "sees 1 channels, and the images have 3; set data.channels=1"),
        ({"train.init_from": "."}, r"no run in \.; name the directory of a run"),
        ({"train.grow_from": 8, "model.depth": 14, "train.grow_at": "100%"}, "is step 10 of 10"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else None,
)
def test_weights_of_another_network_are_refused_before_anything(keys, message, later, tmp_path):
    later.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(later, tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("place", [0.1, 0.5, 0.999])
def test_damaged_weights_are_refused(place, trained, tmp_path):
    """One flipped bit, wherever it is."""
    data = bytearray((trained[1] / "weights.safetensors").read_bytes())
    data[int(place * len(data))] ^= 4
    (tmp_path / "weights.safetensors").write_bytes(data)
    with pytest.raises(ConfigError):
        read_weights(tmp_path)


@pytest.mark.slow
def test_a_flipped_bit_of_the_header_is_refused_or_without_effect(trained, tmp_path):
    """Not one makes another network of it, other settings or other names of classes."""
    data, chance = (trained[1] / "weights.safetensors").read_bytes(), random.Random(1)
    header = 8 + int.from_bytes(data[:8], "little")
    whole, refused = read_weights(trained[1]), 0
    for _ in range(600):
        place, changed = chance.randrange(header), bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        (tmp_path / "weights.safetensors").write_bytes(changed)
        try:
            found = read_weights(tmp_path)
        except ConfigError:
            refused += 1
            continue
        about = dataclasses.replace(found.about, config=None)
        assert about == dataclasses.replace(whole.about, config=None)
        assert found.about.config.to_json() == whole.about.config.to_json()
        for name, leaf in paths(whole.variables).items():
            np.testing.assert_array_equal(paths(found.variables)[name], leaf)
    assert refused > 500


def test_weights_of_earlier_versions_are_read(trained, tmp_path):
    """They had a digest of the tensors alone, among what is said or beside it."""
    with safe_open(trained[1] / "weights.safetensors", "numpy") as file:
        said = json.loads(file.metadata()["resjax"])
    tensors = load_file(trained[1] / "weights.safetensors")
    digest = {"sha256": said.pop("tensors_sha256")}
    for metadata in (
        {"resjax": json.dumps(said | digest)},
        {"resjax": json.dumps({name: said[name] for name in said if name != "sha256"})} | digest,
    ):
        save_file(tensors, tmp_path / "weights.safetensors", metadata)
        assert read_weights(tmp_path).about.class_names == tuple("0123456789")
        changed = tensors | {"params/head/bias": tensors["params/head/bias"] + 1}
        save_file(changed, tmp_path / "weights.safetensors", metadata)
        with pytest.raises(ConfigError, match="do not have the SHA-256 that it states"):
            read_weights(tmp_path)


def test_weights_that_are_cut_off_are_refused(trained, tmp_path):
    data = (trained[1] / "weights.safetensors").read_bytes()
    for left in (0, 7, 500, len(data) - 1):
        (tmp_path / "weights.safetensors").write_bytes(data[:left])
        with pytest.raises(ConfigError, match="is not a whole safetensors file"):
            read_header(tmp_path)
