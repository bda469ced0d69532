"""Accelerators of this machine, found without JAX, which would take their memory."""

import itertools
import os
import pkgutil
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

MEMORY_SHARES = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
"""Environment variables for the part of a GPU's memory that JAX takes; it refuses both at once."""


def requested_platform(platform: str | None = None) -> str:
    """The platform that an option or else JAX_PLATFORMS asks for; empty if neither does."""
    return (platform or os.environ.get("JAX_PLATFORMS", "")).partition(",")[0]


def is_expected() -> bool:
    """Tells whether JAX is going to compute on an accelerator, as far as the machine shows it."""
    if asked := requested_platform():
        return asked != "cpu"
    return on_tpu_vm() or (cuda_is_installed() and shutil.which("nvidia-smi") is not None)


def on_tpu_vm() -> bool:
    """Recognises a TPU VM; JAX learns from its metadata whether it is one of several."""
    attached = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return attached and find_spec("libtpu") is not None


def cuda_is_installed() -> bool:
    """Tells whether JAX has its plugin for GPUs of NVIDIA."""
    plugins = find_spec("jax_plugins")
    places = plugins.submodule_search_locations if plugins else None
    return any(plugin.name.startswith("xla_cuda") for plugin in pkgutil.iter_modules(places or []))


def visible_gpus() -> list[str]:
    """Names of the GPUs of NVIDIA that JAX may use."""
    if not cuda_is_installed():
        return []
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        names = (name.strip() for name in chosen.split(","))
        return list(itertools.takewhile(lambda name: name and name != "-1", names))
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(n) for n in range(listed.stdout.count("UUID: GPU"))]


def share_of_memory(share: float) -> dict[str, str]:
    """The environment of a process that has a share of a GPU, and leaves the rest to others.

    JAX by itself takes three quarters of the memory. A fraction that the user has set stays.

    >>> share_of_memory(1 / 3), share_of_memory(1)
    ({'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.3'}, {})
    """
    if share >= 1 or any(name in os.environ for name in MEMORY_SHARES):
        return {}
    return {MEMORY_SHARES[0]: f"{0.9 * share:.3g}"}
