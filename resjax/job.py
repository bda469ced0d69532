"""The other hosts of the job that this process belongs to, as its environment names them."""

import os
from collections.abc import Callable, Mapping

from resjax.accelerators import on_tpu_vm
from resjax.config import ConfigError

ENVIRONMENTS: dict[str, Callable[[Mapping[str, str]], bool]] = {
    # Whether this process is one of several, of which JAX itself finds the coordinator.
    "Slurm": lambda env: "SLURM_PROCID" in env and int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1,
    "Open MPI": lambda env: (
        "OMPI_MCA_orte_hnp_uri" in env and int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
    ),
    "TPU slice": lambda env: (
        "," in _hosts_of_slice(env) or int(env.get("MEGASCALE_NUM_SLICES") or 1) > 1
    ),
}


def names_hosts() -> bool:
    """Tells whether the environment names other hosts.

    Raises:
      ConfigError: if it is not understood.
    """
    try:
        return any(applies(os.environ) for applies in ENVIRONMENTS.values())
    except ValueError as error:
        raise ConfigError(f"the environment of this job is not understood: {error}") from None


def may_have_hosts() -> bool:
    """Tells whether there are other hosts, or may be: a TPU VM has to ask if none is named."""
    return names_hosts() or (not _hosts_of_slice(os.environ) and on_tpu_vm())


def _hosts_of_slice(environment: Mapping[str, str]) -> str:
    """The hosts of a TPU slice, as JAX reads them, with commas between; empty if none is named."""
    names = ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES")
    return next(filter(None, map(environment.get, names)), "")
