"""The Ray cluster: how it is reached, and the resources of its nodes."""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ml_collections import ConfigDict
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import resjax
from resjax.config import ConfigError, type_and_message
from resjax.runs import manifest

SECONDS_TO_ANSWER = 10.0
"""Seconds without an answer after which a cluster counts as unreachable."""

FRAME_HEADER, SETTINGS = 9, b"\x04"
"""Bytes of a frame's header in HTTP/2, and type of the first frame (RFC 9113, 4.1 and 6.5)."""

GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + SETTINGS + bytes(5)

SHIPPED = ("JAX_", "XLA_", "TFDS_DATA_DIR")
"""Prefixes of the environment variables that a cluster's workers get from the driver."""

SLICE, NUMBER_IN_SLICE = "ray.io/tpu-slice-name", "ray.io/tpu-worker-id"
"""Labels of a node in Ray: the name of its TPU slice, and its number there."""

NOTHING = "nothing"

OBJECT_STORE_BYTES = 100 * 2**20
"""Bytes of the object store of a Ray started here, which holds only configs and summaries."""


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Connects to a cluster, or starts Ray on this machine, and disconnects at the end.

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
        raise ConfigError(f"{what}: {type_and_message(error)}; see ray status") from None
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
        answer = _answer(host.strip("[]"), int(port))
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
    if answer[3:4] != SETTINGS and os.environ.get("RAY_USE_TLS") != "1":
        raise _out_of_reach(address, "what answers there is not Ray")
    return place


def _answer(host: str, port: int) -> bytes:
    """The first bytes that a server sends to a gRPC client: for Ray, a frame of HTTP/2.

    Ray itself would wait without end for a server that accepts a connection and sends nothing.
    """
    with (
        socket.create_connection((host, port), SECONDS_TO_ANSWER) as connection,
        connection.makefile("rb") as reader,
    ):
        connection.sendall(GREETING)
        return reader.read(FRAME_HEADER)


def _out_of_reach(address: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the Ray cluster --address={address} cannot be reached ({reason}); start it with ray "
        "start --head, or leave --address out for a Ray on this machine"
    )


def _shipped() -> dict[str, Any]:
    """The runtime environment of a cluster's workers: this package, and JAX's variables."""
    [package] = resjax.__path__
    variables = {key: value for key, value in os.environ.items() if key.startswith(SHIPPED)}
    variables[manifest.GIT_STATE] = json.dumps(manifest.git_state())
    return {"py_modules": [package], "excludes": ["__pycache__"], "env_vars": variables}


def needs(config: ConfigDict) -> dict[str, float]:
    """The resources that a run occupies on one node, in Ray's names; all chips of a slice node."""
    resources = config.resources
    amounts = {"CPU": float(resources.cpus), "GPU": float(resources.gpus)}
    if resources.tpu:
        holders = [node for node in _offers().values() if resources.tpu in node]
        chips = max((node.get("TPU", 0.0) for node in holders), default=0.0)
        amounts |= {resources.tpu: 1.0, "TPU": chips}
    return {name: amount for name, amount in amounts.items() if amount}


def _offers() -> dict[str, dict[str, float]]:
    """The total resources of each node, {node: {resource: amount}}."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def is_offered(amounts: Mapping[str, float]) -> bool:
    """Tells whether a node has all of {resource: amount}, free or not."""
    return any(
        all(node.get(name, 0.0) >= amount for name, amount in amounts.items())
        for node in _offers().values()
    )


def refuse_unoffered(config: ConfigDict) -> None:
    """Raises ConfigError if no node could ever run a config."""
    needed = needs(config)
    if not is_offered(needed):
        kinds = {_listed(node) for node in _offers().values()} - {NOTHING}
        raise ConfigError(
            f"a run needs {_listed(needed)}, and no node has that; the cluster offers "
            f"{' or '.join(sorted(kinds)) or NOTHING} on a node; change config.resources"
        )


def others_of_slice() -> list[str]:
    """The other nodes of this node's TPU slice, in the order of their numbers."""
    here = ray.get_runtime_context().get_node_id()
    labels = {node["NodeID"]: node.get("Labels", {}) for node in ray.nodes() if node["Alive"]}
    if SLICE not in labels[here]:
        return []
    slice_of_here = labels[here][SLICE]
    others = [node for node in labels if node != here and labels[node].get(SLICE) == slice_of_here]
    return sorted(others, key=lambda node: int(labels[node].get(NUMBER_IN_SLICE, 0)))


def _listed(resources: Mapping[str, float]) -> str:
    """Text such as "2 CPU, 1 GPU", without Ray's internal resources."""
    own = ("node:", "memory", "object_store_memory", "accelerator_type:")
    shown = {name: amount for name, amount in resources.items() if not name.startswith(own)}
    return ", ".join(f"{amount:g} {name}" for name, amount in sorted(shown.items())) or NOTHING


def task(function: Any, amounts: Mapping[str, float], node: str | None = None) -> Any:
    """Makes a function a Ray task, tried once, in a fresh process, which JAX needs for its devices.

    Args:
      function: function to call.
      amounts: {resource: amount} that are reserved for it.
      node: node that it must be on, if it matters.
    """
    amounts = dict(amounts)
    cpus, gpus = amounts.pop("CPU", 0.0), amounts.pop("GPU", 0.0)
    where = (
        {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)} if node else {}
    )
    return ray.remote(
        num_cpus=cpus, num_gpus=gpus, resources=amounts, max_calls=1, max_retries=0, **where
    )(function)
