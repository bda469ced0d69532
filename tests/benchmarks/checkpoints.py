"""What checkpoints cost a run: its seconds with one in the middle, and without.

    python -m tests.benchmarks.checkpoints

Both take turns. A checkpoint costs training what the state takes to copy, and the cores that write
it and its digests meanwhile; by default there is one a minute.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax

from resjax.config import default_config
from resjax.runs.checkpoint import Checkpoints, Facts
from resjax.training.benchmark import compile_training
from resjax.training.plan import make_plan

NETWORKS = {
    # depth: what of a config makes the network, and steps of a turn, for some seconds each
    20: ({"data.name": "fake:32x32x3:10:512", "train.batch_size": 128}, 20),
    50: (
        {
            "model.name": "imagenet", "data.name": "fake:96x96x3:1000:64", "train.batch_size": 16,
        },
        8,
    ),
}  # fmt: skip


def measure(depth: int, rounds: int) -> tuple[float, float, float, float]:
    """Of a network: MB of its state, seconds until training goes on, in all, and of a step."""
    keys, steps = NETWORKS[depth]
    config = default_config()
    config.update_from_flattened_dict(keys | {"model.depth": depth, "train.steps_per_call": 1})
    plan = make_plan(config)
    step, (state, *rest), _ = compile_training(plan)
    held, without, with_one = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        checkpoints = Checkpoints(Path(directory), plan.parallel, keep=1)
        for number in range(2 * rounds):
            start = time.perf_counter()
            for n in range(steps):
                state = jax.block_until_ready(step(state, *rest))
                if number % 2 and n == 0:
                    facts = Facts(
                        run="run", data={}, execution={}, step=number, evaluated=0, grown=False,
                        lines=[], best={}, seconds={},
                    )  # fmt: skip
                    began = time.perf_counter()
                    checkpoints.save(state, facts)
                    held.append(time.perf_counter() - began)
            checkpoints.wait()
            (with_one if number % 2 else without).append(time.perf_counter() - start)
        checkpoints.close()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) / 1e6
    plain = statistics.median(without)
    extra = statistics.median(with_one) - plain
    return size, statistics.median(held), extra, plain / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    every = default_config().checkpoint.seconds
    print(f"medians of {options.rounds} rounds on {jax.devices()[0].device_kind}\n\n"
          "| network | state MB | step ms | until training goes on ms | in all ms "
          f"| of {every:.0f} s |\n|---|---|---|---|---|---|")  # fmt: skip
    for depth in NETWORKS:
        size, held, extra, step = measure(depth, options.rounds)
        print(f"| ResNet-{depth} | {size:.1f} | {1e3 * step:.0f} | {1e3 * held:.0f} "
              f"| {1e3 * extra:.0f} | {100 * extra / every:.2f} % |")  # fmt: skip


if __name__ == "__main__":
    main()
