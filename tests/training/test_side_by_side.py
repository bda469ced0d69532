"""Runs that differ in their seed alone, in one program: each is as it would be alone."""

import dataclasses

import jax
import numpy as np
import pytest

from resjax.training.feeds import make_feed
from resjax.training.lanes import Lanes
from resjax.training.network import Network
from resjax.training.plan import prepare
from resjax.training.state import create_state

SEEDS = (0, 5, 2)

RANDOM = {
    "model.shortcut": "dropout", "model.stochastic_depth": 0.4, "data.pad": 1, "data.flip": True,
}  # fmt: skip


def trained(config, seeds, steps=20):
    """The states of the lanes after some steps, and what the clean evaluations of them found."""
    plan = dataclasses.replace(prepare(config), lanes=Lanes(seeds))
    options = plan.image_shape, config.train.ema_decay
    drawn = [create_state(plan.model, plan.optimizer, seed, *options) for seed in seeds]
    state, feed = plan.parallel.whole(plan.lanes.stack(drawn)), make_feed(plan)
    network = Network(plan, plan.model, state, feed)
    for step in range(0, steps, plan.steps_per_call):
        end = min(step + plan.steps_per_call, steps)
        state = network.steps(state, *network.arguments(step, end))
    found = [network.evaluate(state, steps), network.compare_statistics(state, steps)]
    return plan.lanes.split(state), list(zip(*found, strict=True))


def assert_equal(got, expected):
    """Every array of two trees, relative to its largest element."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(expected)
    for (path, own), other in zip(leaves, jax.tree.leaves(got), strict=True):
        scale = np.abs(own).max()
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(other, own, 0, 1e-9 * scale, err_msg=name)


@pytest.mark.parametrize(
    "keys",
    [
        RANDOM | {"train.ema_decay": 0.9},
        pytest.param(
            {"train.steps_per_call": 7, "train.micro_batches": 2, "norm.examples": 25,
             "eval.precise_batches": 2, "model.shortcut": "projection_all"},
            marks=pytest.mark.slow,
        ),
        pytest.param(RANDOM | {"model.conv": "xla"}, marks=pytest.mark.slow),
        pytest.param(
            {"optim.name": "lars", "train.on_nan": "skip", "norm.kind": "none"},
            marks=pytest.mark.slow,
        ),
        pytest.param({"train.parallel": "pmap", "data.flip": True}, marks=pytest.mark.slow),
    ],
    ids=["random", "precise", "xla", "lars", "pmap"],
)  # fmt: skip
def test_every_seed_is_after_20_steps_what_it_is_alone(tiny, keys):
    """In float64: parameters, statistics, momentum, metrics and evaluations."""
    tiny.update_from_flattened_dict(keys)
    with jax.enable_x64(True):
        tiny.model.dtype = "float64"
        states, found = trained(tiny, SEEDS)
        for seed, state, values in zip(SEEDS, states, found, strict=True):
            tiny.seed = seed
            [alone], [expected] = trained(tiny, (seed,))
            assert_equal(state, alone)
            assert_equal(values, expected)
