"""Files that are broken, foreign or malicious are refused with one line that says why."""

import json
import math
import os
import pickle

import jax
import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.interop.importing import import_weights
from resjax.interop.metadata import IMAGES
from tests.interop.peers import ForCifar, randomised, small_torchvision, torch, torchvision

safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture(scope="module")
def state():
    """Of ResNet-8 for CIFAR."""
    return randomised(ForCifar(1)).state_dict()


@pytest.fixture
def refused(tmp_path):
    """`refused(tensors, message)`: what a file of these tensors is refused with."""

    def check(tensors, message, name="net.safetensors"):
        path = tmp_path / name
        if isinstance(tensors, bytes):
            path.write_bytes(tensors)
        else:
            safetensors.save_file(tensors, path)
        before = sorted(os.listdir(tmp_path.parent))
        with pytest.raises(ConfigError, match=message) as error:
            import_weights(path)
        assert "\n" not in str(error.value)
        assert sorted(os.listdir(tmp_path.parent)) == before

    return check


def test_a_tensor_of_another_shape(state, refused):
    wrong = state | {"layer2.0.conv2.weight": torch.zeros(32, 32, 5, 5)}
    refused(wrong, "'layer2.0.conv2.weight' is 32x32x5x5 there, 32x32x3x3 here; .*akamaster")


def test_the_first_of_many_tensors_of_other_shapes(state, refused):
    wrong = {name: tensor[:-1] if "layer3" in name and tensor.ndim else tensor
             for name, tensor in state.items()}  # fmt: skip
    refused(wrong, "'layer3.0.conv1.weight' is 63x32x3x3 there, 64x32x3x3 here, .* more;")


@pytest.mark.slow
def test_a_first_layer_for_small_images(tmp_path, refused):
    net = torchvision.models.resnet18(num_classes=3)
    net.conv1, net.maxpool = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False), torch.nn.Identity()
    refused(randomised(net).state_dict(), "64x3x7x7 here; .*by --config.model.stem=small$")
    weights = import_weights(tmp_path / "net.safetensors", {"model.stem": "small"}).weights
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    ours = jax.jit(lambda v, x: weights.model.apply(v, x, train=False))(weights.variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_missing_tensors(state, refused):
    wrong = {name: tensor for name, tensor in state.items() if name != "layer1.0.bn2.running_var"}
    refused(wrong, "lacks 'layer1.0.bn2.running_var'; it looks like akamaster's cifar-8")


def test_extra_tensors(state, refused):
    refused(state | {"layer1.0.se.weight": torch.zeros(2)}, "has .* 'layer1.0.se.weight'; it looks")


def test_a_net_of_another_kind(refused):
    refused({"backbone.patch.weight": torch.zeros(3, 4)}, "1 tensors, the first 'backbone.patch")


def test_no_tensors_at_all(refused):
    refused({}, "has 0 tensors; resjax reads")


def test_depths_that_no_resnet_has(tmp_path, refused):
    net = small_torchvision("BasicBlock", (1, 1, 2, 1), num_classes=2)
    refused(net.state_dict(), "stages of 1, 1, 2, 1 basic blocks, as no ResNet of 18, 34, 50")


def test_blocks_of_cifar_nets_that_are_not_equal(state, refused):
    more = {name.replace("layer3.0", "layer3.1"): tensor.clone() for name, tensor in state.items()
            if "layer3.0" in name}  # fmt: skip
    refused(state | more, "stages of 1, 1, 2 blocks; a net for CIFAR has three equal ones")


def test_weights_without_axes(state, refused):
    refused(state | {"conv1.weight": torch.zeros(4)}, "'conv1' has a weight of")
    refused(state | {"layer1.0.conv2.weight": torch.zeros(0, 16, 3, 3)}, "has a weight of")


@pytest.mark.slow
def test_a_bottleneck_with_fewer_outputs_than_its_expansion(refused):
    state = small_torchvision("Bottleneck", (3, 4, 6, 3), num_classes=2).state_dict()
    refused(state | {"layer1.0.conv3.weight": torch.zeros(3, 8, 1, 1)}, " there, .* here")


def test_group_normalisation_has_no_running_statistics(refused):
    net = small_torchvision(
        "BasicBlock", (2, 2, 2, 2), norm_layer=lambda channels: torch.nn.GroupNorm(4, channels)
    )
    refused(net.state_dict(), r"lacks 'bn1.running_mean', .* and \d+ more")


def test_integers_are_no_weights(state, refused):
    refused(
        state | {"conv1.weight": torch.zeros(16, 3, 3, 3, dtype=torch.int8)},
        "'conv1.weight' is I8; resjax reads float32, float16, bfloat16, float64",
    )


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a\x1b[2Jb"])
def test_a_name_of_a_tensor_is_never_that_of_a_file(name, state, refused):
    """And control characters in it do not reach the terminal."""
    refused(state | {name: torch.zeros(2)}, "has beside the network's '")


@pytest.mark.parametrize("left", [0, 5, 300, -100])
def test_a_truncated_file(left, state, refused, tmp_path):
    safetensors.save_file(state, tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    refused(data[:left], "is not a whole safetensors file .*; fetch it again")


@pytest.mark.parametrize("left", [0, 100, -300])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_pickle(left, zipped, state, refused, tmp_path):
    torch.save(state, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "whole.pth").read_bytes()
    refused(data[:left], "(cannot be read|is empty)", "net.pth")


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("malice",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_code_is_refused_and_runs_none(zipped, state, refused, tmp_path):
    torch.save(
        {"state_dict": state, "more": Malice()}, tmp_path / "bad.pth",
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    data = (tmp_path / "bad.pth").read_bytes()
    refused(data, "a pickle that wants to run 'posix.mkdir'; ask for a .safetensors", "net.pth")
    assert not os.path.exists("malice")


def test_a_plain_pickle_is_refused(state, refused):
    refused(pickle.dumps(state), "a pickle that torch.save did not write; write one", "net.pkl")
    refused(pickle.dumps({"conv1.weight": [3]}), "a pickle that torch.save did not", "net.pth")
    refused(b"no pickle", "is neither a safetensors file nor", "net.pth")


def test_a_whole_module_in_a_pickle_is_refused(refused, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    data = (tmp_path / "module.pth").read_bytes()
    refused(data, "holds a torch.nn.modules.linear.Linear, and no tensors by name", "net.pth")


def test_pickles_without_tensors_by_name(refused, tmp_path):
    for content, message in (
        ([1, 2], "no tensors by name; write the state_dict"),
        ({"epoch": 3, "loss": 0.1}, "no tensors by name, but 'epoch', 'loss'; write the state"),
        (3, "holds a int"),
    ):
        torch.save(content, tmp_path / "content.pth")
        refused((tmp_path / "content.pth").read_bytes(), message, "net.pth")


def test_other_suffixes_and_missing_files(refused, tmp_path):
    refused(b"x", "is neither a safetensors file nor a checkpoint of PyTorch", "net.onnx")
    refused(b"version https://git-lfs.github.com/spec/v1", "git lfs pull fetches", "net.pth")
    refused(b"<!DOCTYPE html>", "is a web page", "net.safetensors")
    refused(b"", "is empty; fetch it again", "net.pth")
    with pytest.raises(ConfigError, match="there is no file"):
        import_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ("{", "cannot read .*config.json"),
        ({"model_type": "resnet", "downsample_in_first_stage": True}, "downsample_in_first_stage"),
        ({"model_type": "resnet", "hidden_act": "gulp"}, "hidden_act='gulp' is not a network"),
        ({"id2label": {"0": "a", "1": "b"}}, "2 class names for 10 classes"),
        ({"pretrained_cfg": {"input_size": 5}}, r"input_size=5 is not \[channels, side, side\]"),
    ],
)
def test_what_is_written_beside_a_file_and_makes_no_sense(
    beside, message, state, refused, tmp_path
):
    text = beside if isinstance(beside, str) else json.dumps(beside)
    (tmp_path / "config.json").write_text(text)
    refused(state, message)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "JSONDecodeError"),
        ({}, "KeyError: 'settings'"),
        ({"settings": {"data.colour": 1}}, "unknown config key 'data.colour'"),
        ({"settings": {"data.size": "large"}}, "TypeError"),
        ({"mean": [1, 2]}, r"mean \(2,\) and deviation \(3,\) of images 32x32x3"),
        ({"deviation": [1, 0, 1]}, "a deviation that is not above 0"),
        ({"mean": [1, math.nan, 1]}, "a mean that is not finite"),
    ],
)
def test_metadata_that_make_no_sense(said, message, state, tmp_path):
    whole = {"settings": {}, "mean": [1] * 3, "deviation": [1] * 3, "image_shape": [32, 32, 3],
             "class_names": list("abcdefghij")}  # fmt: skip
    text = said if isinstance(said, str) else json.dumps(said and whole | said)
    safetensors.save_file(state, tmp_path / "net.safetensors", {IMAGES: text})
    with pytest.raises(ConfigError, match=f"of its images .*{message}.*; export it again"):
        import_weights(tmp_path / "net.safetensors")


# -------------------------------------------------------------------------------- what is accepted


def test_wrapped_names_and_training_checkpoints(state, tmp_path):
    """As akamaster's and many others are: under state_dict, by nn.DataParallel."""
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": wrapped, "best_prec1": 91.7}, tmp_path / "net.th")
    imported = import_weights(tmp_path / "net.th")
    assert "the names begin with 'module.', which was left out" in imported.notes
    kernel = imported.weights.variables["params"]["stem"]["conv1"]["kernel"]
    assert np.array_equal(kernel, state["conv1.weight"].permute(2, 3, 1, 0).numpy())


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_other_precisions_are_converted_and_said(kind, suffix, state, tmp_path):
    dtype = getattr(torch, kind)
    other = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    path = tmp_path / f"net{suffix}"
    (safetensors.save_file if suffix == ".safetensors" else torch.save)(other, path)
    imported = import_weights(path)
    number = sum(tensor.is_floating_point() for tensor in state.values())
    assert f"{number} tensors were {kind} and are converted to float32" in imported.notes
    kernel = imported.weights.variables["params"]["head"]["kernel"]
    assert kernel.dtype == np.float32
    assert np.array_equal(kernel, other["linear.weight"].float().numpy().T)
