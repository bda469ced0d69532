"""What a config becomes before anything is compiled."""

import warnings

import jax
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.runs.loop import train_and_evaluate
from resjax.runs.manifest import describe_execution
from resjax.runs.plans import MOST_PLANS, Plans
from resjax.runs.rundir import read_metrics
from resjax.training.plan import make_plan


@pytest.mark.parametrize(("keys", "warned"), [
    ({"train.batch_size": 1}, True),
    ({"train.batch_size": 2}, False),
    ({"norm.examples": 1}, True),
    ({"train.batch_size": 1, "norm.kind": "none"}, False),
    ({"train.batch_size": 1, "data.name": "fake:16x16x1:3:8"}, False),
    ({"norm.kind": "group", "norm.groups": 2}, False),
    ({"norm.kind": "group", "norm.groups": 2, "model.name": "mlp"}, True),
    ({"norm.kind": "group", "norm.groups": 1, "model.name": "mlp"}, False),
])  # fmt: skip
def test_a_normalisation_of_single_values_is_warned_of(tiny, keys, warned):
    tiny.data.name = "fake:4x4x1:3:8"
    tiny.train.batch_size = 4
    tiny.update_from_flattened_dict(keys)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_plan(tiny)
    kind = "GroupNorm" if tiny.norm.kind == "group" else "BatchNorm"
    assert [str(each.message).startswith(f"{kind} over one") for each in told] == [True] * warned


@pytest.mark.slow
def test_a_run_has_the_same_bits_whatever_generator_jax_is_told_to_use(tiny, tmp_path):
    tiny.model.stochastic_depth = 0.2
    train_and_evaluate(tiny, tmp_path / "before")
    settings = {"jax_default_prng_impl": "rbg", "jax_threefry_partitionable": False}
    before = {name: getattr(jax.config, name) for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        train_and_evaluate(tiny, tmp_path / "after")
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    curves = [read_metrics(tmp_path / run) for run in ("before", "after")]
    assert curves[0] == curves[1]


def test_wide_arrays_are_part_of_how_a_run_is_executed(tiny):
    assert describe_execution(make_plan(tiny))["x64"] is None
    with jax.enable_x64(True):
        assert describe_execution(make_plan(tiny))["x64"] is True


@pytest.mark.parametrize(("setting", "value"), [
    ("jax_numpy_dtype_promotion", "strict"),
    ("jax_numpy_rank_promotion", "raise"),
    ("jax_disable_jit", True),
])  # fmt: skip
def test_settings_that_nothing_can_be_computed_with_are_refused(tiny, setting, value):
    before = getattr(jax.config, setting)
    jax.config.update(setting, value)
    try:
        with pytest.raises(ConfigError, match=f"{setting.upper()}={value} .* unset it"):
            make_plan(tiny)
    finally:
        jax.config.update(setting, before)


def test_a_training_makes_one_plan(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("resjax.training.plan.validate", made.append)
    words = ["--config.model.depth=8", "--config.model.width=2", "--config.train.duration=1 steps"]
    experiment = "--config=experiments/degradation.py"
    assert main(["train", experiment, *words, f"--workdir={tmp_path / 'run'}"]) == 0
    assert len(made) == 1


def test_runs_that_differ_in_their_seed_share_a_plan_and_few_are_kept(tiny):
    plans = Plans()
    tiny.seed = 3
    first = plans.of(tiny)
    tiny.seed = 5
    second = plans.of(tiny)
    assert first.source is second.source
    assert first.model is second.model
    assert (first.seed, second.seed) == (3, 5)
    assert second.config.seed == 5
    for depth in range(14, 14 + 6 * MOST_PLANS, 6):
        tiny.model.depth = depth
        plans.of(tiny)
    tiny.model.depth = 8
    assert plans.of(tiny).model is not first.model


def test_plans_keep_few_images_and_those_of_the_last_run_whatever_they_are(tiny, monkeypatch):
    plans, config = Plans(), tiny.copy_and_resolve_references()
    config.data.train = "train[:50%]"
    half, whole = plans.of(config), plans.of(tiny)
    assert plans.of(config).source is half.source
    monkeypatch.setattr("resjax.runs.plans.MOST_BYTES", half.source.image_bytes)
    assert plans.of(tiny).source is whole.source
    assert plans.of(config).source is not half.source


def test_the_plan_that_was_not_used_for_longest_is_dropped(tiny, monkeypatch):
    made = []
    monkeypatch.setattr("resjax.runs.plans.MOST_PLANS", 2)
    monkeypatch.setattr(
        "resjax.runs.plans.make_plan", lambda *given: made.append(0) or make_plan(*given)
    )
    plans = Plans()
    for depth, expected in ((8, 1), (14, 2), (8, 2), (20, 3), (8, 3), (14, 4)):
        tiny.model.depth = depth
        plans.of(tiny)
        assert len(made) == expected, depth


@pytest.mark.parametrize(("keys", "message"), [
    ({"model.depth": 57}, "57 is not 6n"),
    ({"model.stem": "dense"}, "model.stem=dense does not fit"),
    ({"train.grow_from": 20}, "no stage may lose any"),
    ({"train.devices": 9}, "JAX sees"),
    ({"train.micro_batches": 3}, "nearest: 99, 102; or change train.micro_batches"),
    ({"train.batch_size": 128, "norm.examples": 33}, "set norm.examples=32, or another"),
    ({"norm.examples": 48}, "set norm.examples=50, or another"),
    ({"eval.statistics": "precise"}, "set eval.precise_batches=32"),
    ({"eval.tune": ("optim.learning_rat",)}, "optim.learning_rate"),
    ({"eval.tune": ("model.depth",)}, "eval.tune cannot name model.depth"),
])  # fmt: skip
def test_a_mistake_in_the_config_is_told_before_the_data_are_read(tiny, keys, message):
    def load(name, request):
        pytest.fail("the data are read")

    tiny.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        make_plan(tiny, load)
