"""The Ray launcher: each run of a grid is a Ray task, in a process of its own, where there is room.

Ray says where a run trains and that a process or a node is gone. What is done, who is at work and
where to go on is in the directories of the runs, which are on storage that all nodes see: a driver
that is started again reads it there, and so do drivers and local launchers beside it.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import ray
from ml_collections import ConfigDict
from ray import exceptions

import resjax
from resjax.config import ConfigError, default_config, flatten
from resjax.interruption import EXIT_UNFINISHED, deferred, interruptible
from resjax.sweeps import local
from resjax.sweeps.local import Outcome
from resjax.training import claims, manifest, rundir
from resjax.training.summary import Progress, read_summary

POLL = 0.2
"""Seconds between two looks at the tasks."""

SECONDS_TO_ANSWER = 10.0
"""For a cluster, until it counts as out of reach."""

SECONDS_FOR_A_NODE = 300.0
"""Until one comes back, if no node that is left has what a run needs."""

SECONDS_TO_LEAVE = 60.0
"""For runs that were asked to save their state and end."""

SHIPPED = ("JAX_", "XLA_", "TFDS_DATA_DIR")
"""Starts of the environment variables that a cluster's workers get from the driver."""

SLICE = "ray.io/tpu-slice-name"
"""The label by which Ray tells the nodes of a TPU slice."""

PLATFORM_KEYS = {"gpu": "gpus=1", "tpu": "tpu=TPU-v4-8-head"}
"""What reserves a device of a kind."""

NOTHING = "nothing"

OBJECT_STORE_BYTES = 100 * 2**20
"""Of a Ray that is started here; no more than configs and summaries pass through it."""


class Observer(Protocol):
    """What a sweep tells while it works."""

    def tell(self) -> None: ...

    def finished(self, outcome: Outcome) -> None: ...


# ------------------------------------------------------------------------------------- the cluster


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connects to a cluster, or starts a Ray of this machine alone, and leaves it at the end.

    Args:
      address: "auto", for what RAY_ADDRESS names or the cluster that this machine is a node of;
        HOST:PORT; or None.

    Raises:
      ConfigError: if there is no cluster, or it cannot be reached.
    """
    settings: dict[str, Any] = {"logging_level": logging.ERROR}
    if address is None:
        settings |= {"address": "local", "include_dashboard": False}
        settings |= {"object_store_memory": OBJECT_STORE_BYTES}
    else:
        settings |= {"address": _reachable(address), "runtime_env": _shipped()}
    try:
        ray.init(**settings)
    except (OSError, RuntimeError, ValueError, SystemExit) as error:
        what = "Ray does not start" if address is None else f"--address={address}"
        raise ConfigError(f"{what}: {_one_line(error)}; ray status tells more") from None
    try:
        yield
    finally:
        ray.shutdown()


def _reachable(address: str) -> str:
    """HOST:PORT of a cluster that answers."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    if "://" in address:
        raise ConfigError(
            f"--address={address} is that of a client; start resjax on a node of the cluster, with "
            "--address=auto"
        )
    try:
        place = canonicalize_bootstrap_address_or_die(address)
        host, _, port = place.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except ConnectionError as error:
        reason = error.strerror or str(error).partition(".")[0]
        raise _out_of_reach(address, reason) from None
    except TimeoutError:
        raise _out_of_reach(address, f"no answer within {SECONDS_TO_ANSWER:.0f} s") from None
    except OSError as error:
        raise _out_of_reach(address, str(error.strerror)) from None
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--address={address} is neither auto nor HOST:PORT, such as node0:6379"
        ) from None
    return place


def _out_of_reach(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the Ray cluster --address={address} cannot be reached ({reason}); start it with ray "
        "start --head, or leave --address out for a Ray on this machine"
    )


def _shipped() -> dict[str, Any]:
    """What the workers of a cluster get: this package as it is here, and what JAX is told."""
    [package] = resjax.__path__
    told = {key: value for key, value in os.environ.items() if key.startswith(SHIPPED)}
    told[manifest.GIT_STATE] = json.dumps(manifest.git_state())
    return {"py_modules": [package], "excludes": ["__pycache__"], "env_vars": told}


def _needs(config: ConfigDict) -> dict[str, float]:
    """What a run occupies, as Ray names it; a slice is all chips of its node."""
    resources = config.resources
    needs = {"CPU": float(resources.cpus), "GPU": float(resources.gpus)}
    if resources.tpu:
        holders = [node for node in _offers().values() if resources.tpu in node]
        chips = max((node.get("TPU", 0.0) for node in holders), default=0.0)
        needs |= {resources.tpu: 1.0, "TPU": chips}
    return {name: amount for name, amount in needs.items() if amount}


def _offers() -> dict[str, dict[str, float]]:
    """What each node has in all, {node: {resource: amount}}."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _is_offered(needs: Mapping[str, float]) -> bool:
    return any(
        all(node.get(name, 0.0) >= amount for name, amount in needs.items())
        for node in _offers().values()
    )


def _refuse_unoffered(config: ConfigDict) -> None:
    """Raises ConfigError if no node could ever run this."""
    needs = _needs(config)
    if not _is_offered(needs):
        kinds = {_listed(node) for node in _offers().values()} - {NOTHING}
        raise ConfigError(
            f"a run needs {_listed(needs)}, and no node has that; the cluster offers "
            f"{' or '.join(sorted(kinds)) or NOTHING} on a node; change config.resources"
        )
    if (hosts := _hosts_of_slice(config.resources.tpu)) > 1:
        raise ConfigError(
            f"resources.tpu={config.resources.tpu} is a slice of {hosts} hosts, and Ray starts a "
            "run on one; start resjax on all of them without Ray, or choose slices of one host"
        )


def _hosts_of_slice(name: str) -> int:
    """Of the largest slice that Ray has by a name."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    slices = [node.get("Labels", {}).get(SLICE) for node in nodes]
    heads = [held for held, node in zip(slices, nodes, strict=True) if name in node["Resources"]]
    return max((slices.count(held) for held in heads if held), default=1)


def _listed(resources: Mapping[str, float]) -> str:
    """Such as "2 CPU, 1 GPU", without what Ray keeps for itself."""
    own = ("node:", "memory", "object_store_memory", "accelerator_type:")
    shown = {name: amount for name, amount in resources.items() if not name.startswith(own)}
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(shown.items())) or NOTHING


# ------------------------------------------------------------------------------------- on a worker


@dataclasses.dataclass(frozen=True)
class _Place:
    """What a worker must know beside the config: where relative paths begin, and the platform."""

    working_directory: str
    platform: str | None

    def enter(self, directory: Path, config: ConfigDict) -> None:
        """Makes this process one in which a run can be.

        Raises:
          ConfigError: if the directory of the sweep is not seen from here.
        """
        from resjax.training import hosts
        from resjax.training.compilation import enable_cache

        with contextlib.suppress(OSError):  # a node that has no such directory
            os.chdir(self.working_directory)
        if not directory.parent.is_dir():
            raise ConfigError(
                f"{directory.parent} is not there on node {socket.gethostname()}; choose a "
                "--workdir on storage that all nodes see"
            )
        if 0 < config.resources.gpus < 1:  # or JAX would take three quarters of the memory
            share = f"{0.9 * config.resources.gpus:.2f}"
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", share)
        reserved = config.resources.gpus or config.resources.tpu
        if not reserved and self.platform in ("gpu", "tpu"):
            raise ConfigError(
                f"--platform={self.platform}, and none is reserved for a run; add "
                f"--config.resources.{PLATFORM_KEYS[self.platform]}"
            )
        # Ray hides no devices from a run that has reserved none, and other runs are on them.
        hosts.require_platform(self.platform if reserved else "cpu")
        enable_cache()


class _Notes:
    """Prints what a person should see; Ray hands it on to the driver."""

    def started(self, directory: Path) -> None:
        pass

    def progressed(self, directory: Path, progress: Progress) -> None:
        if progress.note:
            print(f"{directory.name}: {progress.note}", flush=True)


def check(place: _Place, runs: Mapping[Path, dict[str, Any]]) -> None:
    """`resjax.sweeps.local.check` where the runs will be."""
    configs = {directory: _config(flat) for directory, flat in runs.items()}
    place.enter(*next(iter(configs.items())))
    local.check(configs)


def run(place: _Place, directory: Path, flat: dict[str, Any]) -> Outcome | None:
    """How a run ended; None if another process is at it, or this one was asked to end.

    Ray cancels by SIGINT, and ends the processes of a node by SIGTERM. After both the run has saved
    its state.
    """
    config = _config(flat)
    with interruptible(EXIT_UNFINISHED, f"{directory.name}: interrupted"), deferred() as request:
        place.enter(directory, config)
        try:
            return local.run_one(directory, config, _Notes())
        except KeyboardInterrupt:
            if request.signal == signal.SIGINT:
                raise
            return None


def _config(flat: dict[str, Any]) -> ConfigDict:
    config = default_config()
    config.update_from_flattened_dict(flat)
    return config


# ------------------------------------------------------------------------------------ on the driver


def run_sweep(
    runs: Mapping[Path, ConfigDict],
    observer: Observer,
    retry: bool = False,
    platform: str | None = None,
) -> list[Outcome]:
    """Trains what has not ended yet on the cluster that this process is connected to.

    A run whose process or node dies is started again, `resources.retries` times, and goes on from
    its last checkpoint; one that fails is recorded and the rest go on. Asked to end, this process
    has the runs save their state first.

    Args:
      runs: {absolute directory: config}.
      observer: is told of everything.
      retry: goes on with what failed before.
      platform: that JAX must see on the nodes.

    Raises:
      ConfigError: if a run is refused, or no node has what it needs.
      OSError: if a disk is full.
      KeyboardInterrupt: if this process was asked to end.
    """
    place = _Place(os.getcwd(), platform)
    with deferred() as request:
        request.patience = 1e6  # that of the runs is what counts
        work = _Work(runs, place, observer)
        try:
            work.check()
            if retry:
                local.forget_failures(runs)
            while len(work.outcomes) < len(runs):
                if request():
                    raise KeyboardInterrupt
                work.advance()
        finally:
            work.leave()
    return [work.outcomes[directory] for directory in runs]


class _Work:
    """The runs of a sweep between a driver and its tasks."""

    def __init__(self, runs: Mapping[Path, ConfigDict], place: _Place, observer: Observer):
        self.runs, self.place, self.observer = runs, place, observer
        self.outcomes: dict[Path, Outcome] = {}
        self.tasks: dict[ray.ObjectRef, Path] = {}
        self.deaths = dict.fromkeys(runs, 0)
        self.looked, self.offered = float("-inf"), time.monotonic()

    def check(self) -> None:
        """Refuses a grid in which a run cannot be run, before the first is.

        Raises:
          ConfigError: for the first run that is wrong, or has no node.
        """
        for config in self.runs.values():
            if config.train.side_by_side > 1:
                raise ConfigError(
                    f"train.side_by_side={config.train.side_by_side} has no effect, Ray runs every "
                    "run in a process of its own; set it to 0, or use --launcher=local"
                )
        groups: dict[tuple, dict[Path, ConfigDict]] = {}
        for directory, config in self.runs.items():
            groups.setdefault(tuple(_needs(config).items()), {})[directory] = config
        for group in groups.values():
            _refuse_unoffered(next(iter(group.values())))
        for parent in {directory.parent for directory in self.runs}:
            rundir.make_directory(parent)
        for group in groups.values():
            first = next(iter(group.values()))
            flat = {directory: flatten(config) for directory, config in group.items()}
            self.tasks[_submit(check, first, self.place, flat)] = next(iter(group))
        while self.tasks:
            for reference in self._ended():
                self._get(reference)

    def advance(self) -> None:
        """Starts what may be started, and sees what has ended."""
        if time.monotonic() - self.looked > local.SECONDS_TO_LOOK_AGAIN:
            self._look()
            self.looked = time.monotonic()
        for reference, directory in self._ended().items():
            try:
                outcome = self._get(reference)
            except exceptions.RayError as error:
                outcome = self._after_death(directory, error)
            if outcome:
                self._end(outcome)

    def leave(self) -> None:
        """Asks the runs that are at work to save their state, and waits for them."""
        for reference in self.tasks:
            ray.cancel(reference)
        if self.tasks:
            ray.wait(
                list(self.tasks), num_returns=len(self.tasks), timeout=SECONDS_TO_LEAVE,
                fetch_local=False,
            )  # fmt: skip
        self.tasks.clear()

    def _look(self) -> None:
        """Starts all runs that nobody is at, and takes over what is known of those that ended."""
        at_work = set(self.tasks.values())
        for directory, config in self.runs.items():
            if directory in self.outcomes or directory in at_work:
                continue
            state, reason = local.before(directory)
            if state == rundir.DONE:
                self._end(Outcome(directory, read_summary(directory), skipped=True))
            elif state == rundir.FAILED:
                self._end(local.failed_before(directory, reason))
            elif state != local.RUNNING:
                task = _submit(run, config, self.place, directory, flatten(config))
                self.tasks[task] = directory
        if not self.tasks or any(_is_offered(_needs(self.runs[run])) for run in at_work):
            self.offered = time.monotonic()
        elif time.monotonic() - self.offered > SECONDS_FOR_A_NODE:
            _refuse_unoffered(self.runs[next(iter(self.tasks.values()))])

    def _ended(self) -> dict[ray.ObjectRef, Path]:
        """The tasks that have ended since the last look, after a moment."""
        self.observer.tell()
        if not self.tasks:
            time.sleep(POLL)
            return {}
        waiting = list(self.tasks)
        ended, _ = ray.wait(waiting, num_returns=len(waiting), timeout=POLL, fetch_local=False)
        return {reference: self.tasks.pop(reference) for reference in ended}

    def _get(self, reference: ray.ObjectRef) -> Outcome | None:
        try:
            return ray.get(reference)
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, ConfigError):
                raise ConfigError(str(cause)) from None
            if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
                raise cause from None
            raise ConfigError(
                f"a worker cannot run resjax: {_one_line(cause)}; install resjax and what it "
                "requires on all nodes, as here"
            ) from error
        except exceptions.RuntimeEnvSetupError as error:
            raise ConfigError(f"resjax does not reach the workers: {_one_line(error)}") from None

    def _after_death(self, directory: Path, error: Exception) -> Outcome | None:
        """Of a run whose process is gone: None if it is tried again."""
        self.deaths[directory] += 1
        retries = self.runs[directory].resources.retries
        if self.deaths[directory] <= retries:
            return None
        times = self.deaths[directory]
        reason = (
            f"its process died {times} time{'s' * (times > 1)} ({type(error).__name__}), more "
            f"often than resources.retries={retries} allows"
        )
        if rundir.run_state(directory) == rundir.UNFINISHED and not claims.owner(directory):
            rundir.write_text(directory / "error.txt", f"{reason}\n\n{error}\n")
        return Outcome(directory, None, reason)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.directory] = outcome
        self.observer.finished(outcome)


def _submit(function: Any, config: ConfigDict, *arguments: Any) -> ray.ObjectRef:
    """A task in a fresh process, which JAX needs for its devices, that Ray itself tries once."""
    needs = _needs(config)
    cpus, gpus = needs.pop("CPU", 0.0), needs.pop("GPU", 0.0)
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, resources=needs, max_calls=1, max_retries=0)(
        function
    )
    return task.remote(*arguments)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
