"""The cores that a process keeps to, if another one shares them out."""

import os
from collections.abc import Mapping

CORES = "RESJAX_CORES"
"""Environment variable with the numbers of the cores, such as 0,1."""


def take_own_cores(environment: Mapping[str, str]) -> None:
    """Keeps this process to the cores that it was given; before JAX counts them."""
    if cores := environment.get(CORES):
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
