"""Straight-line code where its shorter steps are worth its longer compilation."""

import pytest

from resjax.config import default_config
from resjax.models.build import named_model
from resjax.models.networks import cifar, imagenet, mlp
from resjax.models.resnet import EVERY_BLOCK
from resjax.models.summary import layer_records
from resjax.ops import native
from resjax.ops.platform import traced_for
from resjax.training.plan import make_plan
from resjax.training.unrolling import choose_unrolling, multiply_adds_of_blocks


@pytest.fixture(autouse=True)
def with_kernels(monkeypatch):
    monkeypatch.setattr(native, "can_be_built", lambda: True)


@pytest.mark.parametrize(
    ("spec", "size", "steps", "chosen"),
    [
        (cifar(56, 8), (8, 8), 20, EVERY_BLOCK),  # straight-line code compiles as fast
        (cifar(218, 8), (8, 8), 20, 1),
        (cifar(218, 8), (8, 8), 3000, EVERY_BLOCK),
        (cifar(1202), (32, 32), 100_000, 1),  # never measured
        (imagenet(50), (224, 224), 1, EVERY_BLOCK),
        (mlp(100), (8, 8), 10, 1),
    ],
    ids=str,
)
def test_the_choice_is_by_blocks_steps_and_size(spec, size, steps, chosen):
    assert choose_unrolling(spec, size, 64, steps) == chosen


@pytest.mark.parametrize(
    ("spec", "size", "steps", "chosen"),
    [
        (cifar(110), (32, 32), 1000, 1),
        (cifar(110), (32, 32), 64_000, EVERY_BLOCK),  # of the paper, whose steps are 4 ms shorter
        (cifar(1202), (32, 32), 64_000, 1),  # compiles for minutes
    ],
    ids=str,
)
def test_on_a_gpu_steps_are_shorter_and_more_of_them_are_needed(spec, size, steps, chosen):
    with traced_for("gpu"):
        assert choose_unrolling(spec, size, 128, steps) == chosen


def test_where_nothing_was_measured_the_network_chooses():
    with traced_for("tpu"):
        assert choose_unrolling(cifar(56), (32, 32), 64, 1000) is None


def test_without_kernels_the_network_chooses(monkeypatch):
    monkeypatch.setattr(native, "can_be_built", lambda: False)
    assert choose_unrolling(cifar(56), (32, 32), 64, 1000) is None


@pytest.mark.parametrize("name", ["resnet50", "cifar-resnet56", "cifar-resnet164-bottleneck"])
def test_multiply_adds_are_those_of_the_layers(name):
    model, shape = named_model(name), (64, 64, 3)
    counted = sum(
        record.multiply_adds
        for record in layer_records(model, shape)
        if "rest" in record.path and not record.in_shortcut
    )
    assert multiply_adds_of_blocks(model.spec, shape[:2]) == counted


def test_what_is_asked_for_is_done():
    config = default_config()
    config.model.depth, config.model.width = 218, 2
    config.train.duration = "20 steps"
    assert make_plan(config).model.unroll == 1
    config.model.unroll = "all"
    assert make_plan(config).model.unroll == EVERY_BLOCK
