"""Compiled programs are kept on disk, so that no process compiles what another one has."""

import hashlib
import os
import platform
import re
from pathlib import Path

import jax

CPU_DESCRIPTION = Path("/proc/cpuinfo")

_DECIDES_CODE = re.compile(
    r"^(?:vendor_id|cpu family|model|model name|flags|features|isa|uarch|cpu"
    r"|CPU (?:implementer|architecture|variant|part))\s*:.*$",
    re.MULTILINE | re.IGNORECASE,
)


def enable_cache() -> None:
    """Turns JAX's persistent compilation cache on, shared by all runs of this user.

    It is in `resjax/compiled/CPU/` under XDG_CACHE_HOME (by default ~/.cache), where CPU is
    `cpu_kind()`: compiled code has the instructions of the CPU that it was compiled on, and ends
    the process on one that lacks them. Nothing in JAX's own names of the files is sure to tell the
    CPUs apart, and machines with different ones may share a home directory.

    If JAX_COMPILATION_CACHE_DIR names another directory, that is used as it is.
    """
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        directory = home / "resjax" / "compiled" / cpu_kind()
        jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cpu_kind() -> str:
    """A name such as `x86_64-9a3f6b21` that machines share if their CPUs run the same code.

    It has a hash of the models and features that Linux reports, or of the machine's name where
    nothing is reported; then no two machines share code.
    """
    try:
        reported = CPU_DESCRIPTION.read_text(encoding="utf-8", errors="replace")
    except OSError:
        reported = ""
    kinds = sorted(set(_DECIDES_CODE.findall(reported))) or [platform.node()]
    digest = hashlib.sha256("\n".join(kinds).encode()).hexdigest()[:8]
    return f"{platform.machine()}-{digest}"
