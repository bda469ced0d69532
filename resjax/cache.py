"""Where compiled code is kept between processes, and what CPU it was compiled for."""

import functools
import hashlib
import os
import platform
from pathlib import Path


def cache_directory() -> Path:
    """`resjax/` under XDG_CACHE_HOME, by default ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "resjax"


@functools.cache
def cpu_identity() -> str:
    """A short digest of the instructions that the CPU has.

    Home directories are shared by machines with different CPUs; code that was compiled for one must
    not be loaded on another.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    names = ("flags", "Features", "model name", "CPU part")
    telling = sorted({line for line in lines if line.startswith(names)}) or lines
    return hashlib.sha256(repr((platform.machine(), telling)).encode()).hexdigest()[:12]
