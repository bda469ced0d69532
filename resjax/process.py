"""Resources of the machine that a process uses: cores, memory, threads, and the user's cache.

Importing resjax takes none of them. Whatever trains calls `set_up`; programs of one's own may, too.
"""

import ctypes
import hashlib
import os
import platform
import re
import sys
from pathlib import Path

from resjax import accelerators
from resjax.config.errors import ConfigError

CORES = "RESJAX_CORES"
"""Environment variable with the numbers of the cores that a process is restricted to, such as
0,1."""

WORKERS = "RESJAX_WORKERS"
"""Environment variable with the number of processes that share the runs of a sweep."""

THREADS_OF_A_DEVICE = 4
"""Threads for each simulated device, which may wait in several sums over devices at once."""

SECONDS_WORTH_KEEPING = 0.03
"""Minimum compilation time of a program that is cached.

Initialising a network takes a dozen programs of 0.1 s each, which are worth it.
"""

CPU_DESCRIPTION = Path("/proc/cpuinfo")

_DECIDES_CODE = re.compile(
    r"^(?:vendor_id|cpu family|model|model name|flags|features|isa|uarch|cpu"
    r"|CPU (?:implementer|architecture|variant|part))\s*:.*$",
    re.MULTILINE | re.IGNORECASE,
)

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8
"""Numbers of the settings in glibc's malloc.h."""


def set_up() -> None:
    """Prepares this process for training on a CPU: its cores, its memory and the threads of XLA.

    Where an accelerator is expected, memory is left as it is: XLA's compiler works in many threads
    there, which would wait for each other. It may be called more than once, and must be called
    before JAX looks for devices.
    """
    if cores := os.environ.get(CORES):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    if not accelerators.is_expected():
        _keep_freed_memory()
    _start_enough_threads()


def cores() -> list[int]:
    """The numbers of the cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def workers() -> int:
    """The number of processes that share the runs of this one.

    Raises:
      ConfigError: if the environment has another value than a positive number.
    """
    told = os.environ.get(WORKERS) or "1"
    if not told.isdecimal() or told == "0":
        raise ConfigError(f"{WORKERS}={told!r} is not a number of processes; set it to 8, say")
    return int(told)


def _keep_freed_memory() -> None:
    """Makes glibc keep freed memory; does nothing elsewhere.

    XLA takes the memory of a program anew in every call, some hundred megabytes for a training
    step. By default glibc fetches that much from Linux and returns it, and each page is cleared and
    mapped when it is touched: a fifth of a step of ResNet-20. It must be called before JAX starts
    its threads, which otherwise have pools of memory of their own.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_M_TOP_PAD, 2**28)


def _start_enough_threads() -> None:
    """Makes XLA start four threads for every simulated device; does nothing elsewhere.

    By itself it starts as many as there are cores, or one for each device if those are more. A
    device holds a thread for every sum in which it waits for the others, and gradients may be
    summed while moments of a group of examples are: if all threads wait, the device that they wait
    for has none, and XLA ends the process after a while. XLA takes NPROC for the number of cores; a
    value that is set stays.
    """
    devices = _simulated(os.environ.get("XLA_FLAGS", ""), os.environ.get("JAX_NUM_CPU_DEVICES", ""))
    if devices > 1:
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, THREADS_OF_A_DEVICE * devices)))


def _simulated(flags: str, number: str) -> int:
    """The number of devices that the environment requests; 1 by default."""
    asked = re.findall(r"--xla_force_host_platform_device_count=(\d+)", flags)
    return int(number if number.isdecimal() else asked[-1] if asked else 1)


def cache_directory() -> Path:
    """The directory `resjax/` in XDG_CACHE_HOME, by default in ~/.cache.

    It is under /.cache if no home is known: a container may not know its user, who may not write
    there either.
    """
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/")
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "resjax"


def enable_cache() -> None:
    """Turns on JAX's persistent compilation cache, shared by all runs of this user.

    It is in `resjax/compiled/CPU/` under XDG_CACHE_HOME (by default ~/.cache), where CPU is
    `cpu_kind()`: compiled code has the instructions of the CPU that it was compiled on, and ends
    the process on one that lacks them. Nothing in JAX's own names of the files is sure to tell the
    CPUs apart, and machines with different ones may share a home directory.

    If JAX_COMPILATION_CACHE_DIR names another directory, that is used as it is.
    """
    import jax  # most of this module does without it

    if jax.config.jax_compilation_cache_dir is None:
        directory = cache_directory() / "compiled" / cpu_kind()
        jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS_WORTH_KEEPING)


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
