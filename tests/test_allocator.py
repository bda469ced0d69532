import subprocess
import sys

import pytest

PROGRAM = """
import resource
from resjax.process import set_up
set_up()
import jax, jax.numpy as jnp

@jax.jit
def program(x):  # its temporaries are 80 megabytes or more
    for _ in range(3):
        x = jax.lax.optimization_barrier(jnp.concatenate([x[1:], x[:1]]))
    return x.sum()

x = jnp.ones(20_000_000)
faults = []
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    program(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_a_program_finds_the_memory_of_an_earlier_call_again():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120
    )
    # 80 MB are 20,000 pages; without the settings every call maps them all again.
    assert int(done.stdout) < 2_000
