"""The checks of results of `tests.benchmarks.accelerator`.

They yield rows as those of `tests.benchmarks.accelerator_speed` do.
"""

import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.benchmarks.accelerator_speed import ROOT, Row, cifar_net, config_of, imagenet

NETWORKS = {
    # One block for each stage: what takes the time is compiling, five times for each network.
    "ResNet-8, identity": {"model__depth": 8},
    "pre-activation ResNet-11, bottleneck, projections": {
        "model__depth": 11, "model__block": "bottleneck", "model__order": "preact",
        "model__shortcut": "projection",
    },
    "ResNet-18, large stem": {
        "model__name": "imagenet", "model__depth": 18, "model__shortcut": "projection",
    },
}  # fmt: skip


def checks(small: bool) -> Iterator[Row]:
    """Gradients beside those of float64 on the CPU, the same bits again, and jit beside pmap.

    An error is that of float32 or bfloat16 on this device, |a - b| / |b| of the loss, all gradients
    and all statistics as one vector; beside it is that of the same dtype on the CPU, which a device
    may exceed fourfold.
    """
    (name, keys), *others = NETWORKS.items()
    yield from errors(name, keys | ({"model__width": 4} if small else {}))
    yield from again(small)
    yield from styles(small)
    for name, keys in [] if small else others:
        yield from errors(name, keys)


def errors(name: str, keys: Row) -> Iterator[Row]:
    """The errors of a network here, and on the CPU."""
    import jax
    import numpy as np

    here, cpu = jax.devices()[0], jax.devices("cpu")[0]
    exact = gradients("float64", cpu, keys)

    def error(dtype, device):
        return float(np.linalg.norm(gradients(dtype, device, keys) - exact) / np.linalg.norm(exact))

    for dtype in ("float32", "bfloat16"):
        what, own = f"{name}, {dtype}", error(dtype, here)
        yield {"what": what, "error": own}
        theirs = error(dtype, cpu)
        yield {"what": what, "on the CPU": theirs, "good": own <= 4 * theirs}


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


def again(small: bool) -> Iterator[Row]:
    """Three steps in bfloat16 from one state, twice by one program."""
    import jax
    import numpy as np

    from resjax.training.benchmark import compile_training
    from resjax.training.plan import make_plan

    made_up = {"train__batch_size": 64, "data__name": "fake:64x64x3:1000:128"}
    keys = cifar_net(8, small) if small else imagenet(True) | made_up
    plan = make_plan(config_of(keys | {"model__dtype": "bfloat16"}))
    step, (state, *rest), seconds = compile_training(plan)
    yield {"what": "the same steps again", "compile s": seconds}
    ends = []
    for _ in range(2):
        moved = jax.tree.map(jax.numpy.copy, state)
        for _ in range(3):
            moved = step(moved, *rest)
        ends.append(jax.tree.leaves(jax.device_get(moved.params)))
    same = all(map(np.array_equal, *ends))
    yield {"what": "the same steps again", "same bits": same, "good": same}


TESTS = (
    # Of what accelerators compute; the others are of kernels for CPUs.
    "tests/ops/test_pool.py", "tests/ops/test_batch_norm.py", "tests/ops/test_conv.py",
    "tests/ops/test_random.py", "tests/models/test_norm.py", "tests/models/test_torch_parity.py",
)  # fmt: skip

RESULT = re.compile(r"(\S+?\.py)::.+ (PASSED|FAILED|ERROR|SKIPPED)\b")
"""A line of `pytest -v` about a test."""


def tests(small: bool) -> Iterator[Row]:
    """The tests of operations, of normalisation and of parity with PyTorch, on this device."""
    # Without the options of pyproject.toml, which need more packages, and make a warning of another
    # version of a package an error.
    words = ["-v", "-m", "not slow", "-p", "no:cacheprovider", "-o", "addopts=", "-o",
             "filterwarnings=default", *TESTS[: 1 if small else None]]  # fmt: skip
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    said = "nothing"
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "PYTHONUNBUFFERED": "1"},
    ) as run:  # fmt: skip
        for line in run.stdout:
            print(line, end="", flush=True)
            said = line.strip("= \n") or said
            if found := RESULT.match(line):
                file, result = found.groups()
                counts[file][result.lower()] += 1
                bad = counts[file]["failed"] + counts[file]["error"]
                yield {"what": file, **counts[file], "good": not bad}
    yield {"what": "pytest", "said": said, "good": run.returncode == 0}
