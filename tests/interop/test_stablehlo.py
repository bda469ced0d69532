"""A network as a compiled function: the same logits, for any number of images, folded or not."""

import re

import jax
import numpy as np
import pytest

from resjax.config import ConfigError, default_config
from resjax.interop.exporting import export
from resjax.interop.folding import fold
from resjax.interop.predicting import logits_of
from resjax.interop.stablehlo import load_stablehlo
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.runs.weights import About, Weights, paths, unflatten
from tests.models.compiled import quick

SHAPE = (35, 34, 3)


def weights_of(**keys):
    """A narrow network with random weights and statistics, of either sign."""
    config = default_config()
    config.model.update({"name": "imagenet", "depth": 18, "width": 8, "unroll": "1"} | keys)
    config.model.dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    model, random = build_model(config, 7), np.random.default_rng(0)

    def draw(path, shape):
        noise = random.normal(size=shape).astype(np.float32)
        if path.endswith("var"):
            return np.exp(0.3 * noise)
        if path.endswith("scale"):
            return np.sign(noise) * np.exp(0.3 * random.normal(size=shape)).astype(np.float32)
        if path.endswith("kernel"):
            return noise * (0.5 / np.prod(shape[-4:-1])) ** 0.5
        return 0.2 * noise

    leaves = {
        path: draw(path, leaf.shape).astype(leaf.dtype)
        for path, leaf in paths(variable_shapes(model, SHAPE)).items()
    }
    about = About(config, tuple("abcdefg"), SHAPE)
    return Weights(about, unflatten(leaves), np.float32([120, 110, 100]), np.float32([60, 50, 40]))


def images(number):
    return np.random.default_rng(number).integers(0, 256, (number, *SHAPE)).astype(np.float32)


def logits(weights, given):
    compute = quick(lambda v, x: logits_of(weights.model, v, weights.mean, weights.deviation, x))
    return np.asarray(compute(weights.variables, given))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_file_is_the_function_for_any_number_of_images(tmp_path):
    weights = weights_of(shortcut="projection")
    export(weights, tmp_path / "net.stablehlo")
    function = load_stablehlo(tmp_path / "net.stablehlo")
    for number in (1, 3):
        ours = logits(weights, images(number))
        assert ours.std() > 0.1
        np.testing.assert_allclose(function(images(number)), ours, rtol=0, atol=1e-9)


def test_it_calls_nothing_that_others_do_not_have(tmp_path):
    """Whatever kernels of its own resjax has on this machine."""
    export(weights_of(shortcut="projection"), tmp_path / "net.stablehlo")
    exported = jax.export.deserialize(bytearray((tmp_path / "net.stablehlo").read_bytes()))
    calls = set(re.findall(r"custom_call @(\w+)", exported.mlir_module()))
    assert calls == {"shape_assertion"}  # of the number of images
    assert {"cpu", "cuda", "tpu"} <= set(exported.platforms)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "keys",
    [
        {"shortcut": "projection"},
        {"shortcut": "avgpool_projection", "stem": "deep", "depth": 50},
        {"shortcut": "projection", "depth": 50, "groups": 4, "bottleneck_width": 2.0},
        {"shortcut": "identity", "order": "relu_preact"},
        {"shortcut": "none", "order": "relu_before_add"},
        {"shortcut": "projection", "bias": "always"},
        {"shortcut": "shortcut_gate", "residual_scale": 0.5, "learn_residual_scale": True},
    ],
    ids=lambda keys: "-".join(map(str, keys.values())),
)
def test_folded_networks_are_the_same_function_without_normalisation(keys):
    weights = weights_of(**keys)
    folded = fold(weights)
    assert not folded.variables.get("batch_stats")
    assert folded.about.config.norm.kind == "none"
    ours = logits(weights, images(2))
    assert ours.std() > 0.1
    np.testing.assert_allclose(logits(folded, images(2)), ours, rtol=0, atol=1e-9)


def test_frozen_statistics_are_folded_as_others_are():
    weights = weights_of(shortcut="projection")
    expected = paths(fold(weights).variables)
    weights.about.config.norm.frozen = True
    found = paths(fold(weights).variables)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[path], expected[path]) for path in found)


@pytest.mark.parametrize("order", ["preact", "bn_after_add"])
def test_sums_that_are_normalised_cannot_be_folded(order):
    with pytest.raises(ConfigError, match="normalises more than the outputs of layers"):
        fold(weights_of(shortcut="projection", order=order))


def test_options_that_do_not_fit_the_file(tmp_path):
    weights = weights_of(shortcut="projection")
    for name, options, message in (
        ("net.onnx", {}, "ends with neither of .safetensors, .stablehlo"),
        ("net.safetensors", {}, "give --names"),
        ("net.stablehlo", {"names": "timm"}, "give --names"),
        ("net.safetensors", {"names": "timm", "folded": True}, "give --names"),
        ("net.safetensors", {"names": "onnx"}, "unknown names 'onnx'; choose one of: torchvision"),
    ):
        with pytest.raises(ConfigError, match=message):
            export(weights, tmp_path / name, **options)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("keys", "names", "message"),
    [
        ({"shortcut": "projection", "order": "preact"}, "torchvision", "model.order=preact"),
        (
            {"shortcut": "projection", "order": "preact"},
            "timm-v2",
            "stem/norm1/bias .* has no name",
        ),
        ({"shortcut": "projection", "stem": "deep"}, "torchvision", "the deep stem"),
        ({"shortcut": "none"}, "torchvision", "torchvision has .* model.shortcut=none"),
        ({"shortcut": "identity"}, "transformers", "model.shortcut=identity and"),
        ({"shortcut": "projection", "activation": "gelu"}, "torchvision", "activation is 'relu' t"),
        ({"shortcut": "projection", "depth": 50, "stride_in": "1x1"}, "timm", "'3x3' there, '1x1'"),
        ({"shortcut": "projection_all"}, "torchvision", "model.shortcut=projection_all"),
        ({"shortcut": "projection", "learn_residual_scale": True}, "timm", "residual_scale"),
    ],
)
def test_names_that_cannot_say_what_a_network_is(keys, names, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        export(weights_of(**keys), tmp_path / "net.safetensors", names)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("keys", "fit"), [
    ({"name": "cifar", "depth": 8, "shortcut": "projection"}, "choose one of: akamaster, or write"),
    ({"order": "preact", "shortcut": "projection"}, "choose one of: timm-v2, or write StableHLO"),
    ({"shortcut": "projection_all"}, "imagenet stem; write StableHLO"),
])  # fmt: skip
def test_names_that_a_network_lacks_are_answered_by_those_that_fit(keys, fit, tmp_path):
    with pytest.raises(ConfigError, match="torchvision has no networks with ") as refused:
        export(weights_of(**keys), tmp_path / "net.safetensors", names="torchvision")
    assert fit in str(refused.value)


def test_a_damaged_file_is_refused(tmp_path):
    for content in (b"", b"no function"):
        (tmp_path / "net.stablehlo").write_bytes(content)
        with pytest.raises(ConfigError, match="is not a whole StableHLO file"):
            load_stablehlo(tmp_path / "net.stablehlo")
    with pytest.raises(ConfigError, match="cannot read"):
        load_stablehlo(tmp_path / "absent.stablehlo")
