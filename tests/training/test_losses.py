"""Losses by name: equal to those of PyTorch, and at home in training, evaluation and probes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.data.batch import Batch
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.probes.gradients import gradients
from resjax.probes.measure import compute_probes
from resjax.probes.table import PROBES
from resjax.runs.disk import read_lines
from resjax.runs.loop import train_and_evaluate
from resjax.runs.probing import probe_run
from resjax.runs.rundir import read_metrics
from resjax.runs.weights import read_weights
from resjax.training.evaluation import measuring
from resjax.training.feeds import make_feed
from resjax.training.losses import cross_entropy, squared_error
from resjax.training.metrics import measure
from resjax.training.plan import make_plan
from tests.drawn import normal
from tests.models.compiled import quick, scrambled

pytestmark = pytest.mark.usefixtures("unoptimised")

LABELS = np.array([0, 4, 2, 2])


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_that_of_torch(smoothing):
    torch = pytest.importorskip("torch")
    logits = 5 * normal(0, (4, 5))
    theirs = torch.nn.functional.cross_entropy(
        torch.from_numpy(np.array(logits)), torch.from_numpy(LABELS), reduction="none",
        label_smoothing=smoothing,
    )  # fmt: skip
    np.testing.assert_allclose(cross_entropy(logits, LABELS, smoothing), theirs, 1e-9)


@pytest.mark.usefixtures("double")
def test_squared_error_is_its_sum():
    logits = 5 * np.array(normal(0, (4, 5)))
    expected = [sum((logits[n, c] - (c == LABELS[n])) ** 2 for c in range(5)) / 5 for n in range(4)]
    np.testing.assert_allclose(squared_error(jnp.array(logits), LABELS), expected, 1e-12)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train.loss": "hinge"}, "choose one of: cross_entropy, mse"),
        ({"train.loss": "mse", "train.label_smoothing": 0.1}, "is of train.loss=cross_entropy"),
        ({"train.label_smoothing": 1.0}, r"train\.label_smoothing=1\.0 is not a share"),
        ({"train.label_smoothing": -0.1}, r"train\.label_smoothing=-0\.1 is not a share"),
    ],
)
def test_losses_that_there_are_not_are_refused(tiny, keys, message):
    tiny.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        make_plan(tiny)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_a_probe_has_the_gradient_of_the_loss_that_is_trained(tiny):
    tiny.model.dtype = "float64"
    model = build_model(tiny, 10)
    variables = scrambled(variable_shapes(model, (8, 8, 1)))
    batch = Batch(normal(0, (6, 8, 8, 1)), jnp.arange(6))

    def mean(params):
        logits, _ = measuring(model).apply(
            variables | {"params": params}, batch.images, train=False, mutable=["batch_stats"]
        )
        return measure(squared_error(logits, batch.labels), logits, batch.labels).loss / 6

    expected = quick(jax.grad(mean))(variables["params"])["stage3"]["first"]
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(expected)))
    found = quick(lambda v, b: gradients(model, v, b, loss=squared_error))(variables, batch)
    assert found["parameters"][-1] == pytest.approx(norm, rel=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_the_probes_of_a_loss_are_of_the_one_they_are_told(tiny):
    """In a plain net all of the gradient comes through the branch."""
    tiny.model.update({"dtype": "float64", "shortcut": "none"})
    model = build_model(tiny, 10)
    variables = scrambled(variable_shapes(model, (8, 8, 1)))
    batch = Batch(normal(0, (6, 8, 8, 1)), jnp.arange(6))
    names = [name for name, probe in PROBES.items() if probe.of_loss]
    assert set(names) == {"gradients", "paths", "surface"}
    found = compute_probes(names, model, variables, {"train": batch}, lambda _: None, squared_error)
    expected = quick(lambda v, b: gradients(model, v, b, loss=squared_error))(variables, batch)
    np.testing.assert_allclose(found["gradients"]["input"], expected["input"], 1e-9)
    np.testing.assert_allclose(found["paths"]["through_branch"], expected["input"], 1e-9)
    logits = quick(lambda v, x: model.apply(v, x, train=False))(variables, batch.images)
    losses = found["surface"]["loss"]
    middle = losses[tuple(size // 2 for size in losses.shape)]
    assert middle == pytest.approx(float(squared_error(logits, batch.labels).mean()), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [{"train.loss": "mse"}, {"train.label_smoothing": 0.2}], ids=["mse", "smoothed"]
)
def test_a_run_trains_by_its_loss_and_evaluates_it_without_smoothing(tiny, tmp_path, keys):
    plain = train_and_evaluate(tiny, tmp_path / "plain")
    tiny.update_from_flattened_dict(keys | {
        "eval.probes": "gradients", "eval.probe_examples": 20,
        "eval.precise_batches": 2, "eval.batch_size": 360,
    })  # fmt: skip
    run = tmp_path / "run"
    summary = train_and_evaluate(tiny, run)
    assert summary.train_error < 0.91
    assert summary.train_loss != plain.train_loss
    [*_, line] = read_metrics(run)
    if "train.loss" in keys:
        assert summary.train_loss < 1
    else:  # what is spread over the classes adds to the loss of a batch
        assert line["batch_loss"] > line["train_loss"]
    plan, variables = make_plan(tiny), read_weights(run).variables
    feed = make_feed(plan)
    own = squared_error if "train.loss" in keys else functools.partial(cross_entropy, smoothing=0.2)
    probed = quick(lambda v, b: gradients(plan.model, v, b, loss=own))(
        variables, feed.first_examples("train", 20)
    )
    _, recorded = read_lines(run / "probes.jsonl")
    later = probe_run(run, ["gradients"], examples=20).found["gradients"]["input"]
    for found in (recorded["gradients"]["input"], later):
        np.testing.assert_allclose(found, probed["input"], 1e-3)
    batch = feed.first_examples("test", 360)
    logits, _ = quick(
        lambda v, x: measuring(plan.model).apply(v, x, train=False, mutable=["batch_stats"])
    )(variables, batch.images)
    clean = squared_error if "train.loss" in keys else cross_entropy
    expected = float(clean(logits, batch.labels).mean())
    assert summary.statistics["batch"]["test_loss"] == pytest.approx(expected, rel=1e-3)
    assert main(["evaluate", str(run)]) == 0
