"""Compiled programs are kept on disk, so that no process compiles what another one has."""

import os
from pathlib import Path

import jax


def enable_cache() -> None:
    """Turns JAX's persistent compilation cache on, shared by all runs of this user.

    It is in `resjax/` under XDG_CACHE_HOME (by default ~/.cache), unless JAX_COMPILATION_CACHE_DIR
    names another directory.
    """
    if jax.config.jax_compilation_cache_dir is None:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "resjax" / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
