"""Cycles of a training step on a TPU by the estimate of the TPUs' own compiler, without any TPU.

    pip install -e '.[tpu]'
    python -m tests.benchmarks.cycles
    python -m tests.benchmarks.cycles --depth=56 --batch=256 --dtype=bfloat16

A residual network for 32x32 images with identity shortcuts: the step of resjax as straight-line
code, the same if BatchNorm took the mean before the variance, and that of stock Flax. Nothing but
the step is counted: no input, no evaluation. The compiler says how many cycles each operation
should take; the program is not run.
"""

import argparse
import functools
import re
import time
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from resjax.config import default_config
from resjax.data.resident import Batch
from resjax.ops import norm
from resjax.ops.platform import traced_for
from resjax.ops.random import random_key
from resjax.training.plan import make_plan
from resjax.training.state import create_state
from resjax.training.step import train_step
from tests.benchmarks.peers import Net, flax_training
from tests.tpus import devices_of

SIDE, CLASSES, WIDTHS = 32, 10, (16, 32, 64)


def resjax_step(depth: int, batch: int, dtype: str) -> tuple[Any, tuple]:
    """A training step of resjax, and arguments like those that it takes."""
    config = default_config()
    config.model.update({"depth": depth, "dtype": dtype, "unroll": "all"})
    config.train.batch_size = batch
    config.data.name = f"fake:{SIDE}x{SIDE}x3:{CLASSES}:{batch}"
    plan = make_plan(config)
    state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, 0.0)
    images = jax.ShapeDtypeStruct((1, batch, *plan.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, batch), jnp.int32)
    step = functools.partial(train_step, plan.model, plan.loss, plan.optimizer.update)
    return step, (state, Batch(images, labels), random_key(0), jnp.float32(0))


def stock_step(depth: int, batch: int, dtype: str) -> tuple[Any, tuple]:
    """A training step of stock Flax, and arguments like those that it takes."""
    blocks = ((depth - 2) // 6,) * 3
    net = Net(blocks, WIDTHS, 1, False, "identity", (SIDE, SIDE, 3), CLASSES)
    train, draw = flax_training(net, dtype)
    images = jax.ShapeDtypeStruct((batch, *net.image), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)

    def step(state, images, labels):
        return train(*state, images, labels)

    return step, (jax.eval_shape(draw, images), images, labels)


def compiled_for(device: Any, step: Any, arguments: tuple) -> Any:
    """Compiles a step for a device that is not here; the first argument is donated."""
    place = SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
    )
    return jax.jit(step, donate_argnums=0).lower(*shapes).compile()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2", help="a slice of TPUs (default: v5e:2x2)")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128, help="images on a chip (default: 128)")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    device, work = devices_of(options.topology)[0], (options.depth, options.batch, options.dtype)
    print(f"ResNet-{options.depth}, {SIDE}x{SIDE}, batch {options.batch}, {options.dtype}, "
          f"one {device.device_kind}\n\n"
          "| step | million cycles | temporaries MB | compile s |\n|---|---|---|---|")  # fmt: skip
    with traced_for("tpu"):
        for name, make, moments in (
            ("resjax", resjax_step, norm._moments_at_once),
            (
                "resjax, mean first",
                resjax_step,
                lambda x, _, scope: norm._moments_in_turn(x, scope),
            ),
            ("stock Flax", stock_step, None),
        ):
            start = time.perf_counter()
            with mock.patch.object(norm, "_moments_at_once", moments):
                compiled = compiled_for(device, *make(*work))
            cycles = map(int, re.findall(r'"estimated_cycles":"(\d+)"', compiled.as_text()))
            memory = compiled.memory_analysis().temp_size_in_bytes / 1e6
            print(f"| {name} | {sum(cycles) / 1e6:.2f} | {memory:.0f} | "
                  f"{time.perf_counter() - start:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
