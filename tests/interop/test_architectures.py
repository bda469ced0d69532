"""A network that is named is the one of that name, and another function is refused."""

import json

import pytest

from resjax.config import ConfigError, default_config
from resjax.interop.architectures import refuse_other_architecture
from resjax.interop.importing import import_weights
from resjax.interop.recognise import Recognised, recognise
from resjax.interop.sidecars import read_sidecars
from tests.interop.peers import ForCifar, of_timm, randomised, torch
from tests.interop.peers import imported as imported_from

safetensors = pytest.importorskip("safetensors.torch")


def found_as(naming="torchvision", **model):
    config = default_config()
    config.model.update({"name": "imagenet", "depth": 50, "shortcut": "projection"} | model)
    return Recognised(naming, "imagenet", config, 1000, 3)


DEEP = {"stem": "deep"}
D = {"stem": "deep", "shortcut": "avgpool_projection"}
PREACT = {"order": "preact", "opening": "block"}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet50", {}),
        ("resnet50.a1_in1k", {}),
        ("ResNet50", {}),
        ("tv_resnet50", {}),
        ("gluon_resnet50_v1b", {}),
        ("ResNet", {}),
        ("resnet50c", DEEP),
        ("gluon_resnet50_v1c", DEEP),
        ("resnet50d", D),
        ("wide_resnet50_2", {"bottleneck_width": 2.0}),
        ("swsl_resnext50_32x4d", {"groups": 32, "bottleneck_width": 2.0}),
        ("resnext50d_32x4d", D | {"groups": 32, "bottleneck_width": 2.0}),
        ("resnetv2_50", PREACT),
        ("resnetv2_50d", PREACT | D),
    ],
)
def test_known_names_are_those_of_their_networks(name, model):
    refuse_other_architecture(name, found_as(**model), "config.json")


@pytest.mark.parametrize(
    "name",
    ["resnetaa50", "resnetblur50", "resnetaa50d", "seresnet50", "resnet50_gn", "resnet50t",
     "resnetrs50", "resnet26", "ecaresnet50d", "resnetv2_50x1_bit", "resnetv2_50d_gn",
     "gluon_resnet50_v1s", "deeplabv3_resnet50", "dilated"],
)  # fmt: skip
def test_names_of_other_functions_are_refused(name):
    with pytest.raises(ConfigError, match=f"names the architecture {name!r}, which is not known"):
        refuse_other_architecture(name, found_as(), "config.json")


def test_a_name_of_another_network_is_refused_with_what_differs():
    with pytest.raises(ConfigError, match=r"model.depth is 101 by that name, 50 .*; give the"):
        refuse_other_architecture("resnet101", found_as(), "net.pth")
    with pytest.raises(ConfigError, match=r"model.stem is 'deep' by that name, 'auto' by"):
        refuse_other_architecture("resnet50d", found_as(), "net.pth")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet18d", "resnet50c", "resnext50_32x4d",
                                  "wide_resnet50_2", "resnetv2_18", "resnetv2_50d"])  # fmt: skip
def test_names_of_timm_are_those_of_its_networks(name):
    net = of_timm(name, num_classes=2)
    shapes = {key: tuple(each.shape) for key, each in net.state_dict().items()}
    refuse_other_architecture(name, recognise(shapes, name), "config.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnetaa50", "resnetblur18"])
def test_antialiased_networks_of_timm_are_refused_by_name(name, tmp_path):
    """Their tensors are those of plain ones."""
    net = of_timm(name, num_classes=2)
    safetensors.save_file(net.state_dict(), tmp_path / "model.safetensors")
    assert any("cannot be known" in note for note in imported(tmp_path).notes)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    with pytest.raises(ConfigError, match=rf"config.json names the architecture {name!r}"):
        imported(tmp_path)


def imported(directory):
    return import_weights(directory / "model.safetensors")


@pytest.fixture
def small(tmp_path):
    """ResNet-8 for CIFAR in a file, and its state."""
    state = randomised(ForCifar(1)).state_dict()
    safetensors.save_file(state, tmp_path / "model.safetensors")
    return state


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"architecture": "resnet14"}, "model.depth is 14 by that name, 8 by the tensors"),
        *(
            ({"architecture": "resnet8", "model_args": {key: value}}, f"model_args .*'{key}'")
            for key, value in (
                ("aa_layer", "avg"),
                ("global_pool", "max"),
                ("output_stride", 16),
                ("act_layer", "silu"),
                ("replace_stem_pool", True),
                ("other", 1),
            )
        ),
        ({"architecture": "resnet8", "global_pool": "max"}, "global_pool='max' is not"),
        ({"architecture": ["resnet8"]}, r"architecture=\['resnet8'\] is no name"),
        ({"model_type": "regnet"}, "model_type 'regnet', which resjax has not"),
        *(
            ({"model_type": "resnet", "hidden_act": act}, "hidden_act=.* is not a network")
            for act in ("gelu", "silu", "leaky_relu", "linear", "swish", ["relu"], None)
        ),
        ({"model_type": "resnet", "downsample_in_bottleneck": "false"}, "downsample_in_bottleneck"),
    ],
)
def test_what_config_json_says_of_the_function_is_known_or_refused(said, message, small, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match=message) as error:
        imported(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "said",
    [
        {"architecture": "resnet8"},
        {"model_type": "resnet", "hidden_act": "relu"},
        {"architecture": "resnet8",
         "model_args": {"num_classes": 10, "global_pool": "avg", "output_stride": 32,
                        "aa_layer": None}},
    ],
)  # fmt: skip
def test_a_network_that_is_known_is_told_without_doubt(said, small, tmp_path):
    assert any("nothing names its architecture" in note for note in imported(tmp_path).notes)
    (tmp_path / "config.json").write_text(json.dumps(said))
    assert not any("nothing names its architecture" in note for note in imported(tmp_path).notes)


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "resnet50d", "resnext50_32x4d", "resnetv2_50"]
)
def test_what_timm_says_of_its_own_networks_is_read(name, tmp_path):
    with torch.device("meta"):
        net = of_timm(name, num_classes=3)
    with imported_from("timm.models") as models:
        models._hub.save_config_for_hf(net, tmp_path / "config.json")
    found = read_sidecars(tmp_path)
    assert (found.architecture, found.preprocessing) == (name, True)


def test_a_directory_that_timm_saved_is_imported(tmp_path):
    with imported_from("timm.models") as models:
        models.save_for_hf(of_timm("resnet18", num_classes=3), tmp_path, safe_serialization=True)
    found = imported(tmp_path)
    assert len(found.weights.about.class_names) == 3
    assert not [note for note in found.notes if "assumed" in note or "known" in note]


@pytest.mark.parametrize("key", ["arch", "architecture", "model_name"])
def test_a_checkpoint_says_which_network_it_is_of(key, small, tmp_path):
    torch.save({key: "resnet8", "state_dict": small}, tmp_path / "known.pth")
    known = import_weights(tmp_path / "known.pth")
    assert not any("cannot be known" in note for note in known.notes)
    for content in ({key: "blurred"}, {"hyper_parameters": {key: "blurred"}}):
        torch.save(content | {"state_dict": small}, tmp_path / "other.pth")
        with pytest.raises(ConfigError, match=r"names .* 'blurred'.* give the tensors without"):
            import_weights(tmp_path / "other.pth")
