"""Ports for processes that a test starts."""

import contextlib
import secrets
import socket

PORTS = range(20_000, 32_768)
"""Below those that Linux gives to outgoing connections, and above those of Ray's workers.

One that the system proposes may be that of somebody's connection by the time a process takes it.
"""


def free_port() -> int:
    """A port of this machine that nobody listens on, drawn at random."""
    while True:
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("localhost", secrets.choice(PORTS)))
            return listening.getsockname()[1]
