"""What ran: enough to know, years later, where a number comes from."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("resjax", "jax", "jaxlib", "flax", "optax", "numpy", "ml_collections", "scikit-learn")


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages


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
            "cpus": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
        },
        "x64": bool(jax.config.jax_enable_x64),
        "git": _git_state(),
    }


def _git_state() -> dict[str, Any] | None:
    """Commit of the tree that resjax is imported from, and whether it was changed; None if none."""
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
