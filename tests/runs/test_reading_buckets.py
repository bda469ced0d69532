"""A run in a bucket: its weights and checkpoints are those of its directory."""

import json

import numpy as np
import pytest
from jax.tree_util import tree_leaves

from resjax import load_weights
from resjax.cli.main import main
from resjax.config import default_config
from resjax.runs.loop import train_and_evaluate
from resjax.runs.plans import Plans
from tests.buckets.fixtures import made_ready, uploaded

pytestmark = [pytest.mark.usefixtures("copies"), pytest.mark.slow]


def tiny_config():
    config = default_config()
    config.update_from_flattened_dict({
        "model.depth": 8, "model.width": 2, "train.batch_size": 100, "train.duration": "4 steps",
        "eval.every": "2 steps", "checkpoint.seconds": 0.0,
    })  # fmt: skip
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "run"
    train_and_evaluate(tiny_config(), directory)
    return directory


@pytest.fixture
def store(run, s3, fresh, monkeypatch):
    return uploaded(run, made_ready(s3, monkeypatch).address(f"{fresh}/run"))


def asked_for(store, command, faults):
    """The names of the objects that a command reads."""
    faults.seen.clear()
    command()
    start = f"/lab/{store.address.path}/"
    return {path.removeprefix(start) for method, path in faults.seen if path.startswith(start)}


def test_weights_are_those_of_the_run_and_nothing_else_is_fetched(run, store, s3, capsys, tmp_path):
    read = {}

    def load():
        read.update(load_weights(str(store.address)).variables)

    assert asked_for(store, load, s3.faults) == {"config.json", "weights.safetensors"}
    for ours, theirs in zip(
        tree_leaves(read), tree_leaves(load_weights(run).variables), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    file = store.address / "weights.safetensors"
    for number, source in enumerate((run, store.address, file)):
        assert main(["export", str(source), f"--out={tmp_path / str(number)}.stablehlo"]) == 0
    one, two, three = (path.read_bytes() for path in sorted(tmp_path.glob("*.stablehlo")))
    assert one == two == three
    capsys.readouterr()
    scores = []
    for source in (run, store.address, file):
        assert main(["evaluate", str(source), "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0] == scores[1] == scores[2]


def test_a_run_starts_from_weights_in_a_bucket_as_from_a_directory(run, store):
    read = []
    for place in (run, store.address):
        config = tiny_config()
        config.train.init_from = str(place)
        start = Plans().of(config).start
        assert start.name == str(place)
        variables = start.variables(None, None, None, None)
        read.append(tree_leaves(variables))
    for ours, theirs in zip(*read, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_checkpoint_is_probed_and_what_is_found_is_put_beside_it(run, store, s3, capsys):
    words = ["--probe=paths", "--examples=8"]
    assert main(["probe", str(run), *words]) == 0
    here = capsys.readouterr().out.replace(str(run), str(store.address))
    asked = asked_for(store, lambda: main(["probe", str(store.address), *words]), s3.faults)
    assert capsys.readouterr().out == here
    steps = {
        name.split("/")[1] for name in asked if name.startswith("checkpoints") and "state" in name
    }
    assert len(steps) == 1
    names = {path.relative_to(run).as_posix() for path in (run / "probes").rglob("*.*")}
    assert {entry.name.rpartition(".")[2] for entry in store.list("probes")} >= {"json", "png"}
    assert len(store.list("probes")) == len(names)
    assert main(["probe", str(store.address), "--checkpoint=3"]) == 2
    said = capsys.readouterr().err
    assert (
        f"{store.address} has no checkpoint of step 3; choose one of: 0 (before training), " in said
    )
