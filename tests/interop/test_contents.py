"""Weights are found by what a file holds, whatever it is called and wherever in it they are."""

import argparse
import datetime
import json
import pathlib
import types
import warnings

import jax
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.interop.importing import import_weights
from resjax.models.build import build_model
from resjax.models.features import features
from resjax.runs.weights import read_weights
from tests.buckets.fixtures import uploaded
from tests.interop.peers import ForCifar, randomised, torch

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def net():
    """ResNet-8 for CIFAR."""
    return randomised(ForCifar(1))


@pytest.fixture(scope="module")
def state(net):
    return net.state_dict()


@pytest.fixture(scope="module")
def average():
    """As the state, with other numbers."""
    return randomised(ForCifar(1), seed=1).state_dict()


@pytest.fixture
def imported(tmp_path):
    """`imported(content, name="net.pth")`: what is read of a file with it."""

    def read(content, name="net.pth", choice="", **options):
        torch.save(content, tmp_path / name, **options)
        return import_weights(tmp_path / name, choice=choice)

    return read


def assert_same(imported, state):
    kernel = imported.weights.variables["params"]["stem"]["conv1"]["kernel"]
    assert np.array_equal(kernel, state["conv1.weight"].permute(2, 3, 1, 0).numpy())
    head = imported.weights.variables["params"]["head"]
    assert np.array_equal(head["kernel"], state["linear.weight"].numpy().T)
    assert np.array_equal(head["bias"], state["linear.bias"].numpy())
    assert imported.weights.about.batches == 12345


def wrapped(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "name", ["net.pth.tar", "net.ckpt", "net.PTH", "net", "net.safetensors", "net.t7"]
)
def test_a_checkpoint_is_one_whatever_its_suffix(name, zipped, state, imported):
    assert_same(imported(state, name, _use_new_zipfile_serialization=zipped), state)


def test_safetensors_are_known_by_their_header(state, tmp_path):
    for name in ("net.bin", "net.ckpt", "net", "net.SAFETENSORS"):
        safetensors.save_file(state, tmp_path / name)
        assert_same(import_weights(tmp_path / name), state)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "_orig_mod.module.model.a."],
)
def test_any_prefix_of_all_names_is_left_out_and_said(prefix, state, imported):
    found = imported(wrapped(prefix, state))
    assert_same(found, state)
    assert f"the names begin with {prefix!r}, which was left out" in found.notes


@pytest.mark.parametrize(
    "place",
    [
        lambda state: {"net": state, "acc": 93.1, "epoch": 1},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {}, "loss": 0.3},
        lambda state: {"state_dict": {"model": state}, "optimizer": {0: torch.ones(3)}},
        lambda state: [{"epoch": 3}, (wrapped("module.", state),)],
        lambda state: {"state_dict": wrapped("model.", state) | {"loss.w": torch.ones(2)},
                       "pytorch-lightning_version": "2.5", "hyper_parameters": {"lr": 0.1}},
        lambda state: {"model": state, "state_dict": state},
    ],
    ids=["net", "tutorial", "twice", "lists", "lightning", "one under two keys"],
)  # fmt: skip
def test_the_nested_mapping_is_found_wherever_it_is(place, state, imported):
    assert_same(imported(place(state)), state)


def test_tensors_beside_a_network_are_told(state, imported):
    found = imported(wrapped("model.", state) | {"queue": torch.ones(2)})
    assert "beside the network, and left out: 'queue'" in found.notes


def test_keys_are_told_where_there_is_no_network(imported):
    with pytest.raises(ConfigError, match="no tensors by name, but 'epoch', 'optimizer';"):
        imported({"epoch": 3, "optimizer": {}})


def averaged(state):
    return wrapped("module.", state) | {"n_averaged": torch.tensor(3)}


@pytest.mark.parametrize(
    "content",
    [
        lambda state, average: {"model": state, "model_ema": average},
        lambda state, average: {"model_ema": average, "model": state},
        lambda state, average: {"state_dict": state, "state_dict_ema": averaged(average)},
        lambda state, average: {"net": state, "other": averaged(average)},
        lambda state, average: wrapped("model.", state) | wrapped("ema.", average),
    ],
)
def test_an_average_is_taken_if_it_is_asked_for(content, state, average, imported):
    both = content(state, average)
    raw, ema = imported(both), imported(both, choice="ema")
    assert_same(raw, state)
    assert_same(ema, average)
    assert any("--weights=ema takes those in" in note for note in raw.notes)
    assert any("took the average in" in note for note in ema.notes)


def test_an_average_alone_is_taken_and_said(average, imported):
    found = imported(averaged(average))
    assert_same(found, average)
    assert "these are averages of weights over the steps of a training" in found.notes


def test_of_several_networks_one_must_be_chosen(state, average, imported):
    both = wrapped("encoder_q.", state) | wrapped("encoder_k.", average)
    with pytest.raises(ConfigError, match=r"2 networks: encoder_q, encoder_k; .*=encoder_q"):
        imported(both)
    with pytest.raises(ConfigError, match="--weights=ema is none of encoder_q, encoder_k"):
        imported(both, choice="ema")
    assert_same(imported(both, choice="encoder_k"), average)


class Options(dict):
    """A mapping with attributes, as many configs are."""


class Series(list):
    pass


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors_are_read_beside_any_other_object(protocol, zipped, state, imported):
    options = Options(lr=0.1)
    options.path = pathlib.Path("runs")
    found = imported(
        {
            "model": state, "args": argparse.Namespace(lr=0.1), "path": pathlib.PurePosixPath("a"),
            "best": np.float64(93.1), "at": datetime.datetime(2024, 1, 1), "options": options,
            "losses": Series([1, 2]), "array": np.ones(3), "kinds": {1, 2},
        },
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    assert_same(found, state)
    assert any("and not read: 'argparse.Namespace'" in note for note in found.notes)


def test_what_a_file_calls_its_objects_is_told_at_no_length(state, tmp_path, capsys):
    """A pickle may name a class by all of its bytes."""
    name = type("x" * 5000, (), {"__module__": __name__})
    globals()[name.__name__] = name
    try:
        torch.save({"net": state, "other": name()}, tmp_path / "net.pth")
    finally:
        del globals()[name.__name__]
    assert main(["import", str(tmp_path / "net.pth"), f"--out={tmp_path / 'run'}"]) == 0
    assert max(map(len, capsys.readouterr().err.splitlines())) < 1000


def test_nothing_else_is_imported(state, tmp_path, monkeypatch):
    module = types.ModuleType("trap_of_the_test")
    trap = module.Trap = type("Trap", (), {"__module__": "trap_of_the_test"})
    monkeypatch.setitem(__import__("sys").modules, "trap_of_the_test", module)
    torch.save({"model": state, "trap": trap()}, tmp_path / "net.pth")
    touched = []
    trap.__new__ = lambda cls: touched.append(cls) or object.__new__(cls)
    trap.__setstate__ = lambda self, state: touched.append(state)
    assert_same(import_weights(tmp_path / "net.pth"), state)
    assert not touched


def test_parameters_views_and_shared_storages_are_what_pytorch_reads(state, imported):
    flat = torch.arange(state["linear.weight"].numel() * 2.0)
    view = flat[1::2].reshape(64, 10).T
    other = state | {
        "linear.weight": view,
        "linear.bias": torch.nn.Parameter(state["linear.bias"]),
        "conv1.weight": state["conv1.weight"].to(memory_format=torch.channels_last),
    }
    assert_same(imported(other), other | {"linear.bias": state["linear.bias"]})


def pruned(layer):
    from torch.nn.utils import prune

    prune.l1_unstructured(layer, "weight", 0.5)
    return "prune.remove"


def normalised(layer):
    torch.nn.utils.parametrizations.weight_norm(layer)
    return "parametrize.remove_parametrizations"


def normalised_of_old(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(layer)
    return "remove_weight_norm"


@pytest.mark.parametrize("change", [pruned, normalised, normalised_of_old])
@pytest.mark.parametrize("place", ["conv1", "layer2.0.conv2"])
def test_weights_that_are_computed_of_parts_are_refused_with_the_remedy(change, place, imported):
    net = ForCifar(1)
    remedy = change(net.get_submodule(place))
    with pytest.raises(ConfigError, match=rf"'{place}\..* is a part of which .*{remedy}"):
        imported(net.state_dict())


def test_a_download_is_a_directory_with_weights_that_are_named(state, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["ResNet"]}))
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}
    safetensors.save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "cat.jpg").touch()
    for words in (["import", str(tmp_path), f"--out={tmp_path / 'run'}"],
                  ["predict", str(tmp_path), str(tmp_path / "cat.jpg")],
                  ["evaluate", str(tmp_path)]):  # fmt: skip
        assert main(words) == 2
        assert f"as {tmp_path / 'model.safetensors'}\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["model-00001-of-00003.safetensors", "pytorch_model.bin.index.json"]
)
def test_a_part_of_weights_is_told_from_the_whole(name, state, tmp_path):
    tensors = {name: tensor.contiguous() for name, tensor in [*state.items()][:20]}
    safetensors.save_file(tensors, tmp_path / name)
    with pytest.raises(ConfigError, match=r"one of the files into which .* max_shard_size"):
        import_weights(tmp_path / name)


@pytest.mark.slow
def test_torchscript_is_named_with_the_remedy(net, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that it is old
        torch.jit.trace(net, torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "net.pt"))
    with pytest.raises(ConfigError, match=r"is a program of TorchScript.*torch.jit.load\('net.pt'"):
        import_weights(tmp_path / "net.pt")


def test_a_flipped_bit_in_an_archive_is_found(state, tmp_path):
    torch.save(state, tmp_path / "net.pth")
    data = bytearray((tmp_path / "net.pth").read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "net.pth").write_bytes(data)
    with pytest.raises(ConfigError, match=r"cannot be read .*; fetch it again"):
        import_weights(tmp_path / "net.pth")


@pytest.fixture
def headless(state, tmp_path):
    """The directory of a run that was imported from a backbone."""
    body = {name: tensor for name, tensor in state.items() if "linear" not in name}
    torch.save(wrapped("backbone.", body), tmp_path / "body.pth")
    assert main(["import", str(tmp_path / "body.pth"), f"--out={tmp_path / 'body'}"]) == 0
    return tmp_path / "body"


def test_a_backbone_gives_the_features_that_the_head_sees(headless, net):
    weights = read_weights(headless)
    model = build_model(weights.about.config, len(weights.about.class_names))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    seen = []
    hook = net.linear.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        net(torch.from_numpy(images).permute(0, 3, 1, 2))
    hook.remove()
    ours = jax.jit(lambda v, x: features(model, v, x))(weights.variables, images)
    np.testing.assert_allclose(ours.pooled, seen[0].numpy(), rtol=1e-4, atol=1e-4)
    assert np.array_equal(ours.logits, ours.pooled)


def test_a_backbone_predicts_nothing(headless, tmp_path, capsys):
    (tmp_path / "x.png").touch()
    for words in (
        ["predict", str(headless), str(tmp_path / "x.png")],
        ["evaluate", str(headless), "--data=digits"],
    ):
        assert main([*words, "--config.data.size=0"]) == 2
        assert "have no head, and so no classes; start a run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_backbone_starts_a_run_with_a_new_head(headless, tmp_path, capsys):
    words = [
        "--config=experiments/degradation.py", f"--config.train.init_from={headless}",
        "--config.model.depth=8", "--config.model.width=16", "--config.model.shortcut=identity",
        "--config.model.identity_pad=both", "--config.data.name=fake:32x32x3:4:200",
        "--config.train.duration=0 steps", "--config.train.batch_size=20",
    ]  # fmt: skip
    words[-2] = "--config.train.duration=1 steps"
    assert main(["train", *words, f"--workdir={tmp_path / 'tuned'}"]) == 0
    assert "a new head: none there, 4 here" in capsys.readouterr().err
    result = json.loads((tmp_path / "tuned" / "result.json").read_text())
    assert np.isfinite(result["train_loss"])


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "page.pth"])
def test_a_file_of_another_framework_is_no_start_and_that_is_all_that_is_said(
    name, tmp_path, state, capsys
):
    path = tmp_path / name
    if name == "page.pth":
        path.write_text("<html>")
    elif path.suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.save_file(state, path)
    words = ["train", "--config=experiments/degradation.py", f"--workdir={tmp_path / 'run'}"]
    assert main([*words, f"--config.train.init_from={path}"]) == 2
    said = capsys.readouterr().err
    assert f"make a run of it by resjax import {path} --out=DIR" in said
    assert "fetch it again" not in said


@pytest.mark.usefixtures("copies")
def test_a_file_in_a_bucket_is_imported_with_what_lies_beside_it(
    state, one_bucket, fresh, tmp_path, capsys
):
    here = tmp_path / "here"
    here.mkdir()
    torch.save(state, here / "net.pth")
    (here / "config.json").write_text(json.dumps({"label_names": list("abcdefghij")}))
    there = uploaded(here, one_bucket.address(fresh)).address / "net.pth"
    words = ["train", "--config=experiments/degradation.py", f"--workdir={tmp_path / 'run'}"]
    assert main([*words, f"--config.train.init_from={there}"]) == 2
    assert f"resjax import {there} --out=DIR" in capsys.readouterr().err
    assert main(["import", str(there), f"--out={tmp_path / 'net'}"]) == 0
    assert capsys.readouterr().err.startswith("net.pth: cifar-8, identity, 10 classes")
    weights = read_weights(tmp_path / "net")
    assert weights.about.class_names == tuple("abcdefghij")
    kernel = weights.variables["params"]["stem"]["conv1"]["kernel"]
    assert np.array_equal(kernel, state["conv1.weight"].permute(2, 3, 1, 0).numpy())
