"""The platform that a program is traced for, since what is fast differs."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax

_LOWERED_FOR: ContextVar[str | None] = ContextVar("lowered_for", default=None)


def platform() -> str:
    """The platform, such as "cpu", "gpu" or "tpu": of the default device, if no other is meant."""
    return _LOWERED_FOR.get() or jax.default_backend()


@contextlib.contextmanager
def traced_for(name: str) -> Iterator[None]:
    """Traces the functions inside for a platform that need not be here.

    JAX keeps what it has traced: a function that was traced outside is not traced again.
    """
    token = _LOWERED_FOR.set(name)
    try:
        yield
    finally:
        _LOWERED_FOR.reset(token)
