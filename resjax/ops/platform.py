"""The platform that a program is traced for: different code is fast on each."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_LOWERED_FOR: ContextVar[str | None] = ContextVar("lowered_for", default=None)
_FOR_RUNS: ContextVar[bool] = ContextVar("for_runs", default=False)


def platform() -> str:
    """The platform, such as "cpu": that of `traced_for`, or else of the default device."""
    return _LOWERED_FOR.get() or jax.default_backend()


@contextlib.contextmanager
def traced_for(name: str) -> Iterator[None]:
    """Makes the functions inside be traced for a platform, which this machine need not have.

    JAX caches what it has traced: a function that was traced outside is not traced again.
    """
    token = _LOWERED_FOR.set(name)
    try:
        yield
    finally:
        _LOWERED_FOR.reset(token)


def traced_for_runs() -> bool:
    """Tells whether what is traced will be mapped over several runs, as in `tracing_for_runs`."""
    return _FOR_RUNS.get()


@contextlib.contextmanager
def tracing_for_runs() -> Iterator[None]:
    """Makes the functions inside be traced as those of one of several runs that vmap maps over."""
    token = _FOR_RUNS.set(True)
    try:
        yield
    finally:
        _FOR_RUNS.reset(token)
