"""A misspelt key is refused by every function that takes a config, and not passed over."""

import jax.numpy as jnp
import numpy as np
import pytest

from resjax.config import ConfigError, default_config, use_own_values
from resjax.config.durations import Clock
from resjax.interop.predicting import predict
from resjax.interop.scoring import evaluate
from resjax.models.build import build_model, make_spec, named_model, preset
from resjax.ops.value import ByValue
from resjax.runs.weights import About, Weights
from resjax.training.optim import learning_rate_schedule


def misspelt(section, key):
    config = default_config()
    with config.unlocked():
        config[section][key] = "none"
    return config


WEIGHTS = Weights(About(default_config(), ("a",), (8, 8, 1)), {}, np.zeros(1), np.ones(1))


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: named_model("resnet50", shorcut="none"), "model.shortcut"),
        (lambda: named_model("resnet50", norm={"epsilom": 1e-3}), "norm.epsilon"),
        (lambda: build_model(misspelt("model", "shorcut"), 10), "model.shortcut"),
        (lambda: build_model(misspelt("norm", "epsilom"), 10), "norm.epsilon"),
        (lambda: make_spec(misspelt("model", "widht").model), "model.width"),
        (
            lambda: learning_rate_schedule(misspelt("optim", "warmupp").optim, Clock(100, 10, 4)),
            "optim.warmup",
        ),
        (lambda: evaluate(WEIGHTS, misspelt("data", "rezise").data, 8), "data.resize"),
        (lambda: predict(WEIGHTS, misspelt("data", "rezise").data, []), "data.resize"),
    ],
)
def test_a_key_that_there_is_not_is_refused_with_the_nearest(call, nearest):
    with pytest.raises(ConfigError, match=f"unknown config key .*; nearest: {nearest}"):
        call()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"depth": "50"}, "model.depth='50' is not int; such as model.depth=20"),
        ({"dtype": 3}, "model.dtype=3 is not str; such as model.dtype='float32'"),
        ({"dtype": jnp.int8}, "unknown model.dtype 'int8'; choose one of: float32, bfloat16"),
        ({"norm": "grup"}, "unknown norm.kind 'grup'; choose one of: batch, group, layer"),
        ({"norm": None}, "norm.kind=None is not str"),
        ({"norm": {"kind": "group", "groups": 48}}, "norm.groups=48 does not divide the 64 chann"),
        ({"shortcut": None}, "model.shortcut=None is not str"),
        ({"shortcut_dropout": 2.0}, "model.shortcut_dropout=2.0 is not a probability"),
    ],
)
def test_values_of_named_models_are_checked(keys, message):
    with pytest.raises(ConfigError, match=message):
        named_model("resnet50", **keys)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.dtype("bfloat16"), "bfloat16"])
def test_a_dtype_and_its_name_are_the_same_network(dtype):
    assert named_model("cifar-resnet8", dtype=dtype).dtype == jnp.bfloat16
    config = default_config()
    with config.ignore_type():
        config.model.dtype = dtype
    use_own_values(config)
    assert config.model.dtype == "bfloat16"


def test_a_named_model_takes_a_norm_by_its_kind_or_by_keys():
    config, _, classes = preset("cifar-resnet8")
    config.norm.kind = "group"
    assert ByValue(named_model("cifar-resnet8", norm="group")) == ByValue(
        build_model(config, classes)
    )
    config.norm.groups, config.norm.epsilon = 4, 1e-3
    for norm in ({"kind": "group", "groups": 4, "epsilon": 1e-3}, config.norm):
        model = named_model("cifar-resnet8", norm=norm)
        assert ByValue(model) == ByValue(build_model(config, classes))
