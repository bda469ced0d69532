"""Estimates of the time of a training step on a device that is not available here.

A program is a series of kernels. One that convolves or multiplies matrices takes as long as its
arithmetic at the peak of the device, or as long as its operands and its result take to and from
memory, whichever is longer (Williams, Waterman and Patterson 2009), and no kernel is perfect.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from resjax.config import ConfigError, choose
from resjax.data.batch import Batch
from resjax.ops.cost import kernels_of
from resjax.ops.platform import traced_for
from resjax.ops.random import random_key
from resjax.training.plan import Plan
from resjax.training.state import create_state
from resjax.training.step import train_step


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator, or a slice of equal ones, by its maker's figures.

    Attributes:
      name: the maker's name of it.
      platform: JAX's name of its platform.
      count: number of chips in the slice.
      peak: {dtype of the operands: floating-point operations in a second} of one chip, with XLA's
        default precision.
      bandwidth: bytes in a second to and from the memory of one chip.
      source: source of the figures.
    """

    name: str
    platform: str
    count: int
    peak: dict[str, float]
    bandwidth: float
    source: str


def _gpu(half: float, single: float, bandwidth: float, **own: str) -> Device:
    peak = {"bfloat16": half, "float32": single}
    return Device(platform="gpu", count=1, peak=peak, bandwidth=bandwidth, **own)


def _tpu(count: int, peak: float, bandwidth: float, **own: str) -> Device:
    peaks = {"bfloat16": peak, "float32": peak}  # float32 is multiplied as bfloat16
    return Device(platform="tpu", count=count, peak=peaks, bandwidth=bandwidth, **own)


DEVICES = {
    "a100": _gpu(312e12, 156e12, 2.039e12, name="NVIDIA A100 SXM 80 GB",
                 source="NVIDIA, A100 data sheet: dense bfloat16 and TF32"),
    "h100": _gpu(989e12, 494e12, 3.35e12, name="NVIDIA H100 SXM 80 GB",
                 source="NVIDIA, H100 data sheet: dense bfloat16 and TF32"),
    "h200": _gpu(989e12, 494e12, 4.8e12, name="NVIDIA H200 SXM",
                 source="NVIDIA, H200 data sheet: dense bfloat16 and TF32"),
    "v3-8": _tpu(4, 123e12, 0.9e12, name="TPU v3-8", source="cloud.google.com/tpu/docs/v3"),
    "v4-8": _tpu(4, 275e12, 1.2e12, name="TPU v4-8", source="cloud.google.com/tpu/docs/v4"),
    "v5e-8": _tpu(8, 197e12, 0.819e12, name="TPU v5e-8", source="cloud.google.com/tpu/docs/v5e"),
}  # fmt: skip
"""Devices by their usual names; the number of a TPU counts its cores, that of a v5e its chips."""


@dataclasses.dataclass(frozen=True)
class Attained:
    """The fraction of its maker's figures that a platform attains.

    Attributes:
      share: fraction of the bandwidth and of the peak that kernels reach.
      kernel_seconds: seconds from the end of a kernel to the start of the next.
    """

    share: float
    kernel_seconds: float


ATTAINED = {"gpu": Attained(0.6, 3e-6), "tpu": Attained(1.0, 1e-6)}
"""Values chosen to bring ResNet-50 near the speeds of `KNOWN_SPEEDS`.

XLA for TPUs fuses the sums of BatchNorm into convolutions, which saves passes over memory that are
counted here.
"""


@dataclasses.dataclass(frozen=True)
class KnownSpeed:
    """A speed of training ResNet-50 on 224x224 images that was measured, and by whom."""

    device: str
    dtype: str
    batch_size: int
    images_per_second: float
    source: str


KNOWN_SPEEDS = (
    KnownSpeed("a100", "bfloat16", 256, 2470, "NVIDIA DeepLearningExamples, PyTorch, AMP"),
    KnownSpeed("a100", "float32", 256, 938, "NVIDIA DeepLearningExamples, PyTorch, TF32"),
    # 125,100 steps of 1,024 images in 4.4 hours.
    KnownSpeed("v3-8", "bfloat16", 1024, 8087, "Flax, examples/imagenet"),
    KnownSpeed("h200", "bfloat16", 256, 7975, "tests.benchmarks.accelerator, 2026-11-28"),
)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The time of a training step.

    Attributes:
      device: device that the estimate is for.
      step_seconds: seconds of a step of the whole batch on all chips together.
      images_per_second: images that all chips together train on in a second.
      seconds: seconds of the step by what bounds its kernels: arithmetic, memory, starting kernels.
      kernels: number of kernels in a step.
      flops: floating-point operations of a step on one chip.
      moved: bytes of a step to and from the memory of one chip.
    """

    device: Device
    step_seconds: float
    images_per_second: float
    seconds: dict[str, float]
    kernels: int
    flops: float
    moved: float


def estimate(plan: Plan, name: str) -> Estimate:
    """Estimates the time of a training step of a plan on `DEVICES[name]`.

    It counts neither communication between chips nor the input.

    Raises:
      ConfigError: for an unknown device, a dtype that has no peak there, or a batch that its chips
        cannot share out.
    """
    device = choose(DEVICES, name, "--device")
    choose(device.peak, plan.config.model.dtype, f"model.dtype of {name}")
    kernels = kernels_of(step_on_a_chip(plan, device))
    attained = ATTAINED[device.platform]
    computing, moving, waiting = 0.0, 0.0, attained.kernel_seconds * kernels.total()
    for kernel, times in kernels.items():
        compute = kernel.flops / device.peak[kernel.dtype] / attained.share if kernel.flops else 0.0
        move = kernel.moved / device.bandwidth / attained.share
        if compute > move:
            computing += times * compute
        else:
            moving += times * move
    took = computing + moving + waiting
    return Estimate(
        device=device,
        step_seconds=took,
        images_per_second=plan.config.train.batch_size / took,
        seconds={"arithmetic": computing, "memory": moving, "starting kernels": waiting},
        kernels=kernels.total(),
        flops=sum(times * kernel.flops for kernel, times in kernels.items()),
        moved=sum(times * kernel.moved for kernel, times in kernels.items()),
    )


def step_on_a_chip(plan: Plan, device: Device) -> Jaxpr:
    """The program of a training step on one chip of a device, which shares out the batch."""
    batch_size, micro_batches = plan.config.train.batch_size, plan.config.train.micro_batches
    images, left = divmod(batch_size, device.count * micro_batches)
    if left or not images:
        shares = device.count * micro_batches
        raise ConfigError(
            f"{batch_size} images a step cannot be shared by the {device.count} chips of "
            f"{device.name}; nearest: {max(1, round(batch_size / shares)) * shares}"
        )
    with traced_for(device.platform):
        state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, 0.0)
        shapes: list[Any] = [
            jax.ShapeDtypeStruct((micro_batches, images, *plan.image_shape), jnp.float32),
            jax.ShapeDtypeStruct((micro_batches, images), jnp.int32),
        ]
        batch = Batch(*shapes)
        step = functools.partial(train_step, plan.model, plan.loss, plan.optimizer.update)
        return jax.make_jaxpr(step)(state, batch, random_key(0), jnp.float32(0)).jaxpr
