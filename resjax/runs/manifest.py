"""The manifest of a run: enough to know, years later, where a number comes from."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import resjax
from resjax.config import flatten
from resjax.config.keys import KEYS
from resjax.models.resnet import blocks_per_iteration
from resjax.ops import native
from resjax.process import cores
from resjax.training.plan import Plan

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_collections", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    own = {"python": platform.python_version(), "resjax": resjax.__version__}
    return own | {name: importlib.metadata.version(name) for name in PACKAGES}


def describe_machine() -> dict[str, Any]:
    """Versions, devices and the state of the source tree."""
    devices = jax.devices()
    return {
        "versions": versions(),
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "hosts": jax.process_count(),
            "cpus": _cpus(),
        },
        "x64": bool(jax.config.jax_enable_x64),
        "git": git_state(),
    }


GIT_STATE = "RESJAX_GIT_STATE"
"""Environment variable with the git state of the tree that this package was copied from, as
JSON."""

WITHOUT_EFFECT = frozenset(key for key, entry in KEYS.items() if entry.decides == "nothing")
"""Keys of `describe_execution` that affect no bit of a result."""


def describe_execution(plan: Plan) -> dict[str, Any]:
    """Describes how a run is executed.

    Runs of one config whose descriptions are equal, `WITHOUT_EFFECT` aside, have the same bits.
    """
    config, model = flatten(plan.config), plan.model
    return {key: config[key] for key in sorted(config) if KEYS[key].execution} | {
        "steps_per_call": plan.steps_per_call,
        "devices": plan.parallel.count,
        "hosts": plan.parallel.hosts,
        "side_by_side": plan.seed.tolist() if plan.seed.ndim else None,
        "device": plan.parallel.devices[0].device_kind,
        "cpus": _cpus(),
        "blocks_per_iteration": [
            blocks_per_iteration(model.unroll, size - 1) for size in model.spec.stages
        ],
        "kernels": "native" if native.in_use() else "xla",
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "x64": True if jax.config.jax_enable_x64 else None,  # None as in runs that did not tell
        "jax": importlib.metadata.version("jax"),
        "jaxlib": importlib.metadata.version("jaxlib"),
    }


def _cpus() -> int | None:
    """Number of CPUs that this process may use, which is XLA's number of threads."""
    return len(cores()) or os.cpu_count()


def git_state() -> dict[str, Any] | None:
    """Commit of the tree that resjax is imported from, and whether it has changes; None if none."""
    if (given := os.environ.get(GIT_STATE)) is not None:
        return json.loads(given)
    tree = Path(__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(tree), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        tracked = git("ls-files", __file__)
        if not tracked:
            return None
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None
