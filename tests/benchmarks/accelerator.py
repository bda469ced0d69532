"""Everything that wants measuring on an accelerator, in under nine minutes, by one command.

    python -m tests.benchmarks.accelerator --out=DIR              # all parts, in order of value
    python -m tests.benchmarks.accelerator --out=DIR seeds sweep  # some of them
    python -m tests.benchmarks.accelerator --out=DIR --small      # tiny sizes, to try it on a CPU

Every part is a process of its own with a limit of seconds, so that one that fails or hangs costs
the others little; all together end after nine minutes, and what is then left is said. What is
measured is a line of DIR/results.jsonl at once, and in the end a row of DIR/table.md; what the
parts print is in DIR/log.txt. By these figures `resjax.training.platforms.PLATFORMS` should decide.

Of the requirements of resjax, `PACKAGES` are needed. A machine that reaches no index of packages
may be given those that it lacks as wheels, made where there is one:

    pip download --no-deps --dest=wheels ml_collections tensorboardX mpld3
    pip install --no-index --no-deps --target=site wheels/*.whl && export PYTHONPATH=site
"""

import argparse
import dataclasses
import datetime
import functools
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[2]
EXPERIMENT = ROOT / "experiments" / "degradation.py"

Row = dict[str, Any]


# ------------------------------------------------------------------------------------- measurements


def config_of(keys: Row) -> Any:
    """A config with these keys, in which __ stands for the dot."""
    from resjax.config import default_config

    config = default_config()
    config.update_from_flattened_dict({key.replace("__", "."): keys[key] for key in keys})
    return config


def measured(small: bool, **keys: Any) -> Row:
    """The speed of a training step of resjax; the keys are those of `config_of`."""
    from resjax.training.benchmark import measure_training

    found = measure_training(config_of(keys), 0.5 if small else 3.0)
    return {
        "images/s": found.images_per_second,
        "step ms": found.step_ms,
        "share of peak": found.share_of_peak,
        "memory GB": found.peak_memory_bytes / 1e9,
        "compile s": found.compile_seconds,
    }


def timed(make: Callable[[], Callable[[], None]], batch: int, seconds: float) -> Row:
    """The speed of a function that takes a step and waits for it; the first call compiles it."""
    start = time.perf_counter()
    step = make()
    step()
    compiled = time.perf_counter() - start
    step(), step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    took = statistics.median(times)
    return {"images/s": batch / took, "step ms": 1e3 * took, "compile s": compiled}


# -------------------------------------------------------------------------------------------- parts


def checks(small: bool) -> Iterator[Row]:
    """Gradients beside those of float64 on the CPU, and jit beside pmap.

    An error is that of float32 or bfloat16 on this device, |a - b| / |b| of the loss, all gradients
    and all statistics as one vector; beside it is that of the same dtype on the CPU, which a device
    may exceed fourfold.
    """
    import jax
    import numpy as np

    # One block for each stage: what takes the time is compiling, five times for each network.
    networks = {
        "ResNet-8, identity": {"model__depth": 8},
        "pre-activation ResNet-11, bottleneck, projections": {
            "model__depth": 11, "model__block": "bottleneck", "model__order": "preact",
            "model__shortcut": "projection",
        },
        "ResNet-18, large stem": {
            "model__name": "imagenet", "model__depth": 18, "model__shortcut": "projection",
        },
    }  # fmt: skip
    if small:
        networks = {"ResNet-8": {"model__depth": 8, "model__width": 4}}
    here, cpu = jax.devices()[0], jax.devices("cpu")[0]
    for name, keys in networks.items():
        exact = gradients("float64", cpu, keys)
        size = np.linalg.norm(exact)
        for dtype in ("float32", "bfloat16"):
            own, theirs = (
                float(np.linalg.norm(gradients(dtype, device, keys) - exact) / size)
                for device in (here, cpu)
            )
            yield {"what": f"{name}, {dtype}", "error": own, "on the CPU": theirs,
                   "good": own <= 4 * theirs}  # fmt: skip
    yield from styles(small)
    yield again(small)


def gradients(dtype: str, device: Any, keys: Row) -> Any:
    """The loss, every gradient and every statistic of 32 images, a vector of float64 of NumPy."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from resjax.models.build import build_model
    from resjax.models.trace import initial_variables
    from resjax.training.losses import cross_entropy
    from resjax.training.metrics import measure

    config = config_of(keys)
    exact = build_model(config, 10)
    shape = (32, 64, 64, 3) if config.model.name == "imagenet" else (32, 32, 32, 3)
    with jax.default_device(jax.devices("cpu")[0]):
        variables = jax.device_get(initial_variables(exact, jax.random.key(0), shape[1:]))
    random = np.random.default_rng(0)
    images, labels = random.normal(size=shape), random.integers(0, 10, shape[0])
    wide = dtype == "float64"
    with (
        jax.enable_x64(wide),
        jax.default_device(device),
        jax.default_matmul_precision("highest"),
    ):
        config.model.dtype = dtype
        model = build_model(config, 10)
        variables = jax.tree.map(np.float64 if wide else np.float32, variables)

        def loss_of(params, batch_stats, images):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            return measure(cross_entropy(logits, labels), logits, labels).loss / len(labels), new

        result = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(
            variables["params"], variables["batch_stats"], jnp.asarray(images, dtype)
        )
        leaves = jax.tree.leaves(jax.device_get(result))
        return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])


def styles(small: bool) -> Iterator[Row]:
    """Three steps by jit over a mesh of all devices, and by pmap."""
    import jax
    import numpy as np

    from resjax.config import default_config
    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan

    states = []
    for style in ("jit", "pmap"):
        config = default_config()
        config.data.name, config.train.batch_size = "fake:32x32x3:10:640", 64
        config.model.depth, config.train.parallel = 8 if small else 20, style
        step, (state, *rest), _ = compile_training(make_plan(config))
        for _ in range(3):
            state = step(state, *rest)
        states.append(jax.tree.leaves(jax.device_get(state.params)))
    error = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(*states, strict=True))
    yield {"what": f"jit and pmap, devices: {jax.device_count()}", "error": float(error),
           "good": bool(error < 1e-3)}  # fmt: skip


def again(small: bool) -> Row:
    """Three steps of ResNet-18 in bfloat16 from one state, twice by one program."""
    import jax
    import numpy as np

    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan

    config = config_of(imagenet(True) | {"train__batch_size": 8 if small else 64})
    step, (state, *rest), _ = compile_training(make_plan(config))
    ends = []
    for _ in range(2):
        moved = jax.tree.map(jax.numpy.copy, state)
        for _ in range(3):
            moved = step(moved, *rest)
        ends.append(jax.tree.leaves(jax.device_get(moved.params)))
    return {"what": "the same steps again", "same bits": all(map(np.array_equal, *ends))}


def imagenet(small: bool) -> Row:
    """The keys of ResNet-50 as it is trained on ImageNet, on images that are made up."""
    size, batch = ("64x64", 8) if small else ("224x224", 256)
    return {
        "model__name": "imagenet", "model__depth": 18 if small else 50,
        "model__shortcut": "projection", "model__dtype": "bfloat16",
        "data__name": f"fake:{size}x3:1000:{2 * batch}", "train__batch_size": batch,
    }  # fmt: skip


def resnet50(small: bool) -> Iterator[Row]:
    """ResNet-50 on 224x224, bfloat16, 256 images a step."""
    yield {"what": "resjax", **measured(small, **imagenet(small))}


def stock(small: bool) -> tuple[Any, int, float]:
    """The network of `resnet50` for peers, its batch, and the seconds to measure for."""
    from tests.benchmarks.compare import FOUR, IMAGENET
    from tests.benchmarks.peers import Net

    stages, expansion, side = ((2, 2, 2, 2), 1, 64) if small else ((3, 4, 6, 3), 4, 224)
    net = Net(stages, FOUR, expansion, image=(side, side, 3), **IMAGENET)
    return net, *((8, 0.5) if small else (256, 3.0))


def pytorch(small: bool) -> Iterator[Row]:
    """The same step by PyTorch: `torch.compile` where it has a GPU, and eager."""
    import torch

    from tests.benchmarks.peers import torch_step

    net, batch, seconds = stock(small)
    cuda = torch.cuda.is_available()
    for name, compiled in (("torch.compile", True), ("eager", False)):
        if compiled and not cuda:
            continue  # the other is what CPUs are compared with
        settings = {"channels_last": True, "dtype": torch.bfloat16, "compiled": compiled}
        make = functools.partial(torch_step, net, batch, **settings)
        row = {"what": f"{name}, channels last", **timed(make, batch, seconds)}
        if cuda:
            row["memory GB"] = torch.cuda.max_memory_allocated() / 1e9
            torch.cuda.reset_peak_memory_stats()
        yield row


def flax(small: bool) -> Iterator[Row]:
    """The same step by stock Flax."""
    from tests.benchmarks.peers import flax_step

    net, batch, seconds = stock(small)
    make = functools.partial(flax_step, net, batch, "bfloat16")
    yield {"what": "stock Flax", **timed(make, batch, seconds)}


def variants(small: bool) -> Iterator[Row]:
    """ResNet-50 in other forms of the same function."""
    for what, keys in {
        "model.unroll=1, loops": {"model__unroll": "1"},
        "model.unroll=all": {"model__unroll": "all"},
        "model.conv=xla": {"model__conv": "xla"},
        "model.remat=True": {"model__remat": True},
        "train.parallel=pmap": {"train__parallel": "pmap"},
    }.items():
        yield {"what": what, **measured(small, **imagenet(small) | keys)}


def cifar(small: bool) -> Iterator[Row]:
    """ResNets on 32x32, float32, 128 images a step, by the steps in a call."""
    batch = 8 if small else 128
    for steps in (2, 1) if small else (20, 1, 100, 5):
        for depth in (8, 14) if small else (20, 56, 110, 1202):
            if depth == 1202 and steps not in (1, 20):
                continue
            row = measured(
                small, model__depth=depth, data__name="fake:32x32x3:10:12800", data__pad=4,
                data__flip=True, train__batch_size=batch, train__steps_per_call=steps,
            )  # fmt: skip
            yield {"what": f"ResNet-{depth}, steps a call: {steps}", **row}
    yield from fixed_loop(small)


def fixed_loop(small: bool) -> Iterator[Row]:
    """Calls of 20 steps whose number is known to the compiler, which need not ask the device."""
    import jax
    import numpy as np

    from resjax.config import default_config
    from resjax.training import network
    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan
    from resjax.training.programs import program

    def fixed(function, parts, arguments, **options):
        def steps(state, data, inputs, rates, number, seed):
            return function(*parts, state, data, inputs, rates, np.int32(len(rates)), seed)

        return program(steps, (), arguments, **options)

    config, batch, steps = default_config(), 8 if small else 128, 2 if small else 20
    config.model.depth, config.train.batch_size = 8 if small else 20, batch
    config.data.name, config.data.pad, config.data.flip = "fake:32x32x3:10:12800", 4, True
    config.train.steps_per_call = steps
    plan = make_plan(config)
    for what, make in {"unknown": program, "known": fixed}.items():
        with mock.patch.object(network, "program", make):
            step, (state, *rest), _ = compile_training(plan)

        def call(step=step, rest=rest):
            nonlocal state
            state = jax.block_until_ready(step(state, *rest))

        row = timed(lambda call=call: call, batch * steps, 0.5 if small else 2.0)
        row["step ms"] /= steps
        del row["compile s"]
        yield {"what": f"ResNet-{config.model.depth}, {steps} steps, a number {what} to XLA", **row}


def seeds(small: bool) -> Iterator[Row]:
    """Runs that differ in their seed, in one program: all their images in a second."""
    from resjax.config import default_config
    from resjax.training.plan import make_plan
    from tests.benchmarks.seeds import caller

    for depth in (8,) if small else (20, 56):
        config = default_config()
        config.data.name, config.data.pad, config.data.flip = "fake:32x32x3:10:12800", 4, True
        config.model.depth, config.train.batch_size, config.train.devices = depth, 128, 1
        plan, alone = make_plan(config), None
        for runs in (1, 8, 32, 4, 16, 2):
            if small and runs > 2:
                continue
            images = 128 * plan.steps_per_call * runs
            row = timed(
                lambda plan=plan, runs=runs: caller(plan, runs)[0], images, 0.5 if small else 2.0
            )
            row["step ms"] /= plan.steps_per_call
            alone = alone or row["images/s"]
            yield {"what": f"ResNet-{depth}, runs: {runs}", **row,
                   "of one alone": row["images/s"] / alone}  # fmt: skip


def sweep(small: bool) -> Iterator[Row]:
    """The sweep of the README from its command to its report, with nothing compiled, and again."""
    words = ["--seeds=1", "--config.train.duration=1 epochs", "--only=shortcut=identity"]
    with tempfile.TemporaryDirectory() as directory:
        for name in ("cold", "warm"):
            row = swept(Path(directory), name, str(EXPERIMENT), *words if small else ())
            yield {"what": f"experiments/degradation.py, {name}", **row}


def shapes(small: bool) -> Iterator[Row]:
    """A plain and an identity net of 56 layers and full width on drawn 32x32 images."""
    words = ["--config.model.width=16", "--only=depth=56"]
    if small:
        words = ["--only=depth=8", "--config.train.duration=2 steps", "--config.model.width=2",
                 "--config.data.name=shapes:0:500"]  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        for shortcut in ("none", "identity"):
            row = swept(
                Path(directory), shortcut, f"{EXPERIMENT}:shapes", f"--only=shortcut={shortcut}",
                *words,
            )  # fmt: skip
            [result] = Path(directory, shortcut).glob("*/result.json")
            error = json.loads(result.read_text())["train_error"]
            yield {"what": f"{shortcut}-56", **row, "training error": error}


def tests(small: bool) -> Iterator[Row]:
    """The tests of operations, of normalisation and of parity with PyTorch, on this device."""
    words = ["tests/ops", "tests/models/test_norm.py", "tests/models/test_torch_parity.py"]
    if small:
        words = ["tests/ops/test_pool.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *words],
        cwd=ROOT, capture_output=True, text=True,
        env=os.environ | {"JAX_DEFAULT_MATMUL_PRECISION": "highest"},
    )  # fmt: skip
    print(run.stdout)
    said = (run.stdout or run.stderr).strip().splitlines()
    yield {"what": "pytest " + " ".join(words), "said": said[-1] if said else "nothing",
           "good": run.returncode == 0}  # fmt: skip


def swept(directory: Path, name: str, experiment: str, *words: str) -> Row:
    """Seconds of a command `resjax sweep`, whose caches are in the directory."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "resjax", "sweep", f"--config={experiment}",
         f"--workdir={directory / name}", *words],
        cwd=ROOT, check=True,
        env=os.environ | {"XDG_CACHE_HOME": str(directory / "caches")},
    )  # fmt: skip
    return {"seconds": time.perf_counter() - start}


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
      measure: yields a row for each thing that it measures; its argument asks for tiny sizes.
      seconds: its limit.
      packages: modules that it needs and that a machine may lack.
    """

    measure: Callable[[bool], Iterator[Row]]
    seconds: int
    packages: tuple[str, ...] = ()


PACKAGES = ("jax", "flax", "optax", "ml_collections")
"""Modules that every part needs."""

OF_A_SWEEP = ("orbax.checkpoint", "sklearn", "matplotlib", "mpld3", "jinja2", "tensorboardX")

PARTS = {
    "checks": Part(checks, 120),
    "resnet50": Part(resnet50, 90),
    "pytorch": Part(pytorch, 120, ("torch",)),
    "flax": Part(flax, 90),
    "cifar": Part(cifar, 120),
    "seeds": Part(seeds, 120),
    "variants": Part(variants, 120),
    "sweep": Part(sweep, 90, OF_A_SWEEP),
    "shapes": Part(shapes, 60, OF_A_SWEEP),
    "tests": Part(tests, 90, ("pytest", "hypothesis")),
}
"""Parts by name, in order of value."""

SECONDS = 9 * 60
"""The limit of all parts together."""

LEAST_SECONDS = 15
"""A part is not begun if less is left."""


# -------------------------------------------------------------------------------------- the command


def work(name: str, out: Path, small: bool) -> None:
    """Does a part in this process."""
    for row in PARTS[name].measure(small):
        import jax

        record(out, {"part": name, **row, "device": jax.devices()[0].device_kind})


def record(out: Path, row: Row) -> None:
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def do(name: str, out: Path, small: bool, factor: float, left: float) -> None:
    """Does a part in a process of its own, in `left` seconds at most; records why if it cannot."""
    missing = [each for each in (*PACKAGES, *PARTS[name].packages) if not _is_there(each)]
    if missing:
        why = f"needs {', '.join(missing)}"
    elif left < factor * LEAST_SECONDS:
        why = f"not begun: {max(left, 0):.0f} s were left"
    else:
        why = _run(name, out, small, min(factor * PARTS[name].seconds, left))
    if why:
        record(out, {"part": name, "what": "not finished", "said": why})


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def _run(name: str, out: Path, small: bool, seconds: float) -> str:
    """Runs a part in a process whose children end with it; why it did not finish, or nothing."""
    words = [sys.executable, "-m", "tests.benchmarks.accelerator", f"--out={out}", f"--part={name}"]
    with (out / "log.txt").open("a") as log:
        process = subprocess.Popen(
            [*words, *["--small"] * small],
            cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"no more after {seconds:.0f} s"
    return f"exit code {code}; see log.txt" if code else ""


def table(rows: list[Row]) -> str:
    """Markdown: a table for each part."""
    text = []
    for name in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == name]
        columns = list(dict.fromkeys(c for row in own for c in row if c not in ("part", "device")))
        device = next((row["device"] for row in own if "device" in row), "no device")
        text += [f"## {name}: {PARTS[name].measure.__doc__.splitlines()[0]}", "",
                 f"{device}, {datetime.date.today()}", "",
                 f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]  # fmt: skip
        for row in own:
            cells = (row.get(column, "") for column in columns)
            text.append(f"| {' | '.join(map(_cell, cells))} |")
        text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else (f"{value:,.0f}" if isinstance(value, float) else str(value))
    )


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(PARTS)}")
    return name


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", type=_part, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try it on a CPU")
    parser.add_argument("--factor", type=float, default=1.0, help="of all limits (default: 1)")
    parser.add_argument("--part", type=_part, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    out = options.out.absolute()
    if options.part:
        work(options.part, out, options.small)
        return
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.factor * SECONDS
    for name in options.parts or PARTS:
        do(name, out, options.small, options.factor, end - time.monotonic())
        rows = list(map(json.loads, (out / "results.jsonl").read_text().splitlines()))
        (out / "table.md").write_text(table(rows))
    print(table(rows))


if __name__ == "__main__":
    main()
