"""Networks of other frameworks compute here what they compute there, stage by stage, and go back.

Their weights and running statistics are random, and no term hides behind a zero or a one.
"""

import copy
import json

import jax
import numpy as np
import pytest

from resjax.interop.exporting import named_tensors
from resjax.interop.importing import import_weights
from resjax.models.build import build_model, preset
from resjax.models.features import features
from resjax.models.networks import IMAGENET_STAGES
from resjax.models.trace import variable_shapes
from resjax.runs.weights import About, Weights, paths, unflatten
from tests.interop.peers import (
    ForCifar,
    hugging_face,
    of_timm,
    randomised,
    small_torchvision,
    torch,
    torchvision,
)
from tests.models.compiled import quick

safetensors = pytest.importorskip("safetensors.torch")


def stages_of(net):
    """The modules whose outputs are those of the stages."""
    if hasattr(net, "resnet"):
        return list(net.resnet.encoder.stages)
    if hasattr(net, "stages"):
        return list(net.stages)
    return [getattr(net, f"layer{n}") for n in range(1, 5) if hasattr(net, f"layer{n}")]


def compare(net, tmp_path, size, naming, gain=0.7):
    """Logits and outputs of stages to 1e-9 in float64; the file written back, bit for bit."""
    net = randomised(net, gain=gain)
    imported = compare_features(net, tmp_path, size, naming)
    assert_same_tensors(named_tensors(imported.weights, naming), net)


def assert_same_tensors(back, net):
    state = net.state_dict()
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        theirs = tensor.numpy()
        assert back[name].dtype == theirs.dtype
        assert np.array_equal(back[name], theirs), name


def compare_features(net, tmp_path, size, naming):
    path = tmp_path / "net.safetensors"
    safetensors.save_file(net.state_dict(), path)
    imported = import_weights(path)
    assert imported.naming == naming
    about = imported.weights.about
    config = about.config.copy_and_resolve_references()
    config.model.update({"unroll": "1", "dtype": "float64"})
    images = np.random.default_rng(0).normal(size=(2, *size, 3))
    with jax.enable_x64(True):
        model = build_model(config, len(about.class_names))
        variables = jax.tree.map(np.float64, imported.weights.variables)
        ours = jax.device_get(quick(lambda v, x: features(model, v, x))(variables, images))
    outputs, net = [], copy.deepcopy(net).double()
    for stage in stages_of(net):
        stage.register_forward_hook(lambda _, __, output: outputs.append(output))
    with torch.no_grad():
        logits = net(torch.from_numpy(images).permute(0, 3, 1, 2))
    logits = getattr(logits, "logits", logits).numpy()
    assert len(ours.stages) == len(outputs)
    for name, theirs in zip(ours.stages, outputs, strict=True):
        theirs = theirs.permute(0, 2, 3, 1).numpy()
        assert theirs.std() > 0.05  # the signal is alive
        np.testing.assert_allclose(ours.stages[name], theirs, rtol=0, atol=1e-9, err_msg=name)
    assert logits.std() > 0.05
    np.testing.assert_allclose(ours.logits, logits, rtol=0, atol=1e-9)
    return imported


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


EVEN_AND_ODD = (64, 65)
"""Padding and strides treat the sides alike, so that one image has an even and an odd size."""


SHALLOW = (1, 2, 3, 1)
"""Blocks of stages: one alone, and two and three, of which all but the first are alike."""


@pytest.fixture
def shallow(monkeypatch):
    """Networks of these stages have a depth, as published ones do, and so are recognised."""
    for depth, block in ((16, "basic"), (23, "bottleneck")):
        monkeypatch.setitem(IMAGENET_STAGES, depth, (SHALLOW, block))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", slow("resnet50")])
def test_networks_of_torchvision(name, tmp_path):
    net = getattr(torchvision.models, name)(num_classes=11)
    compare(net, tmp_path, EVEN_AND_ODD, "torchvision")


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("block", "options"),
    [
        ("BasicBlock", {}),
        ("Bottleneck", {}),
        ("Bottleneck", {"width_per_group": 128}),
        ("Bottleneck", {"groups": 32, "width_per_group": 4}),
        ("Bottleneck", {"groups": 32, "width_per_group": 8}),
        ("Bottleneck", {"groups": 64, "width_per_group": 4}),
    ],
    ids=["basic", "bottleneck", "wide", "32x4d", "32x8d", "64x4d"],
)
def test_blocks_of_torchvision(block, options, tmp_path):
    """Of ResNet-34, ResNet-101 and -152, Wide ResNet and ResNeXt."""
    net = small_torchvision(block, SHALLOW, num_classes=11, **options)
    compare(net, tmp_path, EVEN_AND_ODD, "torchvision")


@pytest.mark.slow
@pytest.mark.parametrize("depth", [34, 101, 152])
def test_published_depths_are_recognised_and_written_back(depth, tmp_path):
    net = getattr(torchvision.models, f"resnet{depth}")(num_classes=11)
    safetensors.save_file(net.state_dict(), tmp_path / "net.safetensors")
    weights = import_weights(tmp_path / "net.safetensors").weights
    assert weights.about.config.model.depth == depth
    assert_same_tensors(named_tensors(weights, "torchvision"), net)


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("resnet18d", "timm"),
        ("resnet50c", "timm"),
        ("resnet50d", "timm"),
        ("resnext50d_32x4d", "timm"),
        ("resnetv2_18", "timm-v2"),
        ("resnetv2_34d", "timm-v2d"),
        ("resnetv2_50", "timm-v2"),
        ("resnetv2_50d", "timm-v2d"),
    ],
)
def test_networks_of_timm(name, naming, tmp_path):
    """With fewer blocks than their names say."""
    net = of_timm(name, num_classes=11, layers=SHALLOW)
    compare(net, tmp_path, EVEN_AND_ODD, naming)


NARROW = {"hidden_sizes": [32, 64, 128, 256], "embedding_size": 8}


@pytest.mark.slow
@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    "options",
    [
        {"depths": list(SHALLOW), "hidden_sizes": [64, 128, 256, 512], "layer_type": "basic"},
        {"depths": list(SHALLOW)},
        NARROW,
    ],
    ids=["basic", "bottleneck", "narrow"],
)
def test_networks_of_transformers(options, tmp_path):
    compare(hugging_face(num_labels=11, **options), tmp_path, EVEN_AND_ODD, "transformers")


@pytest.mark.slow
def test_the_stride_that_transformers_puts_into_the_first_layer(tmp_path):
    net = randomised(hugging_face(num_labels=3, downsample_in_bottleneck=True, **NARROW))
    (tmp_path / "config.json").write_text(json.dumps(net.config.to_dict()))
    imported = compare_features(net, tmp_path, (47, 64), "transformers")
    assert imported.weights.about.config.model.stride_in == "1x1"


@pytest.mark.slow
@pytest.mark.parametrize("size", [(65, 47), (64, 64), EVEN_AND_ODD])
@pytest.mark.parametrize("option", ["A", "B"])
@pytest.mark.parametrize("blocks", [3, slow(18)])
def test_networks_for_cifar(blocks, option, size, tmp_path):
    gain = 0.7 if blocks < 9 else 0.2  # what branches add up to is of an ordinary size
    compare(ForCifar(blocks, option), tmp_path, size, "akamaster", gain)


@pytest.mark.slow
def test_groups_and_widths_in_between(tmp_path):
    net = randomised(small_torchvision(num_classes=3, groups=8, width_per_group=4))
    compare_features(net, tmp_path, (33, 40), "torchvision")


@pytest.mark.slow
def test_a_network_of_resjax_as_torchvision_loads_it():
    """Trained here, evaluated there: not only what came from there goes back."""
    config, _, _ = preset("resnet18")
    config.model.unroll = "1"
    random = np.random.default_rng(0)
    leaves = {
        path: 0.05 * random.normal(size=leaf.shape).astype(np.float32) + path.endswith("var")
        for path, leaf in paths(variable_shapes(build_model(config, 5), (64, 64, 3))).items()
    }
    about = About(config, tuple("abcde"), (64, 64, 3))
    weights = Weights(about, unflatten(leaves), np.zeros(3), np.ones(3))

    net = torchvision.models.resnet18(num_classes=5).double().eval()
    net.load_state_dict(
        {
            name: torch.from_numpy(tensor)
            for name, tensor in named_tensors(weights, "torchvision").items()
        }
    )
    images = random.normal(size=(2, 64, 64, 3))
    with torch.no_grad():
        theirs = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    config.model.dtype = "float64"
    with jax.enable_x64(True):
        model = build_model(config, 5)
        variables = jax.tree.map(np.float64, weights.variables)
        ours = quick(lambda v, x: model.apply(v, x, train=False))(variables, images)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
    assert theirs.std() > 0.001
