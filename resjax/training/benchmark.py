"""Measurements of how fast a network trains: compilation, steps, memory and arithmetic."""

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.models.summary import count_multiply_adds, count_parameters
from resjax.training.feeds import Feed, make_feed
from resjax.training.initial import drawn_state
from resjax.training.network import Network
from resjax.training.plan import Plan, make_plan
from resjax.training.state import TrainState

PASSES = 3
"""Ratio of multiply-adds of a training step to a forward pass; two gradients take as many each."""

LEAST_CALLS, MOST_CALLS = 5, 1000


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The speed of training one network.

    Attributes:
      depth: `model.depth` of the network.
      batch_size: images in a step.
      params: number of parameters.
      multiply_adds: multiply-adds of a forward pass of one image.
      compile_seconds: time to trace and compile the training step, without any cache.
      step_ms: median time of a training step in milliseconds.
      step_ms_spread: 10th and 90th percentile of that time.
      images_per_second: 1000 * batch_size / step_ms.
      peak_memory_bytes: memory of the compiled program: state, data and temporaries together.
      temporary_memory_bytes: the part of that memory which lives only during a step.
      flops_per_second: 2 * 3 * multiply_adds * images_per_second.
      peak_flops_per_second: speed of a large matrix product in the network's dtype on one of the
        devices, times their number.
      device: kind of the devices.
      devices: their number; times, speeds and the peak are those of all together.
    """

    depth: int
    batch_size: int
    params: int
    multiply_adds: int
    compile_seconds: float
    step_ms: float
    step_ms_spread: tuple[float, float]
    images_per_second: float
    peak_memory_bytes: int
    temporary_memory_bytes: int
    flops_per_second: float
    peak_flops_per_second: float
    device: str
    devices: int

    @property
    def share_of_peak(self) -> float:
        """Fraction of the matrix product's speed that training reaches."""
        return self.flops_per_second / self.peak_flops_per_second


def measure_training(
    config: ConfigDict,
    seconds: float = 5.0,
    trace: Path | None = None,
    tell: Callable[[str], None] = lambda doing: None,
) -> Measurement:
    """Compiles the training step of a config and takes steps for some seconds.

    The data, the step and the number of steps in a call are those that `resjax train` would use.

    Args:
      config: config, as made by `default_config`.
      seconds: time to measure for, after two calls that are not counted; 5 to 1000 calls are.
      trace: directory for a profile of three calls, to be opened in Perfetto or TensorBoard.
      tell: called with the name of each phase: compiling, measuring.

    Raises:
      ConfigError: if the config cannot be run.
    """
    plan = make_plan(config)
    tell("compiling")
    compiled = compile_training(plan)
    tell("measuring")
    return measure_compiled(plan, *compiled, seconds, trace)


def measure_compiled(
    plan: Plan,
    step: Any,
    arguments: tuple,
    compile_seconds: float,
    seconds: float = 5.0,
    trace: Path | None = None,
) -> Measurement:
    """Takes steps for some seconds by what `compile_training` returns.

    The other arguments and the result are those of `measure_training`.
    """
    state, rest = arguments[0], arguments[1:]

    def call() -> float:
        nonlocal state
        start = time.perf_counter()
        state = jax.block_until_ready(step(state, *rest))
        return time.perf_counter() - start

    call(), call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST_CALLS or (time.perf_counter() < end and len(times) < MOST_CALLS):
        times.append(1e3 * call() / plan.longest_call)
    with _profile(trace):
        for _ in range(3 if trace else 0):
            call()
    memory = step.memory_analysis()
    step_ms = statistics.median(times)
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    batch_size = plan.config.train.batch_size
    multiply_adds = count_multiply_adds(plan.model, plan.image_shape)
    return Measurement(
        depth=plan.config.model.depth,
        batch_size=batch_size,
        params=count_parameters(state.params),
        multiply_adds=multiply_adds,
        compile_seconds=compile_seconds,
        step_ms=step_ms,
        step_ms_spread=(tenths[0], tenths[-1]),
        images_per_second=1e3 * batch_size / step_ms,
        peak_memory_bytes=memory.argument_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes,
        temporary_memory_bytes=memory.temp_size_in_bytes,
        flops_per_second=2e3 * PASSES * multiply_adds * batch_size / step_ms,
        peak_flops_per_second=plan.parallel.count * _matrix_product_speed(plan.model.dtype),
        device=plan.parallel.devices[0].device_kind,
        devices=plan.parallel.count,
    )


def training_memory(
    config: ConfigDict, classes: int, image_shape: tuple[int, ...], batch_size: int, remat: bool
) -> int:
    """Bytes of temporaries that a compiled training step needs.

    Args:
      config: config of the network and the optimiser; its data are replaced.
      classes: number of outputs of the network.
      image_shape: `[H, W, C]` of one image.
      batch_size: images in a step.
      remat: value of `config.model.remat`.
    """
    config = on_made_up_images(config, classes, image_shape, batch_size)
    config.model.remat = remat
    return compile_training(make_plan(config))[0].memory_analysis().temp_size_in_bytes


def on_made_up_images(
    config: ConfigDict, classes: int, image_shape: tuple[int, ...], batch_size: int
) -> ConfigDict:
    """Copies a config, with generated images `[H, W, C]` as data, which need no files."""
    config = config.copy_and_resolve_references()
    config.train.batch_size = batch_size
    size = "x".join(map(str, image_shape))
    config.data.name = f"fake:{size}:{classes}:{batch_size}"
    return config


def compile_training(plan: Plan) -> tuple[Any, tuple, float]:
    """Compiles the training steps of the longest call.

    Returns:
      The program, arguments for a call, and the seconds it took to compile.
    """
    state = plan.parallel.whole(drawn_state(plan, grown=True))
    with closing(make_feed(plan)) as feed:
        return compile_steps(plan, state, feed)


def compile_steps(plan: Plan, state: TrainState, feed: Feed) -> tuple[Any, tuple, float]:
    """Compiles the training steps for a state; returns what `compile_training` does."""
    start = time.perf_counter()
    network = Network(plan, plan.model, state, feed)
    seconds = time.perf_counter() - start
    return network.steps, (state, *network.arguments(0, plan.longest_call)), seconds


def _profile(directory: Path | None) -> AbstractContextManager:
    return nullcontext() if directory is None else jax.profiler.trace(str(directory))


@functools.cache
def _matrix_product_speed(dtype: jnp.dtype) -> float:
    """Floating-point operations per second of a product of square matrices, the fastest of 8.

    A process measures it once: on an accelerator it takes seconds to compile.
    """
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # Random, since a device draws less power for equal numbers, and so multiplies them faster.
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(lambda a: a @ a)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
