"""Compiled programs are kept on disk, so that no process compiles what another one has."""

import jax

from resjax.cache import cache_directory, cpu_kind

SECONDS_WORTH_KEEPING = 0.03
"""To compile a program; what a network begins with is a dozen of a tenth each."""


def enable_cache() -> None:
    """Turns JAX's persistent compilation cache on, shared by all runs of this user.

    It is in `resjax/compiled/CPU/` under XDG_CACHE_HOME (by default ~/.cache), where CPU is
    `cpu_kind()`: compiled code has the instructions of the CPU that it was compiled on, and ends
    the process on one that lacks them. Nothing in JAX's own names of the files is sure to tell the
    CPUs apart, and machines with different ones may share a home directory.

    If JAX_COMPILATION_CACHE_DIR names another directory, that is used as it is.
    """
    if jax.config.jax_compilation_cache_dir is None:
        directory = cache_directory() / "compiled" / cpu_kind()
        jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SECONDS_WORTH_KEEPING)
