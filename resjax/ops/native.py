"""Kernels of our own for CPUs: compiled once on a machine, then loaded.

They are in `kernels/` beside this file, built by the C++ compiler of the system, or of the package
ziglang, for the very CPU that it runs on. Without a compiler resjax works as well, with the
operations of XLA, and slower.
"""

import concurrent.futures
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resjax import accelerators
from resjax.config import notify
from resjax.process import cache_directory, cpu_kind
from resjax.waits import waiting

SOURCES = Path(__file__).with_name("kernels")
TARGETS = (
    "resjax_conv_forward",
    "resjax_conv_input_gradient",
    "resjax_conv_kernel_gradient",
    "resjax_norm_moments",
    "resjax_norm_contract",
    "resjax_elementwise",
    "resjax_pool_maxima",
    "resjax_pool_picked",
    "resjax_pool_placed",
)
FLAGS = ("-O2", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-pthread")
WIDE = "-DRESJAX_WIDE"
"""The flag for kernels of float64 as well, which are rarely used and take as long to build."""

OF_A_PACKAGE = "ziglang"
"""Python package with a C++ compiler, which first takes a minute to build its C++ library."""

HOW_TO_GET_A_COMPILER = (
    "pip install -e '.[compiler]' in the clone of resjax, or install g++ or clang++, or name one "
    "in the environment variable CXX"
)

HOW_TO_GET_A_PLACE = "name one that takes programs in the environment variable XDG_CACHE_HOME"


def available() -> bool:
    """Tells whether XLA can call the kernels; builds and registers them the first time.

    Warns once in a process, with the remedy, if there is no compiler or if it fails.
    """
    import jax  # the process that only builds does without

    return _load(jax.config.jax_enable_x64)


def call(target: str, results: Any, **options: Any) -> Callable:
    """A function of arrays that calls a kernel of `TARGETS`; see `jax.ffi.ffi_call`.

    Raises:
      RuntimeError: if the kernels are not `available`.
    """
    import jax

    if not available():
        raise RuntimeError(f"{target} is called, but no compiler could build it")
    return jax.ffi.ffi_call(_registered(target, jax.config.jax_enable_x64), results, **options)


def can_be_built() -> bool:
    """Tells whether there is a compiler for the kernels, without building them."""
    return bool(_compiler())


def start_building() -> None:
    """Starts another process that builds the kernels, if they are missing and may be needed.

    Does not import JAX. Nothing but `available` waits for the process: a command that ends sooner
    leaves it running.
    """
    compiler = _compiler()
    if not compiler or accelerators.is_expected():
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if not _library(compiler)[0].exists():
            subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd=Path(__file__).parents[2], start_new_session=True,
            )  # fmt: skip


@functools.cache
def _load(wide: bool) -> bool:
    import jax

    compiler, complaint = _compiler(), ""
    if not compiler:
        complaint = f"no C++ compiler, so training on the CPU is slower; {HOW_TO_GET_A_COMPILER}"
    else:
        try:
            library = _opened((*compiler, WIDE) if wide else compiler)
        except subprocess.SubprocessError as error:
            complaint = (
                f"{' '.join(compiler)} cannot build the kernels for the CPU, which is slower "
                f"without ({_reason(error)}); {HOW_TO_GET_A_COMPILER}"
            )
        except OSError as error:
            complaint = (
                f"the kernels for the CPU, which is slower without, cannot be kept in "
                f"{cache_directory()} ({error.strerror or error}); {HOW_TO_GET_A_PLACE}"
            )
    if complaint:
        notify(complaint)
        return False
    for target in TARGETS:
        handler = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(_registered(target, wide), handler, platform="cpu")
    return True


def _reason(error: subprocess.SubprocessError) -> str:
    """The first line of a compiler's output that names an error, or all that is known."""
    output = getattr(error, "stderr", None) or str(error)
    if isinstance(output, bytes):  # after a timeout, even of a process whose output is text
        output = output.decode(errors="replace")
    return next((line for line in output.splitlines() if "error" in line), output.strip())


def _registered(target: str, wide: bool) -> str:
    """The name by which programs call a kernel."""
    return f"{target}_wide" if wide else target


def in_use() -> bool:
    """Tells whether programs of the platform call the kernels."""
    from resjax.ops.platform import platform

    return platform() == "cpu" and available()


def _compiler() -> tuple[str, ...]:
    """The words of the command that runs the C++ compiler, from CXX if set; () if there is none."""
    named = shlex.split(os.environ.get("CXX", ""))
    for words in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(words[0]):
            return tuple(words)
    if not named and find_spec(OF_A_PACKAGE):
        return sys.executable, "-m", OF_A_PACKAGE, "c++"
    return ()


def _opened(compiler: tuple[str, ...]) -> ctypes.CDLL:
    """Loads the library, and builds it once more if the file that is there is damaged."""
    path = _build(compiler)
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):  # which macOS does not tell
            raise
        path.unlink(missing_ok=True)
        return ctypes.CDLL(str(_build(compiler)))


def _build(compiler: tuple[str, ...]) -> Path:
    """The path of the library for this compiler, CPU and jaxlib, which is built if missing."""
    library, command = _library(compiler)
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        what = "building CPU kernels, once on a machine"
        with waiting(what), _alone(library.with_suffix(".lock")):
            if not library.exists():  # or another process has built it meanwhile
                _compile(command, library)
    return library


def _library(compiler: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The path of the library, and the command that compiles it; does not import JAX."""
    interface = Path(find_spec("jaxlib").submodule_search_locations[0], "include")
    # The generic flag of gcc and clang for "this machine" has another name on ARM.
    own = "-march=native" if platform.machine() in ("x86_64", "AMD64") else "-mcpu=native"
    command = [*compiler, *FLAGS, own, "-isystem", str(interface)]
    version_of_compiler = subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    contents = [path.read_text(encoding="utf-8") for path in sorted(SOURCES.glob("[!.]*.[ch]*"))]
    identity = (contents, command, version_of_compiler, version("jaxlib"), cpu_kind())
    name = hashlib.sha256(repr(identity).encode()).hexdigest()[:16]
    return cache_directory() / "native" / f"{name}.so", command


SECONDS_TO_COMPILE = 900.0
"""Seconds after which a compiler is given up, which takes 10 on an idle machine, or 60 at first."""


def _compile(command: list[str], library: Path) -> None:
    """Compiles the sources to a library: the largest, and the others together, side by side.

    Each unit reads the headers of XLA, which takes longer than a small source.
    """
    sources = sorted(SOURCES.glob("[!.]*.cc"), key=lambda path: path.stat().st_size)
    with tempfile.TemporaryDirectory(dir=library.parent) as partial:

        def run(words: list[str], name: str, text: str | None = None) -> str:
            result = str(Path(partial) / name)
            subprocess.run(
                [*command, *words, "-o", result],
                input=text, capture_output=True, text=True, check=True, timeout=SECONDS_TO_COMPILE,
            )  # fmt: skip
            return result

        def compiled(unit: list[Path]) -> str:
            text = "".join(f'#include "{source}"\n' for source in unit)
            return run(["-c", "-x", "c++", "-"], f"{unit[0].stem}.o", text)

        with concurrent.futures.ThreadPoolExecutor(2) as side_by_side:
            objects = list(side_by_side.map(compiled, [sources[-1:], sources[:-1]]))
        Path(run(["-shared", *objects], "kernels.so")).replace(library)


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Holds a lock file, so that no other process builds the same library meanwhile."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


if __name__ == "__main__":
    _build(_compiler())
