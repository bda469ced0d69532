"""Weights that are no numbers are refused by the tensor that has them, and never hidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError, default_config
from resjax.interop.importing import import_weights
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.runs.disk import write_json
from resjax.runs.rundir import begin_run
from resjax.runs.weights import About, Weights, paths, unflatten, write_weights
from tests.interop.peers import ForCifar, randomised, torch

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def state():
    return randomised(ForCifar(1)).state_dict()


def spoilt(state, name, value, dtype=torch.float32):
    tensor = state[name].to(dtype).clone()
    tensor.view(-1)[0] = value
    return state | {name: tensor}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer2.0.bn1.running_var", float("nan"), "32 values that are not finite, the first nan"),
        ("layer2.0.bn1.running_var", -0.5, "32 values that are no variances, the first -0.5 at 0"),
        ("layer3.0.conv2.weight", float("inf"), "not finite, the first inf at 0, 0, 0, 0"),
        ("linear.bias", float("-inf"), "10 values that are not finite, the first -inf at 0"),
    ],
)
def test_a_tensor_with_no_numbers_is_named(name, value, message, suffix, state, tmp_path):
    path = tmp_path / f"net{suffix}"
    write = safetensors.save_file if suffix == ".safetensors" else torch.save
    write(spoilt(state, name, value), path)
    with pytest.raises(ConfigError, match=f"{name}' has 1 of .*{message}") as error:
        import_weights(path)
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("error")
def test_values_beyond_float32_are_refused(state, tmp_path):
    torch.save(spoilt(state, "conv1.weight", 1e300, torch.float64), tmp_path / "net.pth")
    with pytest.raises(
        ConfigError, match=r"as float32 'conv1.weight' has 1 of 432 values that are"
    ):
        import_weights(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (lambda: torch.ones(10).to_sparse(), "sparse"),
        (lambda: torch.ones(10, device="meta"), "meta, without values"),
        (lambda: torch.ones(10).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (lambda: torch.ones(10, dtype=torch.complex64), "complex64"),
    ],
)
def test_tensors_of_other_kinds_are_refused_by_name(tensor, kind, state, tmp_path):
    torch.save(state | {"linear.bias": tensor()}, tmp_path / "net.pth")
    with pytest.raises(ConfigError, match=f"'linear.bias' is {kind}; resjax reads float32"):
        import_weights(tmp_path / "net.pth")


@pytest.fixture
def run(tmp_path):
    """`run(path, value)`: the directory of a run, imported, in whose weights one value is that."""

    def write(path, value):
        config = default_config()
        config.model.update({"depth": 8, "width": 2})
        shapes = paths(variable_shapes(build_model(config, 10), (8, 8, 1)))
        leaves = {name: np.ones(leaf.shape, np.float32) for name, leaf in shapes.items()}
        leaves[path].reshape(-1)[0] = value
        about = About(config, tuple("0123456789"), (8, 8, 1))
        directory = tmp_path / "runs" / "spoilt"
        directory.mkdir(parents=True)
        write_json(directory / "imported.json", {})
        one = np.ones(1, np.float32)
        write_weights(
            directory / "weights.safetensors", Weights(about, unflatten(leaves), one, one)
        )
        begin_run(directory, config)
        return directory

    return write


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("batch_stats/stage2/first/norm1/var", -1.0, "that are no variances, the first -1.0 at 0"),
        ("params/head/kernel", float("nan"), "that are not finite, the first nan at 0, 0"),
    ],
)
def test_runs_are_refused_likewise_and_the_doctor_says_it(path, value, message, run, capsys):
    directory = run(path, value)
    said, image = f"'{path}' has 1 of", directory / "config.json"  # which is there, that is all
    for words in (["evaluate", str(directory)], ["predict", str(directory), str(image)]):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert said in err
        assert message in err
    assert main(["doctor", str(directory.parent)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert said in out
    assert "lower optim.learning_rate" in out


def test_what_is_no_number_is_not_pooled_to_numbers():
    """XLA sums relu of it as zeros on CPUs, in one loop with the maximum."""
    config = default_config()
    config.model.update({"depth": 8, "width": 64, "conv": "xla"})
    model = build_model(config, 10)
    shapes = paths(variable_shapes(model, (8, 8, 3)))
    random = np.random.default_rng(0)
    leaves = {
        name: random.normal(size=leaf.shape).astype(np.float32) * 0.1 + name.endswith("var")
        for name, leaf in shapes.items()
    }
    leaves = {name: abs(leaf) if name.endswith("var") else leaf for name, leaf in leaves.items()}
    leaves["batch_stats/stage2/first/norm1/var"][0] = np.nan
    images = random.normal(size=(4, 8, 8, 3)).astype(np.float32)
    logits = jax.jit(lambda v, x: model.apply(v, x, train=False))(unflatten(leaves), images)
    assert jnp.isnan(logits).all()
