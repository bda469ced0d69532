import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.data.batch import Batch
from resjax.data.orders import training_order
from resjax.runs.loop import train_and_evaluate
from resjax.training.evaluation import Measurer, combine_batches
from resjax.training.feeds import ResidentFeed
from resjax.training.losses import cross_entropy
from resjax.training.plan import make_plan
from resjax.training.state import Average, create_state
from resjax.training.step import train_step
from tests.drawn import normal


def test_moments_of_batches_are_put_together_by_the_law_of_total_variance():
    x = np.random.default_rng(0).normal(3, 2, (4, 50, 7)) + np.arange(4)[:, None, None]
    parts = [{"norm": {"mean": part.mean(0), "var": part.var(0)}} for part in x]
    whole = combine_batches(parts)["norm"]
    np.testing.assert_allclose(whole["mean"], x.mean((0, 1)))
    np.testing.assert_allclose(whole["var"], x.var((0, 1)))


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_precise_statistics_of_the_first_layer_are_those_of_all_images_at_once(tiny):
    """What enters the first normalisation does not depend on another."""
    tiny.model.dtype = "float64"
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 0, (8, 8, 1))
    feed, variables = ResidentFeed(plan), state.evaluated()
    measure = Measurer(plan.model, variables, (8, 8, 1), 100, plan.parallel)
    found = measure(variables, feed.training_batches(range(5)))
    order = [training_order(0, step, 100, 1437) for step in range(5)]
    images = feed.data.take(np.concatenate(order)).images.astype(jnp.float64)
    kernel = state.params["stem"]["conv1"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    stem = found["stem"]["norm1"]
    # Images are standardised in float32, which rounds each of them a few times by 6e-8.
    np.testing.assert_allclose(stem["mean"], convolved.mean((0, 1, 2)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(stem["var"], convolved.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_a_run_tells_its_errors_by_batch_running_and_precise_statistics(tiny, tmp_path):
    tiny.eval.precise_batches = 4
    running = train_and_evaluate(tiny, tmp_path / "running")
    tiny.eval.statistics = "precise"
    precise = train_and_evaluate(tiny, tmp_path / "precise")
    assert set(running.statistics) == {"batch", "running", "precise"}
    for summary, kind in ((running, "running"), (precise, "precise")):
        assert summary.statistics[kind]["test_loss"] == summary.test_loss
        recorded = json.loads((tmp_path / kind / "result.json").read_text())
        assert recorded["statistics"] == summary.statistics
    assert running.statistics == precise.statistics  # the training is the same
    losses = {kind: means["train_loss"] for kind, means in running.statistics.items()}
    # After 20 steps the running statistics still hold an eighth of where they began.
    assert abs(losses["precise"] - losses["batch"]) < abs(losses["running"] - losses["batch"])


def test_a_run_without_precise_batches_measures_none(tiny, tmp_path):
    assert train_and_evaluate(tiny, tmp_path).statistics is None
    assert "statistics" not in json.loads((tmp_path / "result.json").read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_average_is_the_sum_of_all_steps_with_weights_that_decay(tiny):
    tiny.model.dtype = "float64"
    plan = make_plan(tiny)
    state = create_state(plan.model, plan.optimizer, 0, (8, 8, 1), ema_decay=0.7)
    drawn = {"params": state.params, "batch_stats": state.batch_stats}
    jax.tree.map(np.testing.assert_array_equal, state.evaluated(), drawn)  # nothing to average yet
    images = normal(0, (1, 8, 8, 8, 1))
    batch = Batch(images, jnp.arange(8)[None])
    seen, step = [], functools.partial(train_step, plan.model, cross_entropy, plan.optimizer.update)
    for _ in range(4):
        state, _ = jax.jit(step)(state, batch, jax.random.key(0), jnp.float32(0.1))
        seen.append({"params": state.params, "batch_stats": state.batch_stats})
    weights = 0.7 ** np.arange(3, -1, -1)
    weights /= weights.sum()
    expected = jax.tree.map(lambda *values: np.tensordot(weights, np.stack(values), 1), *seen)
    jax.tree.map(  # the weights have float32, and are rounded a few times by 6e-8
        lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-6), state.evaluated(), expected
    )
    assert isinstance(state.average, Average)


@pytest.mark.slow
def test_evaluation_is_of_the_average(tiny, tmp_path):
    tiny.optim.schedule = "constant"
    plain = train_and_evaluate(tiny, tmp_path / "plain")
    tiny.train.ema_decay = 0.9
    averaged = train_and_evaluate(tiny, tmp_path / "averaged")
    assert averaged.train_loss != plain.train_loss
    lines = [
        (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        for name in ("plain", "averaged")
    ]
    batches = [[json.loads(line)["batch_loss"] for line in run] for run in lines]
    assert batches[0] == batches[1]  # the training is the same
