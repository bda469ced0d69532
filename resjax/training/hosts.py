"""Processes of a run on several hosts: how they find each other, agree, and which one writes.

All take the same steps on their part of a batch. Process 0 alone reads and writes run directories,
and tells the others what it finds there.
"""

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np

from resjax import job
from resjax.config import ConfigError, differences, notify
from resjax.process import set_up

Value = TypeVar("Value")

JOINING = "joining the other hosts"

SECONDS_TO_LEAVE = 20
"""Maximum seconds that a process which ends waits for the others to end."""

PLATFORMS = {
    # by --platform: what to do if there is none
    "cpu": "",
    "gpu": "install the extra cuda12 or cuda13, as in pip install -e '.[cuda12]', and check that "
    "nvidia-smi lists one",
    "tpu": "install the extra tpu, pip install -e '.[tpu]', and check that no other process "
    "holds it",
}

NOTHING_FOUND = "coordinator_address should be defined"
"""JAX's message if nothing that it looks at tells of other hosts."""

HOW_TO_NAME_HOSTS = "--coordinator=HOST:PORT, --processes and --process"


def connect(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: int = 300,
) -> None:
    """Connects the processes of a run, if there are several; to be called before JAX computes.

    On a plain machine it does nothing. Under Slurm, Open MPI and on TPU slices JAX finds the
    others; anywhere else the arguments say who they are. A TPU VM for which JAX finds none is
    alone, with a notice.

    Args:
      coordinator: HOST:PORT of process 0, as the others reach it.
      processes: number of processes.
      process: number of this one, from 0.
      timeout: seconds to wait for the others.

    Raises:
      ConfigError: if the arguments are incomplete, the port of process 0 is taken, JAX cannot find
        out who the others are, or they are not there in time.
    """
    given = [coordinator, processes, process]
    if given == [None] * 3:
        if job.may_have_hosts():
            _join_found(timeout)
        return
    if coordinator is None or processes is None or process is None:
        raise ConfigError("several hosts need all of --coordinator, --processes and --process")
    host, _, port = coordinator.rpartition(":")
    if not host or not re.fullmatch("0*[1-9][0-9]{0,4}", port) or int(port) >= 2**16:
        raise ConfigError(f"--coordinator={coordinator} is not HOST:PORT, such as node0:1234")
    if not 0 <= process < processes:
        raise ConfigError(f"--process={process} is none of 0 to {processes - 1}")
    # JAX would end the process if nobody answers, or the port is taken; this says so in one line.
    if process:
        _await_answer(host.strip("[]"), int(port), timeout)
    else:
        _refuse_taken(host, int(port))
    settings = {
        "coordinator_address": coordinator, "num_processes": processes, "process_id": process,
        "cluster_detection_method": "deactivate",
    }  # fmt: skip
    others = f"{processes} processes at --coordinator={coordinator}"
    if failure := _initialise(settings, others, timeout):
        raise ConfigError(f"cannot join {others}: {failure}")


def _join_found(timeout: int) -> None:
    """Connects to the hosts that JAX finds; a TPU VM for which it finds none goes on alone."""
    failure = _initialise({}, "the processes of this job", timeout)
    if not failure:
        return
    if not job.names_hosts() and NOTHING_FOUND in failure:
        notify(
            "this TPU VM trains alone, as nothing tells JAX of other hosts of its slice; if there "
            f"are any, stop and name them to each by {HOW_TO_NAME_HOSTS}"
        )
        return
    remedy = f"name them to each by {HOW_TO_NAME_HOSTS}"
    if not job.names_hosts():
        remedy += ", or set TPU_WORKER_HOSTNAMES=localhost if there are none"
    raise ConfigError(f"cannot join the other hosts of this job ({failure}); {remedy}")


def _initialise(settings: Mapping[str, Any], others: str, timeout: int) -> str:
    """Connects in a thread, as JAX would end the whole process at its own timeout.

    Returns:
      What prevented it, in one line; empty if nothing did.

    Raises:
      ConfigError: if the others are not there in time.
    """
    failed: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                **settings,
                initialization_timeout=timeout + 3600,
                shutdown_timeout_seconds=SECONDS_TO_LEAVE,
            )
        except Exception as error:  # of requests, where the server of a VM's metadata is asked
            failed.append(error)

    thread = threading.Thread(target=join, name=JOINING, daemon=True)
    thread.start()
    thread.join(timeout)
    if failed:
        lines = filter(None, map(str.strip, str(failed[0]).splitlines()))
        return next(lines, type(failed[0]).__name__)
    if thread.is_alive():
        raise ConfigError(
            f"{others} have not met within {timeout} s; start them together, or raise "
            "--connect-timeout"
        )
    return ""


def leave() -> None:
    """Disconnects once all processes have called this; each is a job of one from then on."""
    jax.distributed.shutdown()


def joining() -> bool:
    """Tells whether JAX still waits for the others; the process then cannot exit normally."""
    return any(thread.name == JOINING for thread in threading.enumerate())


def _await_answer(host: str, port: int, timeout: int) -> None:
    end, reason = time.monotonic() + timeout, "no answer"
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except UnicodeError:
            raise ConfigError(
                f"--coordinator={host}:{port} has no name of a host; write HOST:PORT, such as "
                "node0:1234"
            ) from None
        except OSError as error:
            reason = error.strerror or str(error)
        if time.monotonic() > end:
            raise ConfigError(
                f"--coordinator={host}:{port} does not answer within {timeout} s ({reason}); start "
                "process 0 there, or leave --coordinator out to run on this host alone"
            )
        time.sleep(min(1.0, max(0.0, end - time.monotonic())) + 0.01)


def _refuse_taken(host: str, port: int) -> None:
    """Raises ConfigError if this process cannot listen on a port."""
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        raise ConfigError(
            f"process 0 cannot listen at --coordinator={host}:{port} "
            f"({os.strerror(error.errno or 0)}); choose another port"
        ) from None


def require_platform(platform: str | None) -> None:
    """Makes sure that JAX computes on the requested kind of device, not silently on the CPU.

    Raises:
      ConfigError: if there is no such device.
    """
    if platform == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        set_up()  # which found an accelerator on this machine, perhaps
        jax.config.update("jax_platforms", "cpu")
    if refusal := no_device():
        raise refusal
    found = jax.default_backend()
    if platform not in (None, found):
        raise ConfigError(
            f"--platform={platform}, but JAX sees only {found}; {PLATFORMS[platform]}, or leave "
            "--platform out"
        )


def no_device() -> ConfigError | None:
    """The error that says why JAX has no device to compute on; None if it has one."""
    try:
        jax.default_backend()
    except (AssertionError, RuntimeError) as error:  # the former where there is no GPU at all
        platforms = jax.config.jax_platforms
        reason = f" ({str(error).splitlines()[0]})" if str(error) else ""
        remedy = (
            f"it looks for JAX_PLATFORMS={platforms} alone; unset that, or set it to cpu"
            if platforms
            else "set JAX_PLATFORMS=cpu to compute without"
        )
        return ConfigError(f"JAX finds no device{reason}; {remedy}")
    return None


def is_first() -> bool:
    """Tells whether this is process 0, which reads and writes for all."""
    return jax.process_index() == 0


def on_first(function: Callable[[], Value]) -> Value:
    """Calls a function on process 0 alone; all return its value, or raise its ConfigError.

    JSON must be able to hold the value.
    """
    if jax.process_count() == 1:
        return function()
    outcome: dict[str, Any] = {}
    if is_first():
        try:
            outcome = {"value": function()}
        except (ConfigError, OSError) as error:
            outcome = {"error": str(error)}
    outcome = json.loads(_everyones(json.dumps(outcome))[0])
    if "error" in outcome:
        raise ConfigError(outcome["error"])
    return outcome["value"]


def from_first(arrays: Any) -> Any:
    """Gives all processes the arrays of process 0, bit for bit; they pass arrays of equal shapes.

    They are sent as bytes: a sum with zeros, by which JAX sends them, changes the sign of -0.
    """
    from jax.experimental import multihost_utils

    raw = jax.tree.map(lambda array: np.ascontiguousarray(array).reshape(-1).view(np.uint8), arrays)
    sent = multihost_utils.broadcast_one_to_all(raw)
    return jax.tree.map(
        lambda array, got: np.asarray(got).view(array.dtype).reshape(array.shape), arrays, sent
    )


def refuse_different(settings: Mapping[str, Any]) -> None:
    """Makes sure that all processes have been given the same {key: value}.

    Raises:
      ConfigError: on every process, naming the keys.
    """
    if jax.process_count() == 1:
        return
    first, *others = map(json.loads, _everyones(json.dumps(settings)))
    for process, other in enumerate(others, start=1):
        if differing := differences(first, other, "on process 0", f"on process {process}"):
            raise ConfigError(
                f"the hosts have different configs ({differing}); start all with the same command"
            )


GO_ON, SAVE, LEAVE = "go on", "save", "leave"

SECONDS_BETWEEN_AGREEMENTS = 1.0

MOST_CALLS_BETWEEN_AGREEMENTS = 1000


class Agreement:
    """A joint decision of all hosts on what to do next: go on, save, or save and leave.

    They leave if any of them is asked to, and save by the clock of the first. A host that is alone
    decides at every call; several tell each other about once a second, after a number of calls
    that the first one chooses.

    Args:
      asked: returns whether this process is asked to leave.
      seconds: time from one save to the next.
    """

    def __init__(self, asked: Callable[[], bool], seconds: float):
        self.asked, self.seconds = asked, seconds
        self.saved = self.met = time.monotonic()
        self.calls, self.calls_between = 0, 1

    def __call__(self, settle: Callable[[], Any]) -> str:
        """Returns GO_ON, SAVE or LEAVE; every host must call it at the same places.

        `settle` waits until the device has done what it was given.
        """
        now = time.monotonic()
        asked, due = self.asked(), now - self.saved >= self.seconds
        if jax.process_count() > 1:
            self.calls += 1
            if self.calls < self.calls_between:
                return GO_ON
            settle()
            asked, due = self._meet(asked, due)
        if due:
            self.saved = time.monotonic()
        return LEAVE if asked else SAVE if due else GO_ON

    def _meet(self, asked: bool, due: bool) -> tuple[bool, bool]:
        from jax.experimental.multihost_utils import process_allgather

        now = time.monotonic()
        pace = max(now - self.met, 1e-6) / self.calls
        between = int(SECONDS_BETWEEN_AGREEMENTS / pace)
        between = min(max(1, between), MOST_CALLS_BETWEEN_AGREEMENTS)
        gathered = process_allgather(np.array([asked, due, between], np.int32))
        self.met, self.calls, self.calls_between = now, 0, int(gathered[0, 2])
        return bool(gathered[:, 0].any()), bool(gathered[0, 1])


def _everyones(text: str) -> list[str]:
    """Gathers the texts of all processes on each of them."""
    from jax.experimental.multihost_utils import process_allgather

    own = np.frombuffer(text.encode(), np.uint8)
    lengths = process_allgather(np.int32(len(own)))
    padded = process_allgather(np.pad(own, (0, lengths.max() - len(own))))
    return [bytes(row[:n]).decode() for row, n in zip(padded, lengths, strict=True)]
