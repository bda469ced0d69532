"""Threads for several devices that XLA simulates on a CPU."""

import os
import re

THREADS_OF_A_DEVICE = 4
"""For sums over devices in which it may wait at the same time."""


def start_enough_threads() -> None:
    """Has XLA start four threads for every simulated device; elsewhere it does nothing.

    By itself it starts as many as there are cores, or one for each device if those are more. A
    device holds a thread for every sum in which it waits for the others, and gradients may be
    summed while moments of a group of examples are: if all threads wait, the device that they wait
    for has none, and XLA ends the process after a while. NPROC is what it takes for the number of
    cores; one that is set stays. It must be called before JAX looks for devices.
    """
    devices = _simulated(os.environ.get("XLA_FLAGS", ""), os.environ.get("JAX_NUM_CPU_DEVICES", ""))
    if devices > 1:
        os.environ.setdefault("NPROC", str(max(os.cpu_count() or 1, THREADS_OF_A_DEVICE * devices)))


def _simulated(flags: str, number: str) -> int:
    """The number of devices that the environment asks for, 1 if it does not."""
    asked = re.findall(r"--xla_force_host_platform_device_count=(\d+)", flags)
    return int(number if number.isdecimal() else asked[-1] if asked else 1)
