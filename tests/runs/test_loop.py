import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resjax.config import ConfigError
from resjax.data.augment import Augmentation
from resjax.data.batch import Batch
from resjax.data.digits import digits
from resjax.data.orders import training_order
from resjax.data.resident import to_device
from resjax.data.source import Split
from resjax.data.statistics import no_statistics
from resjax.models.summary import count_parameters
from resjax.models.trace import initial_variables
from resjax.report.report import write_report
from resjax.runs import checkpoint, disk, rundir, status
from resjax.runs.divergence import Diverged
from resjax.runs.loop import train_and_evaluate
from resjax.runs.manifest import describe_execution
from resjax.runs.weights import read_weights, write_weights
from resjax.sweeps.local import before
from resjax.training.losses import cross_entropy
from resjax.training.metrics import Metrics, measure
from resjax.training.plan import make_plan
from resjax.training.state import create_state
from resjax.training.step import eval_step, train_step, train_steps
from tests.drawn import normal


def lines(path):
    return disk.read_lines(path)


@pytest.mark.slow
def test_a_run_leaves_its_files_and_a_result_that_repeats_bit_for_bit(tiny, tmp_path):
    first = train_and_evaluate(tiny, tmp_path / "first")
    second = train_and_evaluate(tiny, tmp_path / "second")
    assert {path.name.partition(".17")[0] for path in (tmp_path / "first").iterdir()} == {
        "config.json", "manifest.json", "metrics.jsonl", "timing.jsonl", "result.json",
        "checkpoints", "events.out.tfevents", "weights.safetensors",
    }  # fmt: skip
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("first", "second")]
    assert curves[0] == curves[1]
    assert (first.train_error, first.train_loss) == (second.train_error, second.train_loss)
    assert [line["step"] for line in lines(tmp_path / "first" / "metrics.jsonl")] == [10, 20]
    assert first.steps == 20
    manifest = disk.read_json(tmp_path / "first" / "manifest.json")
    assert manifest["params"] == first.params
    assert (manifest["data"]["classes"], manifest["data"]["train"]) == (10, 1437)
    assert manifest["devices"]["platform"] == jax.default_backend()
    execution = manifest["execution"]
    assert (execution.pop("cpus"), execution.pop("jax")) == (
        manifest["devices"]["cpus"], jax.__version__,
    )  # fmt: skip
    assert execution.pop("jaxlib") == jax.lib.__version__
    assert execution == {
        "eval.batch_size": 500, "model.conv": "auto", "model.remat": False, "model.unroll": "auto",
        "train.steps_per_call": 0, "steps_per_call": 1 if jax.default_backend() == "cpu" else 20,
        "blocks_per_iteration": [1, 1, 1],
        "kernels": "native" if jax.default_backend() == "cpu" else "xla",
        "data.dir": "", "data.resident_bytes": 2**31, "data.workers": 0,
        "train.devices": 0, "train.micro_batches": 1, "train.parallel": "jit",
        "checkpoint.keep": 2, "checkpoint.seconds": tiny.checkpoint.seconds,
        "log.histograms": False, "log.writers": ["tensorboard"],
        "eval.tune": [], "resources.tpu": "",
        "resources.cpus": 1.0, "resources.gpus": 0.0, "resources.retries": 3,
        "eval.probes": "", "eval.probe_examples": 512,
        "train.side_by_side": 0, "side_by_side": None,
        "matmul_precision": None, "x64": None,
        "devices": 1, "hosts": 1, "device": jax.devices()[0].device_kind,
    }  # fmt: skip
    assert set(first.seconds) == {"compile", "train", "eval"}


def test_the_precision_of_products_is_part_of_how_a_run_is_executed(tiny):
    plan = make_plan(tiny)
    with jax.default_matmul_precision("highest"):
        assert describe_execution(plan)["matmul_precision"] == "highest"


@pytest.mark.slow
def test_a_done_run_is_read_and_not_trained(tiny, tmp_path, monkeypatch):
    summary = train_and_evaluate(tiny, tmp_path)
    monkeypatch.setattr("resjax.runs.loop.fit", None)
    assert train_and_evaluate(tiny, tmp_path) == summary


@pytest.mark.slow
def test_an_unfinished_run_starts_anew(tiny, tmp_path):
    expected = train_and_evaluate(tiny, tmp_path / "whole")
    train_and_evaluate(tiny, tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    assert rundir.run_state(tmp_path / "cut") == rundir.UNFINISHED
    again = train_and_evaluate(tiny, tmp_path / "cut")
    assert again.train_loss == expected.train_loss
    assert len(lines(tmp_path / "cut" / "metrics.jsonl")) == 2


@pytest.mark.slow
def test_another_config_is_refused_with_the_keys_that_differ(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path)
    tiny.model.shortcut = "none"
    with pytest.raises(ConfigError, match=r"model.shortcut is 'identity' there, 'none' here\)"):
        train_and_evaluate(tiny, tmp_path)


@pytest.mark.slow
def test_execution_settings_do_not_make_another_run(tiny, tmp_path, monkeypatch):
    summary = train_and_evaluate(tiny, tmp_path)
    tiny.model.unroll = "1"
    monkeypatch.setattr("resjax.runs.loop.fit", None)
    assert train_and_evaluate(tiny, tmp_path) == summary


@pytest.mark.slow
@pytest.mark.parametrize("steps_per_call", [1, 7])
def test_divergence_names_the_steps_and_the_learning_rate(tiny, tmp_path, steps_per_call):
    tiny.optim.learning_rate, tiny.train.steps_per_call = 1e20, steps_per_call
    with pytest.raises(Diverged, match="between steps 1 and 10, at a learning rate of up to 1e"):
        train_and_evaluate(tiny, tmp_path)
    assert rundir.run_state(tmp_path) == rundir.FAILED


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "steps_per_call"), [(3, 4), (0, 1)])
def test_a_run_equals_a_loop_written_with_optax_alone(tiny, tmp_path, seed, steps_per_call):
    """Twenty steps and both evaluations with stock optax and a loss written out, in float64."""
    with jax.enable_x64(True):
        tiny.model.dtype, tiny.seed = "float64", seed
        tiny.train.steps_per_call = steps_per_call
        tiny.optim.schedule, tiny.optim.milestones = "step", ("10 steps",)
        train_and_evaluate(tiny, tmp_path)
        model, source = make_plan(tiny).model, digits()
        pixels = source.train.images.astype(np.float64)
        mean, deviation = np.float32(pixels.mean()), np.float32(pixels.std())

        def images(split, index=slice(None)):
            return (np.float32(split.images[index]) - mean) / deviation

        variables = initial_variables(model, jax.random.key(seed), (8, 8, 1))
        params, batch_stats = variables["params"], variables["batch_stats"]
        rule = optax.chain(optax.add_decayed_weights(1e-4), optax.trace(0.9))
        opt_state = rule.init(params)

        def cross_entropy(logits, labels):
            return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]

        @jax.jit
        def updated(params, batch_stats, opt_state, images, labels, rate):
            def loss_of(params):
                logits, new = model.apply(
                    {"params": params, "batch_stats": batch_stats},
                    images, train=True, mutable=["batch_stats"],
                )  # fmt: skip
                errors = (logits.argmax(-1) != labels).sum()
                return cross_entropy(logits, labels).mean(), (new["batch_stats"], errors)

            found, gradient = jax.value_and_grad(loss_of, has_aux=True)(params)
            updates, opt_state = rule.update(gradient, opt_state, params)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            return params, opt_state, found

        @jax.jit
        def evaluated(params, batch_stats, images, labels):
            tree = {"params": params, "batch_stats": batch_stats}
            logits = model.apply(tree, images, train=False)
            return cross_entropy(logits, labels).mean(), (logits.argmax(-1) != labels).mean()

        lines_expected, losses, errors = [], [], 0
        for t in range(20):
            index = training_order(seed, t, 100, 1437)
            labels = source.train.labels[index]
            rate = 0.05 if t < 10 else 0.005
            batch = images(source.train, index), labels
            params, opt_state, (loss, (batch_stats, wrong)) = updated(
                params, batch_stats, opt_state, *batch, np.float32(rate)
            )
            losses, errors = [*losses, float(loss)], errors + int(wrong)
            if t % 10 == 9:
                line = {
                    "learning_rate": rate,
                    "batch_loss": np.mean(losses),
                    "batch_error": errors / 1000,
                }
                for name, split in (("train", source.train), ("test", source.test)):
                    found = evaluated(params, batch_stats, images(split), split.labels)
                    line[f"{name}_loss"], line[f"{name}_error"] = map(float, found)
                lines_expected, losses, errors = [*lines_expected, line], [], 0
        for got, expected in zip(lines(tmp_path / "metrics.jsonl"), lines_expected, strict=True):
            assert {key: got[key] for key in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_grown_run_goes_on_where_the_shallow_one_was(tiny, tmp_path):
    """The training error does not jump when the plain net becomes deeper."""
    tiny.model.shortcut, tiny.model.depth, tiny.model.dtype = "none", 14, "float64"
    tiny.train.grow_from, tiny.train.grow_at = 8, "10 steps"
    summary = train_and_evaluate(tiny, tmp_path)
    before, after = lines(tmp_path / "metrics.jsonl")
    assert before["grown_train_error"] == before["train_error"]
    assert before["grown_test_loss"] == pytest.approx(before["test_loss"], rel=1e-9)
    assert "grown_train_error" not in after
    assert summary.params > count_parameters(
        initial_variables(make_plan(tiny).shallow, jax.random.key(0), (8, 8, 1))["params"]
    )


@pytest.mark.slow
def test_growing_takes_the_parameters_and_averages_anew(tiny, tmp_path):
    """An average of no steps is nothing: what was grown is evaluated as it is."""
    tiny.model.depth, tiny.train.grow_from, tiny.train.grow_at = 14, 8, "10 steps"
    train_and_evaluate(tiny, tmp_path / "parameters")
    tiny.train.ema_decay = 0.5
    train_and_evaluate(tiny, tmp_path / "averages")
    (one, end), (other, averaged) = (
        lines(tmp_path / name / "metrics.jsonl") for name in ("parameters", "averages")
    )
    assert other["train_loss"] != one["train_loss"] == one["grown_train_loss"]
    assert other["grown_train_loss"] == one["grown_train_loss"]
    assert averaged["batch_loss"] == end["batch_loss"]
    assert averaged["train_loss"] != end["train_loss"]


def grown(config):
    config.model.shortcut, config.model.depth = "none", 14
    config.train.grow_from, config.train.grow_at = 8, "11 steps"


def with_random_branches(config):
    config.model.stochastic_depth = 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "steps_per_call"),
    [
        (grown, 6),
        (with_random_branches, 3),
        (with_random_branches, 30),
    ],
)
def test_steps_in_one_call_are_those_of_single_calls(tiny, tmp_path, change, steps_per_call):
    """In float64, with evaluations where a call is not full, or at the end of none."""
    change(tiny)
    tiny.eval.every = "7 steps"
    curves = []
    with jax.enable_x64(True):
        tiny.model.dtype = "float64"
        for k in (1, steps_per_call):
            tiny.train.steps_per_call = k
            train_and_evaluate(tiny, tmp_path / str(k))
            curves.append(lines(tmp_path / str(k) / "metrics.jsonl"))
    for line, expected in zip(*curves, strict=True):
        assert line == pytest.approx(expected, rel=1e-9)


def test_one_step_in_a_call_is_compiled_without_a_loop(tiny):
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 0, (8, 8, 1))
    split = to_device(plan.source.train, *no_statistics(plan.source.train.images))

    def program(k):
        step = functools.partial(
            train_steps, plan.model, cross_entropy, plan.optimizer.update, Augmentation(), "stop"
        )
        index, rates = np.zeros((k, 1, 4), np.int32), np.zeros(k, np.float32)
        return jax.jit(step).lower(state, split, (index, index), rates, 1, 0).as_text()

    assert "stablehlo.while" not in program(1)
    assert "stablehlo.while" in program(2)


@pytest.mark.slow
def test_progress_is_told_after_every_call(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)
    tiny.train.steps_per_call = 4
    told = []
    train_and_evaluate(tiny, tmp_path, told.append)
    assert [p.step for p in told if p.phase == "training"] == [4, 8, 10, 14, 18, 20]
    assert [p.step for p in told if p.phase == "evaluating"] == [10, 20]
    assert all(p.loss > 0 for p in told if p.phase == "training")


@pytest.mark.parametrize(("platform", "asked", "taken"), [
    ("cpu", 0, 1), ("gpu", 0, 20), ("tpu", 0, 20), ("METAL", 0, 1), ("cpu", 3, 3), ("gpu", 1, 1),
])  # fmt: skip
def test_the_platform_chooses_the_steps_in_a_call_if_the_config_does_not(
    tiny, monkeypatch, platform, asked, taken
):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    tiny.train.steps_per_call = asked
    assert make_plan(tiny).steps_per_call == taken


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_evaluation_does_not_depend_on_the_batch_size(tiny, tmp_path):
    tiny.model.dtype, results = "float64", []
    for size in (1437, 97):
        tiny.eval.batch_size = size
        results.append(train_and_evaluate(tiny, tmp_path / str(size)))
    assert results[0].train_error == results[1].train_error
    assert results[0].test_loss == pytest.approx(results[1].test_loss, rel=1e-9)


def test_metrics_count_the_valid_examples():
    logits = jnp.array([[2.0, 0.0], [2.0, 0.0], [jnp.nan, 0.0], [0.0, 0.0]])
    valid = jnp.array([True, True, True, False])
    labels = jnp.array([0, 1, 0, 1])
    losses = cross_entropy(logits, labels)
    metrics = measure(losses, logits, labels, valid)
    assert (int(metrics.errors), int(metrics.examples)) == (2, 3)
    assert not np.isfinite(metrics.loss)
    assert np.isfinite(measure(losses, logits, labels, valid & jnp.isfinite(losses)).loss)
    ones = measure(losses[:2], logits[:2], labels[:2])
    twice = (ones + ones + Metrics.zero(jnp.float32)).means()
    assert twice["error"] == 0.5
    # Of two float32 that are rounded a few times, by 6e-8 of 2.
    assert twice["loss"] == pytest.approx(np.log(1 + np.exp(2)) - 1, rel=1e-5)


def test_the_initial_state_is_what_the_network_draws(tiny):
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 5, (8, 8, 1))
    expected = initial_variables(plan.model, jax.random.key(5), (8, 8, 1))
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, drawn, expected)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_evaluation_uses_the_running_statistics(tiny):
    tiny.model.dtype = "float64"
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 0, (8, 8, 1))
    images = normal(0, (6, 8, 8, 1))

    def evaluate(images):
        batch = Batch(images, jnp.zeros(len(images), int))
        return eval_step(
            plan.model, cross_entropy, state.evaluated(), batch, jnp.ones(len(images), bool)
        )

    whole, single = evaluate(images), [evaluate(images[i : i + 1]) for i in range(6)]
    assert float(whole.loss) == pytest.approx(sum(float(part.loss) for part in single), rel=1e-9)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.depth", 57, r"57 is not 6n\+2; nearest: 56, 62"),
        ("model.shortcut", "skip", "choose one of: none, identity, projection, projection_all"),
        ("model.kernel_init", "he", "choose one of: he_normal, he_normal_fan_in, lecun_normal"),
        ("model.unroll", "some", "not a positive number, nor 'all' or 'auto'"),
        ("model.dtype", "float64", "JAX_ENABLE_X64=1"),
        ("train.devices", 9, r"train.devices=9, but JAX sees 1 \(cpu\); use 0"),
        ("train.parallel", "xmap", "choose one of: jit, pmap"),
        (
            "train.micro_batches",
            3,
            "by 1 device in 3 micro-batches; nearest: 99, 102; or change train.m",
        ),
        ("train.micro_batches", 4, "norm.examples=0 is the whole batch of 100, .* has 25; set"),
        ("norm.examples", 48, "48 does not divide train.batch_size=100; set norm.examples=50, or"),
        ("eval.statistics", "exact", "choose one of: running, precise"),
        ("eval.statistics", "precise", "set eval.precise_batches=32 or so"),
        ("train.ema_decay", 1.0, "is not a decay from 0 to below 1"),
        ("optim.adapted", "some", "choose one of: all, kernels"),
        ("data.name", "mnist", "unknown data.name 'mnist'; choose one of: digits"),
        ("train.batch_size", 1438, "larger than the training set of 1437 examples"),
        ("train.duration", "0 epochs", "is empty"),
        ("eval.every", "0 epochs", "is empty"),
        ("optim.decayed", "some", "choose one of: all, kernels"),
        ("optim.milestones", ("200 days",), "duration '200 days' is not understood"),
        ("train.grow_from", 20, "no stage may lose any"),
        ("train.duration", "1e30 epochs", "the most are 100000000"),
        ("model.name", "imagenet", "ImageNet depth 8 is not one of"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(
    tiny, tmp_path, key, value, message
):
    tiny.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_batches_with_a_loss_that_is_not_finite_are_skipped_and_counted(
    tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        "resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0
    )  # as on a device whose steps are slow
    whole = digits()
    images = np.float32(whole.train.images)
    lost = training_order(0, 0, 100, 1437)[0]  # an image of the first step
    images[lost] = np.nan
    damaged = dataclasses.replace(whole, train=Split(images, whole.train.labels))
    monkeypatch.setattr("resjax.data.sources.load", lambda *_: damaged)
    tiny.data.standardise, tiny.train.on_nan = "none", "skip"
    summary = train_and_evaluate(tiny, tmp_path)
    with_it = [lost in training_order(0, step, 100, 1437) for step in range(20)]
    assert summary.skipped_updates == sum(with_it) > 0
    counts = [line["skipped_updates"] for line in lines(tmp_path / "metrics.jsonl")]
    assert counts == [sum(with_it[:10]), sum(with_it)]
    assert summary.test_error < 0.8  # it has learnt


@pytest.mark.slow
@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_step_that_is_not_finite_changes_nothing_or_everything(tiny, on_nan):
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 0, (8, 8, 1), 0.9)
    images = jnp.full((1, 4, 8, 8, 1), jnp.nan)
    batch = Batch(images, jnp.zeros((1, 4), int))
    step = functools.partial(
        train_step, plan.model, cross_entropy, plan.optimizer.update, on_nan=on_nan
    )
    after, _ = jax.jit(step)(state, batch, jax.random.key(0), 0.1)
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b),
        after.replace(step=0, skipped_updates=0),
        state.replace(step=0, skipped_updates=0),
    )
    assert any(jax.tree.leaves(changed)) == (on_nan == "stop")
    assert (int(after.step), int(after.skipped_updates)) == (1, on_nan == "skip")


@pytest.mark.slow
def test_a_run_all_of_whose_updates_are_skipped_fails(tiny, tmp_path, monkeypatch):
    tiny.train.on_nan = "skip"
    monkeypatch.setattr("resjax.training.initial.create_state", with_lost_parameters)
    with pytest.raises(Diverged, match=r"no update between steps 1 and 1?\d had a finite loss"):
        train_and_evaluate(tiny, tmp_path)


def with_lost_parameters(*arguments):
    state = create_state(*arguments)
    return state.replace(params=jax.tree.map(lambda leaf: leaf * jnp.nan, state.params))


@pytest.mark.slow
def test_a_network_that_the_last_update_destroys_ends_without_a_finite_loss(tiny, tmp_path):
    tiny.norm.kind, tiny.train.duration, tiny.optim.learning_rate = "none", "1 step", 1e25
    ended = train_and_evaluate(tiny, tmp_path / "run")
    again = train_and_evaluate(tiny, tmp_path / "run")
    _, outcome = before(tmp_path / "run")
    for summary in (ended, again, outcome.summary):
        assert (summary.train_error, summary.test_error) == (1.0, 1.0)
        assert not np.isfinite([summary.train_loss, summary.test_loss]).any()
    [line] = lines(tmp_path / "run" / "metrics.jsonl")
    assert (line["test_error"], line["test_loss"]) == (1.0, None)
    assert checkpoint.newest(tmp_path / "run")[1].lines == [line]
    assert status.look(tmp_path / "run").test_error == 1.0
    table = (write_report(tmp_path).directory / "table.md").read_text()
    assert "| inf |" in table
    assert "0.0000" not in table


def test_weights_are_written_in_the_same_bytes_every_time(tiny, tmp_path):
    tiny.train.duration = "1 steps"
    train_and_evaluate(tiny, tmp_path)
    weights = read_weights(tmp_path)
    for number in range(8):  # several keys of metadata would come in another order
        write_weights(tmp_path / f"{number}.safetensors", weights)
    written = {path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    assert len(written) == 1
