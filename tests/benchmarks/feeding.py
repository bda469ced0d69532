"""What it costs to feed resident images: a training step with it, and on a batch that is there.

    python -m tests.benchmarks.feeding

Feeding is to look up which examples have the batch, to take, pad by 4, crop, mirror and standardise
them, for a network of 20 layers and 50,000 images of 32x32. The two programs take turns, a step
each, so that what else the machine does falls on both; a row tells feeding alone, too.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from resjax.config import default_config
from resjax.data.batch import Batch
from resjax.training.feeds import ResidentFeed
from resjax.training.network import Network
from resjax.training.plan import Plan, make_plan
from resjax.training.state import create_state


def given(data: Batch, inputs: Any, seed: jax.Array) -> Batch:
    """A view that shows one batch whatever is asked for."""
    return data


class OnDevice(ResidentFeed):
    """The first batch of a feed, over and over."""

    view = staticmethod(given)

    def __init__(self, feed: ResidentFeed):
        self.plan, self.first = feed.plan, feed.inputs(range(1), 1)
        [self.data] = feed.training_batches(range(1))

    def inputs(self, steps: range, length: int) -> Any:
        return self.first


def stepper(plan: Plan, feed: ResidentFeed) -> Callable[[int], None]:
    """A function that takes a training step and waits for it."""
    state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, 0.0)
    network = Network(plan, plan.model, state, feed)

    def take(step: int) -> None:
        nonlocal state
        state = jax.block_until_ready(network.steps(state, *network.arguments(step, step + 1)))

    return take


def feeder(feed: ResidentFeed) -> Callable[[int], None]:
    """A function that makes a batch and waits for it."""
    view = jax.jit(feed.view)

    def take(step: int) -> None:
        inputs = [part[0, 0] for part in feed.inputs(range(step, step + 1), 1)]
        jax.block_until_ready(view(feed.data, inputs, np.uint32(0)))

    return take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    config = default_config()
    config.data.name = f"fake:32x32x3:10:{options.examples}"
    config.data.pad, config.data.flip = 4, True
    config.model.depth, config.train.batch_size = options.depth, options.batch
    config.train.steps_per_call, config.train.devices = 1, 1
    plan = make_plan(config)
    feed = ResidentFeed(plan)
    candidates = {
        "on a batch that is there": stepper(plan, OnDevice(feed)),
        "with feeding": stepper(plan, feed),
        "feeding alone": feeder(feed),
    }
    times = {name: [] for name in candidates}
    for take in candidates.values():
        take(0)
    end, step = time.perf_counter() + options.seconds, 1
    while time.perf_counter() < end:
        for name, take in candidates.items():
            start = time.perf_counter()
            take(step % len(plan.rates))
            times[name].append(1e3 * (time.perf_counter() - start))
        step += 1
    medians = {name: statistics.median(own) for name, own in times.items()}
    print(f"ResNet-{options.depth}, 32x32, batch {options.batch} of {options.examples:,} images, "
          f"{jax.devices()[0].device_kind}, {step - 1} turns\n\n"
          "| a step | ms | of a step on a batch that is there |\n|---|---|---|")  # fmt: skip
    there = medians["on a batch that is there"]
    for name, ms in medians.items():
        print(f"| {name} | {ms:.2f} | {100 * ms / there:.2f} % |")


if __name__ == "__main__":
    main()
