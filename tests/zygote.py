"""Processes that are forked from one which has imported all: a new one starts in no time.

As a program it starts what it is told to over a socket. Nothing of JAX but the import happens
before the fork, so every process chooses its devices and settings itself.
"""

import array
import contextlib
import itertools
import json
import math
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

ROOT = Path(__file__).parents[1]

MOST_BYTES = 1 << 17
"""Of a job, which is its words and its environment."""


class Process:
    """A process that was forked; it is asked and waited for like a `subprocess.Popen`.

    Attributes:
      pid: as the system knows it.
      returncode: None until it was waited for; -9 after SIGKILL.
    """

    def __init__(self, status: socket.socket, written: list[BinaryIO]):
        self._status, self._written = status, written
        self.returncode: int | None = None
        self.pid = self._told()["pid"]

    def _told(self) -> dict[str, int]:
        line = self._status.recv(1000)
        if not line:
            raise RuntimeError("the process that others are forked from has ended")
        return json.loads(line)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code.

        Raises:
          subprocess.TimeoutExpired: if it has not ended after so many seconds, without those in
            which this process stood still as well.
        """
        if self.returncode is None:
            looks = itertools.count() if timeout is None else range(math.ceil(timeout))
            if not any(select.select([self._status], [], [], 1)[0] for _ in looks):
                raise subprocess.TimeoutExpired("a forked process", timeout)
            self.returncode = self._told()["status"]
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed, and its errors, once it has ended."""
        self.wait(timeout)
        texts = []
        for file in self._written:
            with file:
                file.seek(0)
                texts.append(file.read().decode())
        output, errors = texts
        return output, errors

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Forks processes; a context manager."""

    def __init__(self):
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote", str(theirs.fileno())],
                cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def __enter__(self) -> "Zygote":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.process.wait()

    def start(
        self,
        *words: object,
        environment: Mapping[str, str] | None = None,
        directory: Path = ROOT,
        output: int | None = None,
    ) -> Process:
        """A process that does what `python WORDS` would.

        Args:
          words: "-m", a module and its arguments, or "-c", a program and its arguments.
          environment: variables beside those of this process.
          directory: in which it works.
          output: a descriptor for what it prints, which `communicate` does not return then.
        """
        job = {
            "words": list(map(str, words)),
            "environment": os.environ | (environment or {}),
            "directory": str(directory),
        }
        written = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            descriptors = [theirs.fileno(), *(file.fileno() for file in written)]
            if output is not None:
                descriptors[1] = output
            packed = array.array("i", descriptors).tobytes()
            self.connection.sendmsg(
                [json.dumps(job).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]
            )
        return Process(status, written)

    def run(
        self, *words: object, timeout: float | None = None, **options
    ) -> subprocess.CompletedProcess:
        """A process that has ended, with what it printed; `options` are those of `start`."""
        process = self.start(*words, **options)
        output, errors = process.communicate(timeout)
        return subprocess.CompletedProcess(words, process.returncode, output, errors)


# ---------------------------------------------------------------------------------- as a program


def jobs_of(connection: socket.socket) -> dict:
    """Forks at every job; returns in the new processes only, each with its own."""
    running = selectors.DefaultSelector()
    running.register(connection, selectors.EVENT_READ)
    while True:
        for key, _ in running.select():
            if key.data is not None:  # a process has ended
                pid, status = key.data
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                send(status, {"status": code})
                running.unregister(key.fileobj)
                os.close(key.fd)
                status.close()
                continue
            message, descriptors, *_ = socket.recv_fds(connection, MOST_BYTES, 3)
            if not message:
                os._exit(0)
            status = socket.socket(fileno=descriptors[0])
            pid = os.fork()
            if not pid:
                connection.close()
                for place, descriptor in enumerate(descriptors[1:], start=1):
                    os.dup2(descriptor, place)
                    os.close(descriptor)
                return json.loads(message)
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            send(status, {"pid": pid})
            running.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))


def send(status: socket.socket, fact: dict[str, int]) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        status.send(json.dumps(fact).encode())


def become(job: dict) -> None:
    """Does what `python WORDS` does, in this process."""
    import jax

    from resjax.process import set_up

    changed = job["environment"].items() - os.environ.items()
    os.environ.clear()
    os.environ.update(job["environment"])
    for name, value in changed:
        if name.startswith("JAX_"):  # which JAX has read when it was imported
            before = getattr(jax.config, name.lower())
            new = json.loads(value.lower()) if isinstance(before, bool | int) else value
            jax.config.update(name.lower(), new)
    set_up()
    os.chdir(job["directory"])
    sys.path[0] = job["directory"]
    kind, what, *arguments = job["words"]
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


def import_all() -> None:
    import orbax.checkpoint  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import tensorboardX  # noqa: F401

    import resjax.runs.loop  # noqa: F401


if __name__ == "__main__":
    import_all()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        job = jobs_of(connection)
    become(job)
