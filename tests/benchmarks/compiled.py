"""What a training step should cost on a TPU or a GPU, by the compiler for it, without the device.

    pip install -e '.[tpu]'
    python -m tests.benchmarks.compiled v5e:2x2
    python -m tests.benchmarks.compiled v5e:2x2 --work=resnet56 --batch=256 --dtype=bfloat16
    python -m tests.benchmarks.compiled h100 --work=resnet50 --image=224x224x3 --dtype=bfloat16
    python -m tests.benchmarks.compiled h100 --runs=8

The step of resjax, the same with BatchNorm that takes the mean before the variance, and that of
stock Flax; with --runs also the step of several runs side by side. They are given a batch; for TPUs
a row of its own says what it costs to take one of 50,000 resident images and to augment it. The
program is not run. The compiler for TPUs says how many cycles each operation should take. For GPUs
the programs are kernels, and what those read from memory and write to it is added up; most of a
step on a GPU waits for memory. The packages of that compiler are in tests/gpus.py.
"""

import argparse
import dataclasses
import functools
import json
import math
import re
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from resjax.config import default_config
from resjax.data.augment import Augmentation
from resjax.data.batch import Batch
from resjax.data.resident import Resident
from resjax.ops import norm
from resjax.ops.platform import traced_for, tracing_for_runs
from resjax.ops.random import random_key
from resjax.training.plan import make_plan
from resjax.training.state import create_state
from resjax.training.step import train_step
from tests.benchmarks.compare import WORKS
from tests.benchmarks.peers import Net, flax_training
from tests.gpus import h100
from tests.tpus import devices_of

RESIDENT = 50_000
"""Images that are resident, as many as CIFAR-10 has to train on."""

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(\S+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*?)\)", re.MULTILINE
)
"""The name, shape, operation and operands of an instruction of XLA."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What is compiled: a network as peers describe it, its keys, images in a step, and a dtype."""

    net: Net
    keys: dict[str, Any]
    batch: int
    dtype: str


def resjax_step(work: Work) -> tuple[Callable, tuple]:
    """A training step of resjax, and arguments like those that it takes."""
    config, net, batch = default_config(), work.net, work.batch
    config.update_from_flattened_dict(work.keys)
    config.model.dtype, config.model.unroll = work.dtype, "all"
    config.train.batch_size = batch
    config.data.name = f"fake:{_by(net.image)}:{net.classes}:{batch}"
    plan = make_plan(config)
    state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, 0.0)
    images = jax.ShapeDtypeStruct((1, batch, *plan.image_shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((1, batch), jnp.int32)
    step = functools.partial(train_step, plan.model, plan.loss, plan.optimizer.update)
    return step, (state, Batch(images, labels), random_key(0), jnp.float32(0))


def resjax_step_in_turn(work: Work) -> tuple[Callable, tuple]:
    """The same with a variance taken from the mean before it, as in the definition."""
    step, arguments = resjax_step(work)

    def changed(*arguments):
        with mock.patch.object(
            norm, "_one_pass_moments", lambda x, _, scope: norm._two_pass_moments(x, scope)
        ):
            return step(*arguments)

    return changed, arguments


def side_by_side(runs: int) -> Callable[[Work], tuple[Callable, tuple]]:
    """A maker of the step of several runs in one program."""

    def make(work: Work) -> tuple[Callable, tuple]:
        step, arguments = resjax_step(work)
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((runs, *jnp.shape(leaf)), leaf.dtype), arguments
        )

        def of_runs(*arguments):
            with tracing_for_runs():
                return jax.vmap(step)(*arguments)

        return of_runs, shapes

    return make


def resident_batch(work: Work) -> tuple[Callable, tuple]:
    """A function that takes and augments a batch of resident images, and arguments for it."""
    height, width, channels = work.net.image
    resident = Resident(
        jax.ShapeDtypeStruct((RESIDENT, height * width * channels), jnp.uint8),
        jax.ShapeDtypeStruct((RESIDENT,), jnp.int32),
        jax.ShapeDtypeStruct((channels,), jnp.float32),
        jax.ShapeDtypeStruct((channels,), jnp.float32),
        work.net.image,
    )
    numbers = jax.ShapeDtypeStruct((work.batch,), jnp.int32)

    def take(inputs, resident, seed):
        return Augmentation(pad=4, flip=True)(resident, inputs, seed)

    return take, ((numbers, numbers), resident, jnp.uint32(0))


def stock_step(work: Work) -> tuple[Callable, tuple]:
    """A training step of stock Flax, and arguments like those that it takes."""
    train, draw = flax_training(work.net, work.dtype)
    images = jax.ShapeDtypeStruct((work.batch, *work.net.image), jnp.float32)
    labels = jax.ShapeDtypeStruct((work.batch,), jnp.int32)

    def step(state, images, labels):
        return train(*state, images, labels)

    return step, (jax.eval_shape(draw, images), images, labels)


def compiled_for(device: Any, step: Callable, arguments: tuple) -> Any:
    """Compiles a step for a device that is not here; the first argument is donated."""
    place = SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arguments
    )
    return jax.jit(step, donate_argnums=0).lower(*shapes).compile()


def cycles(program: str) -> dict[str, float]:
    """The sum of the cycles that the compiler for TPUs expects."""
    found = map(int, re.findall(r'"estimated_cycles":"(\d+)"', program))
    return {"million cycles": round(sum(found) / 1e6, 2)}


def kernels(program: str) -> dict[str, float]:
    """Kernels of a program for GPUs in straight lines, and what they read and write."""
    sizes, moved = {}, []
    entry = program[program.index("\nENTRY") :]
    for name, shape, operation, operands in INSTRUCTION.findall(entry):
        sizes[name] = _bytes(shape)
        if operation in ("fusion", "custom-call", "copy"):
            read = (sizes[operand] for operand in re.findall(r"%([\w.-]+)", operands))
            moved.append(sizes[name] + sum(read))
    return {"kernels": len(moved), "GB moved": round(sum(moved) / 1e9, 2)}


def _bytes(shape: str) -> int:
    """Bytes of an array or of a tuple of arrays, such as (bf16[256,56,56,64]{3,2,1,0}, s32[])."""
    return sum(
        BYTES[dtype] * math.prod(map(int, filter(None, sizes.split(","))))
        for dtype, sizes in re.findall(rf"\b({'|'.join(BYTES)})\[([\d,]*)\]", shape)
    )


def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(map(str, sizes))


STEPS = {
    "resjax": resjax_step,
    "resjax, mean first": resjax_step_in_turn,
    "stock Flax": stock_step,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("device", help="h100, or a slice of TPUs such as v5e:2x2")
    parser.add_argument("--work", default="resnet20", choices=WORKS, help="(default: resnet20)")
    parser.add_argument("--image", help="HxWxC, other than that of the work")
    parser.add_argument("--batch", type=int, default=128, help="images on a chip (default: 128)")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=0, help="side by side, in another row")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each step")
    options = parser.parse_args()
    net, _, keys = WORKS[options.work]
    if options.image:
        net = dataclasses.replace(net, image=tuple(map(int, options.image.split("x"))))
    work = Work(net, keys, options.batch, options.dtype)
    gpu = options.device == "h100"
    device = h100() if gpu else devices_of(options.device)[0]
    estimate = kernels if gpu else cycles
    if not options.json:
        print(f"{options.work}, {_by(net.image)}, batch {work.batch}, {work.dtype}, one "
              f"{device.device_kind}\n")  # fmt: skip
    steps = dict(STEPS)
    if options.runs:
        steps[f"resjax, {options.runs} runs"] = side_by_side(options.runs)
    if not gpu:  # of which each kernel that takes a few rows of an array is said to read it whole
        steps["resjax, input"] = resident_batch
    with traced_for("gpu" if gpu else "tpu"):
        for name, make in steps.items():
            start = time.perf_counter()
            compiled = compiled_for(device, *make(work))
            row = {
                "step": name,
                **estimate(compiled.as_text()),
                "temporaries MB": round(compiled.memory_analysis().temp_size_in_bytes / 1e6),
                "compile s": round(time.perf_counter() - start),
            }
            if options.json:
                print(json.dumps(row), flush=True)
                continue
            if make is resjax_step:
                print(f"| {' | '.join(row)} |\n{'|---' * len(row)}|")
            print(f"| {' | '.join(map(str, row.values()))} |", flush=True)


if __name__ == "__main__":
    main()
