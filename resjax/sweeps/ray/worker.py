"""The process of a run on a node, and those on the other hosts of its TPU slice."""

import contextlib
import dataclasses
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ml_collections import ConfigDict
from ray import exceptions

from resjax.accelerators import share_of_memory
from resjax.config import ConfigError, nested
from resjax.config.addresses import Address
from resjax.exits import EXIT_UNFINISHED
from resjax.interruption import deferred, interruptible
from resjax.process import enable_cache, set_up
from resjax.runs import scratch
from resjax.runs.estimate import total_work
from resjax.runs.plans import Plans
from resjax.runs.summary import Outcome, Progress
from resjax.sweeps import experiment, local
from resjax.sweeps.ray.cluster import needs, others_of_slice, task
from resjax.training import hosts

PLATFORM_KEYS = {"gpu": "gpus=1", "tpu": "tpu=TPU-v4-8-head"}
"""The key of `config.resources`, with a value, that reserves a device of each kind."""

PORTS = range(20_000, 32_768)
"""Ports for the first host of a slice: those between Ray's workers and outgoing connections.

Linux, unless it is configured otherwise, might give a higher one to an outgoing connection before
JAX listens on it.
"""

SECONDS_TO_MEET = 120
"""Maximum seconds for the hosts of a slice to start their processes."""

SECONDS_TO_NOTICE = 10
"""Maximum seconds for Ray to notice the death of a host's process that others cannot reach."""


class HostLost(RuntimeError):
    """The process of a run on another host of its slice died."""


@dataclasses.dataclass(frozen=True)
class WorkerSettings:
    """Settings that a worker needs besides the config.

    Attributes:
      working_directory: directory in which relative paths begin.
      platform: platform that JAX must see.
      experiment: path and text of the experiment file, which may define a shortcut.
      address: where the sweep is uploaded to, if anywhere.
      process: on the hosts of a slice other than the first, HOST:PORT of the first one, the
        number of all hosts, and the number of this one.
    """

    working_directory: str
    platform: str | None
    experiment: tuple[Path, str] | None
    address: Address | None = None
    process: tuple[str, int, int] | None = None

    @contextlib.contextmanager
    def entered(
        self, directory: Path, config: ConfigDict, function: Callable, *arguments: Any
    ) -> Iterator[list[ray.ObjectRef]]:
        """Prepares this process for a run, together with the other hosts of its slice.

        They call the function with their settings and the arguments, as this process does; their
        tasks are given to the first one.

        Raises:
          ConfigError: if the directory of the sweep is not seen from here, or cannot be made if it
            is uploaded, or the hosts of the slice do not meet.
        """
        with contextlib.suppress(OSError):  # a node that has no such directory
            os.chdir(self.working_directory)
        if self.address is not None:
            scratch.mark(directory.parent, self.address)
        elif not directory.parent.is_dir():
            raise ConfigError(
                f"{directory.parent} is not there on node {socket.gethostname()}; choose a "
                "--workdir on storage that all nodes see"
            )
        if gpus := config.resources.gpus:
            os.environ.update(share_of_memory(gpus))
        reserved = config.resources.gpus or config.resources.tpu
        if not reserved and self.platform in ("gpu", "tpu"):
            raise ConfigError(
                f"--platform={self.platform}, and none is reserved for a run; add "
                f"--config.resources.{PLATFORM_KEYS[self.platform]}"
            )
        set_up()
        with self._met(config, function, arguments) as followers:
            # Ray hides no devices from a run that has reserved none, and other runs are on them.
            hosts.require_platform(self.platform if reserved else "cpu")
            if self.experiment:
                experiment.run_module(*self.experiment)
            enable_cache()
            yield followers

    @contextlib.contextmanager
    def _met(
        self, config: ConfigDict, function: Callable, arguments: Any
    ) -> Iterator[list[ray.ObjectRef]]:
        """Connects the hosts of a slice for the block; the first one starts the others."""
        others = others_of_slice() if config.resources.tpu and not self.process else []
        followers = []
        if not self.process and not others:
            yield followers
            return
        if others:
            coordinator = f"{ray.util.get_node_ip_address()}:{_free_port()}"
            amounts = needs(config)
            del amounts[config.resources.tpu]
            for number, node in enumerate(others, start=1):
                settings = dataclasses.replace(self, process=(coordinator, len(others) + 1, number))
                followers.append(task(function, amounts, node).remote(settings, *arguments))
        process = self.process or (coordinator, len(others) + 1, 0)
        try:
            hosts.connect(*process, timeout=SECONDS_TO_MEET)
            yield followers
            hosts.leave()
        except ConfigError:
            _raise_refusal(followers)
            raise


def _raise_refusal(followers: list[ray.ObjectRef]) -> None:
    """Raises the error of another host, if that is why the host did not connect."""
    ended, _ = ray.wait(followers, num_returns=len(followers), timeout=SECONDS_TO_NOTICE)
    for follower in ended:
        try:
            ray.get(follower)
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, ConfigError):
                raise ConfigError(str(error.cause)) from None


def _is_lost(follower: ray.ObjectRef) -> bool:
    """Tells whether the process of a task died; one that raised an error has reported that."""
    try:
        ray.get(follower, timeout=0)
    except (exceptions.RayTaskError, exceptions.GetTimeoutError):
        return False
    except exceptions.RayError:
        return True
    return False


def _free_port() -> int:
    """A port of this machine that nobody listens on, drawn at random."""
    while True:
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("", secrets.choice(PORTS)))
            return found.getsockname()[1]


class _Notes:
    """Prints what a person should see; Ray passes it on to the driver."""

    def started(self, directory: Path) -> None:
        pass

    def progressed(self, directory: Path, progress: Progress) -> None:
        if progress.note:
            print(f"{directory.name}: {progress.note}", flush=True)


def check_there(settings: WorkerSettings, runs: Mapping[Path, dict[str, Any]]) -> dict[Path, float]:
    """Calls `resjax.sweeps.local.check` on a node, where the runs will be; returns their work."""
    configs, plans = {directory: nested(flat) for directory, flat in runs.items()}, Plans()
    with settings.entered(*next(iter(configs.items())), check_there, runs):
        local.check(configs, plans)
        return total_work(configs, plans)


def run_there(settings: WorkerSettings, directory: Path, flat: dict[str, Any]) -> Outcome | None:
    """Trains a run on this node; None if another process trains it, or this one was asked to end.

    Ray cancels by SIGINT, and ends the processes of a node by SIGTERM. After both the run has saved
    its state.

    Raises:
      HostLost: if the run ended with that of another host.
    """
    config = nested(flat)
    with (
        interruptible(EXIT_UNFINISHED, f"{directory.name}: interrupted"),
        deferred() as request,
        settings.entered(directory, config, run_there, directory, flat) as followers,
    ):
        try:
            outcome = local.run_one(directory, config, _Notes())
        except KeyboardInterrupt:
            if request.signal == signal.SIGINT:
                raise
            return None
        if followers and outcome and outcome.error:
            ray.wait(followers, timeout=SECONDS_TO_NOTICE)
            if any(map(_is_lost, followers)):
                local.forget_failures([directory])
                raise HostLost(outcome.error)
        return outcome
