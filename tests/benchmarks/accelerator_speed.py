"""The measurements of time of `tests.benchmarks.accelerator`.

Each is a function that yields rows as soon as it knows what is in them; those with the same `what`
are one line of the table. Its argument asks for tiny sizes.
"""

import functools
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from tests.benchmarks.accelerator_kernels import (
    TRACED,
    in_kernels,
    kernels_in,
    trace,
    trace_by_torch,
)

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "degradation.py"

Row = dict[str, Any]


# -------------------------------------------------------------------------------------- how to time


def config_of(keys: Row) -> Any:
    """A config with these keys, in which __ stands for the dot."""
    from resjax.config import default_config

    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): keys[key] for key in keys})
    return config


def measured(what: str, seconds: float, keys: Row) -> Iterator[Row]:
    """Times a training step of resjax; the keys are those of `config_of`."""
    from resjax.training.benchmark import compile_training, measure_compiled
    from resjax.training.plan import make_plan

    plan = make_plan(config_of(keys))
    compiled = compile_training(plan)
    yield {"what": what, "compile s": compiled[-1]}
    with tempfile.TemporaryDirectory() as profile:
        found = measure_compiled(plan, *compiled, seconds, Path(profile))
        own = kernels_in(profile)
    yield {
        "what": what,
        "images/s": found.images_per_second,
        "step ms": found.step_ms,
        "share of peak": found.share_of_peak,
        "memory GB": found.peak_memory_bytes / 1e9,
    }
    yield in_kernels(what, own, TRACED * plan.longest_call)


def timed(
    what: str,
    seconds: float,
    make: Callable[[], Callable[[], None]],
    images: int,
    steps: int = 1,
    trace: Callable = trace,
) -> Iterator[Row]:
    """Times calls of a function that waits for its result; making it and a first call compile it.

    Args:
      what: name of the row.
      seconds: time to measure for, after two calls that are not counted.
      make: makes the function.
      images: images in a call.
      steps: training steps in a call.
      trace: `trace` or `trace_by_torch`.
    """
    start = time.perf_counter()
    call = make()
    call()
    yield {"what": what, "compile s": time.perf_counter() - start}
    call(), call()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    took = statistics.median(times)
    yield {"what": what, "images/s": images / took, "step ms": 1e3 * took / steps}
    yield in_kernels(what, trace(call), TRACED * steps)


# -------------------------------------------------------------------------------------- one network


def imagenet(small: bool) -> Row:
    """The keys of ResNet-50 as it is trained on ImageNet, on images that are made up."""
    size, batch = ("64x64", 8) if small else ("224x224", 256)
    return {
        "model__name": "imagenet", "model__depth": 18 if small else 50,
        "model__shortcut": "projection", "model__dtype": "bfloat16",
        "data__name": f"fake:{size}x3:1000:{2 * batch}", "train__batch_size": batch,
    }  # fmt: skip


def cifar_net(depth: int, small: bool) -> Row:
    """The keys of a ResNet on images of 32x32 that are made up, cropped and mirrored."""
    return {
        "model__depth": depth, "data__name": "fake:32x32x3:10:12800", "data__pad": 4,
        "data__flip": True, "train__batch_size": 8 if small else 128,
    }  # fmt: skip


def resnet50(small: bool) -> Iterator[Row]:
    """ResNet-50 on 224x224, bfloat16, 256 images a step."""
    yield from measured("resjax", 0.5 if small else 3.0, imagenet(small))


def stock(small: bool) -> tuple[Any, int, float]:
    """The network of `resnet50` for peers, its batch, and the seconds to measure for."""
    from tests.benchmarks.compare import FOUR, IMAGENET
    from tests.benchmarks.peers import Net

    stages, expansion, side = ((2, 2, 2, 2), 1, 64) if small else ((3, 4, 6, 3), 4, 224)
    net = Net(stages, FOUR, expansion, image=(side, side, 3), **IMAGENET)
    return net, *((8, 0.5) if small else (256, 3.0))


TOGETHER = 20
"""Steps that peers take before they wait, as many as resjax takes in a call."""


def flax(small: bool) -> Iterator[Row]:
    """The same step by stock Flax."""
    from tests.benchmarks.peers import flax_step

    net, batch, seconds = stock(small)
    steps = 1 if small else TOGETHER
    make = functools.partial(flax_step, net, batch, "bfloat16", steps)
    yield from timed("stock Flax", seconds, make, steps * batch, steps)


def pytorch(small: bool) -> Iterator[Row]:
    """The same step by PyTorch: eager, and by `torch.compile` where it has a GPU."""
    import torch

    from tests.benchmarks.peers import torch_step

    net, batch, seconds = stock(small)
    cuda = torch.cuda.is_available()
    if not cuda and os.environ.get("JAX_PLATFORMS") != "cpu":
        yield {"what": "PyTorch", "said": "it sees no GPU"}  # its time on a CPU is no peer's
        return
    # Eager takes seconds, in which cuDNN chooses its kernels for the other as well.
    for name, compiled in (("eager", False), *[("torch.compile", True)] * cuda):
        gc.collect()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        what, steps = f"{name}, channels last", 1 if small else TOGETHER
        settings = {"channels_last": True, "dtype": torch.bfloat16, "compiled": compiled}
        make = functools.partial(torch_step, net, batch, steps=steps, **settings)
        yield from timed(what, seconds, make, steps * batch, steps, trace_by_torch)
        if cuda:
            yield {"what": what, "memory GB": torch.cuda.max_memory_allocated() / 1e9}


# -------------------------------------------------------------------- what the defaults depend on


def cifar(small: bool) -> Iterator[Row]:
    """ResNets on 32x32, float32, 128 images a step, by the steps in a call."""
    short = [(20, 20), (20, 1), (56, 20), (20, 5), (20, 100), (56, 1)]
    yield from by_steps(small, [(8, 2), (8, 1)] if small else short)
    yield from fixed_loop(small)
    yield from by_steps(small, [] if small else [(1202, 1)])


def by_steps(small: bool, cells: list[tuple[int, int]]) -> Iterator[Row]:
    """Times networks of 32x32, each given by its depth and the steps in a call."""
    for depth, steps in cells:
        keys = cifar_net(depth, small) | {"train__steps_per_call": steps}
        what = f"ResNet-{depth}, steps a call: {steps}"
        yield from measured(what, 0.5 if small else 1.0, keys)


def fixed_loop(small: bool) -> Iterator[Row]:
    """Times calls of a number of steps known to the compiler, which need not ask the device."""
    import jax
    import numpy as np

    from resjax.training import network
    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan
    from resjax.training.programs import program

    def fixed(function, parts, arguments, **options):
        def steps(state, data, inputs, rates, number, seed):
            return function(*parts, state, data, inputs, rates, np.int32(len(rates)), seed)

        return program(steps, (), arguments, **options)

    depth, steps = (8, 2) if small else (20, 20)
    keys = cifar_net(depth, small) | {"train__steps_per_call": steps}

    def make():
        with mock.patch.object(network, "program", fixed):
            step, (state, *rest), _ = compile_training(make_plan(config_of(keys)))

        def call():
            nonlocal state
            state = jax.block_until_ready(step(state, *rest))

        return call

    what, images = f"ResNet-{depth}, steps a call: {steps}, known to XLA", keys["train__batch_size"]
    yield from timed(what, 0.5 if small else 1.0, make, steps * images, steps)


def seeds(small: bool) -> Iterator[Row]:
    """Runs that differ in their seed, in one program: all their images in a second."""
    single, half = "float32", "bfloat16"
    cells = [
        (20, 1, single), (20, 8, single), (20, 1, half), (20, 8, half), (56, 1, half),
        (56, 8, half), (20, 4, single), (20, 16, half), (20, 2, half), (20, 32, half),
    ]  # fmt: skip
    alone: dict[tuple[int, str], float] = {}
    for depth, runs, dtype in [(8, 1, single), (8, 2, single)] if small else cells:
        what = f"ResNet-{depth}, {dtype}, runs: {runs}"
        keys = cifar_net(depth, small) | {"model__dtype": dtype}
        for row in side_by_side(what, small, keys, runs):
            if speed := row.get("images/s"):
                row["of one alone"] = speed / alone.setdefault((depth, dtype), speed)
            yield row


def side_by_side(what: str, small: bool, keys: Row, runs: int) -> Iterator[Row]:
    """Times the training steps of runs in one program."""
    from resjax.training.plan import make_plan
    from tests.benchmarks.seeds import caller

    plan = make_plan(config_of(keys | {"train__devices": 1}))
    images = runs * plan.steps_per_call * keys["train__batch_size"]
    calls = functools.partial(lambda *of: caller(*of)[0], plan, runs)
    yield from timed(what, 0.5 if small else 1.0, calls, images, plan.steps_per_call)


def packs(small: bool) -> Iterator[Row]:
    """Eight runs of ResNet-20 by what a convolution of all of them is."""
    from resjax.ops import filled
    from resjax.training import programs

    keys, runs = cifar_net(8 if small else 20, small), 2 if small else 8
    yield from side_by_side("groups of channels", small, keys | {"model__conv": "xla"}, runs)
    for channels in (1, 64):
        programs._transformed.cache_clear()
        with mock.patch.object(filled, "PACKED_CHANNELS", channels):
            yield from side_by_side(f"packs of {channels} channels", small, keys, runs)


def variants(small: bool) -> Iterator[Row]:
    """The networks of resnet50 and cifar in other forms of the same function."""
    large, loop = imagenet(small), {"model__unroll": "1"}
    deep, deeper = (cifar_net(8 if small else depth, small) for depth in (56, 110))
    for what, keys in {
        "ResNet-56, model.unroll=1": deep | loop,  # in seconds, and the next in minutes
        "ResNet-50, model.unroll=1": large | loop,
        "ResNet-50, model.conv=xla": large | {"model__conv": "xla"},
        "ResNet-50, train.parallel=pmap": large | {"train__parallel": "pmap"},
        "ResNet-110, model.unroll=1": deeper | loop,
        "ResNet-110, model.unroll=all": deeper | {"model__unroll": "all"},
        "ResNet-50, model.remat=True": large | {"model__remat": True},
    }.items():
        yield from measured(what, 0.5 if small else 2.0, keys)


# ----------------------------------------------------------------------------------- whole commands


def sweep(small: bool) -> Iterator[Row]:
    """The command `resjax sweep` on digits with nothing compiled, and again."""
    words = ["--config.train.duration=1 epochs", "--only=depth=8"] if small else ["--only=depth=20"]
    with tempfile.TemporaryDirectory() as directory:
        for name in ("cold", "warm"):
            yield from swept(name, Path(directory), str(EXPERIMENT), *words)


def shapes(small: bool) -> Iterator[Row]:
    """A plain and an identity net of 56 layers and full width on drawn 32x32 images."""
    words = ["--config.model.width=16", "--only=depth=56"]
    if small:
        words = ["--sweep=shortcut", "--config.model.depth=8", "--config.model.width=2",
                 "--config.train.duration=2 steps", "--config.data.name=shapes:0:500"]  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        yield from swept("shapes", Path(directory), f"{EXPERIMENT}:shapes", *words)


def swept(name: str, directory: Path, experiment: str, *words: str) -> Iterator[Row]:
    """Times a command `resjax sweep` of a plain and an identity net, and either run as it ends.

    The seconds are those since its start. All that is compiled is kept in the directory.
    """
    caches = {"XDG_CACHE_HOME": directory, "JAX_COMPILATION_CACHE_DIR": directory / "compiled"}
    start, told = time.perf_counter(), set()
    with subprocess.Popen(
        [sys.executable, "-m", "resjax", "sweep", f"--config={experiment}", "--jobs=1", "--seeds=1",
         f"--workdir={directory / name}", "--only=shortcut=none,identity", *words],
        cwd=ROOT, env=os.environ | {key: str(path) for key, path in caches.items()},
    ) as process:  # fmt: skip
        code = None
        while code is None:
            code = process.poll()
            seconds = time.perf_counter() - start
            for path in {*(directory / name).glob("*/result.json")} - told:
                told.add(path)
                result = json.loads(path.read_text())
                manifest = json.loads(path.with_name("manifest.json").read_text())
                yield {
                    "what": f"{name}, {path.parent.name.partition('-seed')[0]}",
                    "device": manifest["devices"]["kind"],
                    "seconds": seconds,
                    "compile s": result["seconds"]["compile"],
                    "training error": result["train_error"],
                }
            time.sleep(0.1)
    if code:
        raise subprocess.CalledProcessError(code, "resjax sweep")
    yield {"what": f"{name}, with its report", "seconds": seconds}
