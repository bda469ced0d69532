"""Parameters that are a single number keep their shape on the way through a file."""

import numpy as np
import pytest

import resjax
from resjax.cli.main import main
from resjax.interop.exporting import export
from resjax.interop.stablehlo import load_stablehlo
from resjax.runs import doctor, weights
from resjax.runs.loop import train_and_evaluate
from resjax.runs.matching import broken
from resjax.runs.weights import paths, read_header, read_weights, write_weights

FIRST, REST = (f"params/stage1/{blocks}/residual_scale" for blocks in ("first", "rest"))


@pytest.fixture(scope="module")
def config():
    """Identity-14, whose blocks each learn a number; a stage has one block after its first."""
    config = resjax.default_config()
    config.model.update({"depth": 14, "width": 2, "learn_residual_scale": True})
    config.train.update({"batch_size": 100, "duration": "2 steps"})
    config.log.writers = ()
    return config


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    directory = tmp_path_factory.mktemp("scalars") / "run"
    train_and_evaluate(config, directory)
    return directory


@pytest.fixture(params=["as now", "as before"])
def file(request, run, tmp_path, monkeypatch):
    """The weights of the run, also as early versions wrote them: a number with the shape [1]."""
    if request.param == "as now":
        return run / "weights.safetensors"
    monkeypatch.setattr(weights, "_array", np.ascontiguousarray)
    write_weights(tmp_path / "weights.safetensors", read_weights(run))
    assert weights.read_tensors(tmp_path / "weights.safetensors")[FIRST].shape == (1,)
    return tmp_path / "weights.safetensors"


def test_a_number_is_read_as_a_number_and_that_of_one_block_as_an_axis_of_blocks(file):
    found, shapes = paths(read_weights(file).variables), read_header(file).shapes
    assert (found[FIRST].shape, found[REST].shape) == ((), (1,))
    assert shapes == {name: leaf.shape for name, leaf in found.items()}


def test_a_file_has_the_shapes_of_the_network(run):
    assert weights.read_tensors(run / "weights.safetensors")[FIRST].shape == ()


def test_a_network_with_a_number_is_evaluated_and_exported(file, tmp_path, capsys):
    assert main(["evaluate", str(file)]) == 0
    assert "360 images" in capsys.readouterr().out
    network = read_weights(file)
    export(network, tmp_path / "network.stablehlo")
    images = np.random.default_rng(0).uniform(0, 16, (3, 8, 8, 1)).astype(np.float32)
    model = resjax.build_model(network.about.config, 10)
    standardised = (images - network.mean) / network.deviation
    expected = model.apply(network.variables, standardised, train=False)
    logits = load_stablehlo(tmp_path / "network.stablehlo")(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_run_starts_from_a_network_with_a_number(file, config, tmp_path):
    later = config.copy_and_resolve_references()
    later.train.init_from, later.optim.learning_rate = str(file), 1e-12
    train_and_evaluate(later, tmp_path / "later")
    before, after = (paths(read_weights(each).variables) for each in (file, tmp_path / "later"))
    for path in before:
        if path.startswith("params"):
            np.testing.assert_allclose(after[path], before[path], atol=1e-9, err_msg=path)


def test_a_doctor_finds_nothing_wrong_with_a_number(run):
    assert doctor.examine(run).advice == ""


def test_a_number_that_is_lost_has_no_place():
    lost = np.array(np.nan, np.float32)
    assert broken("scale", lost, variance=False).endswith("not finite, the first nan")
