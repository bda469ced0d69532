"""Simulated devices have threads enough to wait in several sums at once."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
from resjax.process import set_up
set_up()
import jax
devices = len(jax.devices())
threads = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
print(devices, sum("XLAEigen" in name for name in threads), os.environ.get("NPROC"))
"""

FLAG = "--xla_force_host_platform_device_count=8"

THREADS = max(32, os.cpu_count())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the threads")
@pytest.mark.parametrize(
    ("environment", "devices", "threads", "told"),
    [
        ({"XLA_FLAGS": FLAG}, 8, THREADS, str(THREADS)),
        ({"JAX_NUM_CPU_DEVICES": "8"}, 8, THREADS, str(THREADS)),
        ({"XLA_FLAGS": FLAG, "NPROC": "9"}, 8, 9, "9"),
        ({}, 1, 1, "None"),
    ],
    ids=["flag", "number", "asked for", "one device"],
)
def test_every_simulated_device_has_four_threads(environment, devices, threads, told):
    unset = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "NPROC")
    clean = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120,
        env=clean | environment | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    found = done.stdout.split()
    assert found[0] == str(devices)
    assert int(found[1]) >= threads
    assert found[2] == told
