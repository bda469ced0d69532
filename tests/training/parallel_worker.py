"""Trains in float64 on simulated devices and saves what came out; run by test_parallel.py.

    python -m tests.training.parallel_worker DIRECTORY '{"NAME": {"CONFIG KEY": VALUE}}'

Each job is saved as DIRECTORY/NAME.npz. With the environment variables COORDINATOR, PROCESSES and
PROCESS it is one of several processes.
"""

import json
import os
import sys

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
if "COORDINATOR" in os.environ:
    jax.distributed.initialize(
        os.environ["COORDINATOR"], int(os.environ["PROCESSES"]), int(os.environ["PROCESS"])
    )

from resjax.config import default_config
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.plan import make_plan
from resjax.training.state import create_state

STEPS = 8


def train(keys: dict) -> dict[str, np.ndarray]:
    """Parameters, statistics and metrics after some steps of a small residual network."""
    config = default_config()
    config.model.depth, config.model.width, config.model.dtype = 8, 2, "float64"
    config.train.batch_size, config.train.duration = 64, f"{STEPS} steps"
    config.optim.learning_rate = 0.05
    config.data.standardise = "none"
    config.update_from_flattened_dict(keys)
    plan = make_plan(config)
    state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, config.train.ema_decay)
    state, feed = plan.parallel.whole(state), make_feed(plan)
    network = Network(plan, plan.model, state, feed)
    for step in range(0, STEPS, plan.steps_per_call):
        end = min(step + plan.steps_per_call, STEPS)
        state = network.steps(state, *network.arguments(step, end))
    found = {"metrics": state.metrics, "variables": state.evaluated()}
    if config.eval.precise_batches:
        found["compared"] = network.compare_statistics(state, STEPS)
    feed.close()
    leaves, _ = jax.tree_util.tree_flatten_with_path(found)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


directory, jobs = sys.argv[1:]
for name, keys in json.loads(jobs).items():
    result = train(keys)
    if jax.process_index() == 0:
        np.savez(f"{directory}/{name}.npz", **result)
