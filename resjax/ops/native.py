"""Kernels of our own for CPUs: compiled once on a machine, then loaded.

They are in `kernels/` beside this file, built by the C++ compiler of the system for the very CPU
that it runs on. Without a compiler resjax works as well, with the operations of XLA, and slower.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import jax
import jaxlib

from resjax.cache import cache_directory, cpu_kind

SOURCES = Path(__file__).with_name("kernels")
TARGETS = (
    "resjax_conv_forward",
    "resjax_conv_input_gradient",
    "resjax_conv_kernel_gradient",
    "resjax_norm_moments",
    "resjax_norm_contract",
)
FLAGS = ("-O3", "-std=c++17", "-ffp-contract=fast", "-fPIC", "-shared", "-pthread")
HOW_TO_GET_A_COMPILER = "install g++ or clang++, or name one in the environment variable CXX"


@functools.cache
def available() -> bool:
    """Whether XLA can call the kernels; builds and registers them the first time.

    Without a compiler, or if it fails, there is a warning with the remedy, once in a process.
    """
    compiler = _compiler()
    if compiler is None:
        warnings.warn(
            f"no C++ compiler, so training on the CPU is slower; {HOW_TO_GET_A_COMPILER}",
            stacklevel=2,
        )
        return False
    try:
        library = ctypes.CDLL(str(_build(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        reason = next((line for line in output.splitlines() if "error" in line), output.strip())
        warnings.warn(
            f"{' '.join(compiler)} cannot build the kernels for the CPU, which is slower without "
            f"({reason}); {HOW_TO_GET_A_COMPILER}",
            stacklevel=2,
        )
        return False
    for target in TARGETS:
        handler = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(target, handler, platform="cpu")
    return True


def in_use() -> bool:
    """Whether programs for the default device call the kernels."""
    return jax.default_backend() == "cpu" and available()


def _compiler() -> list[str] | None:
    """The words of the command; CXX may hold more than one."""
    named = shlex.split(os.environ.get("CXX", ""))
    for words in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(words[0]):
            return words
    return None


def _build(compiler: list[str]) -> Path:
    """The shared library for this compiler, CPU and version of XLA's interface."""
    # The generic flag of gcc and clang for "this machine" has another name on ARM.
    own = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    command = [*compiler, *FLAGS, own, "-isystem", jax.ffi.include_dir()]
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    contents = [path.read_text() for path in sorted(SOURCES.iterdir())]
    identity = (contents, command, version, jaxlib.__version__, cpu_kind())
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    library = cache_directory() / "native" / f"{name}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as partial:
        built = Path(partial) / "kernels.so"
        subprocess.run(
            [*command, *map(str, sorted(SOURCES.glob("*.cc"))), "-o", str(built)],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        built.replace(library)
    return library
