"""What a process takes of its machine: the memory and threads of XLA, and the cache of a user."""

import os
import subprocess
import sys

import jax
import pytest

from resjax import process
from resjax.config import ConfigError
from resjax.ops import native
from resjax.process import (
    CORES,
    SECONDS_WORTH_KEEPING,
    WORKERS,
    cpu_kind,
    enable_cache,
    set_up,
    workers,
)

MEMORY = """
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
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True, timeout=120
    )
    # 80 MB are 20,000 pages; without the settings every call maps them all again.
    assert int(done.stdout) < 2_000


TRAINING = """
import sys
import resjax
from resjax.process import cores, set_up
set_up()
config = resjax.default_config()
config.data.name = "fake:32x32x3:10:256"
config.model.depth = 8
config.train.batch_size = 128
config.train.duration = "4 steps"
resjax.train(config, sys.argv[1])
print(len(cores()))
"""


@pytest.mark.slow
@pytest.mark.skipif(not native.available(), reason="XLA's own convolutions depend on it")
@pytest.mark.skipif(len(process.cores()) < 2, reason="there is one core")
def test_bits_do_not_depend_on_the_number_of_cores(tmp_path):
    """So a sweep may share the cores out to as many processes as it likes."""
    own, weights = process.cores(), []
    for number in (1, 2):
        run = tmp_path / str(number)
        told = os.environ | {CORES: ",".join(map(str, own[:number]))}
        done = subprocess.run(
            [sys.executable, "-c", TRAINING, run], env=told,
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        assert done.stdout.split()[-1] == str(number)
        weights.append((run / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


DEVICES = """
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
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, check=True, timeout=120,
        env=clean | environment | {"JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    found = done.stdout.split()
    assert found[0] == str(devices)
    assert int(found[1]) >= threads
    assert found[2] == told


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({"XLA_FLAGS": f"--xla_force_host_platform_device_count=4 {FLAG}"}, 8),
        ({"XLA_FLAGS": FLAG, "JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": FLAG, "JAX_NUM_CPU_DEVICES": ""}, 8),
        ({"XLA_FLAGS": "--xla_backend_optimization_level=0"}, None),
    ],
)
def test_threads_are_for_as_many_devices_as_jax_makes(monkeypatch, environment, devices):
    """The last flag counts, and the setting of JAX before any."""
    for name in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "NPROC"):
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    set_up()
    assert os.environ.get("NPROC") == (None if devices is None else str(4 * devices))


def test_a_process_keeps_to_its_cores(monkeypatch):
    kept = []
    monkeypatch.setattr("os.sched_setaffinity", lambda *arguments: kept.append(arguments))
    monkeypatch.delenv(CORES, raising=False)
    set_up()
    assert not kept
    monkeypatch.setenv(CORES, "1,3")
    set_up()
    assert kept == [(0, {1, 3})]


X86 = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
microcode\t: 0x1000065
cpu MHz\t\t: 2596.134
flags\t\t: fpu sse4_2 avx avx2 avx512f
bogomips\t: 5192.26
"""

ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd sve
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that makes this machine one whose Linux reports such a CPU."""

    def become(description, name="here"):
        path = tmp_path / "cpuinfo"
        path.unlink(missing_ok=True)
        if description is not None:
            path.write_text(description)
        monkeypatch.setattr(process, "CPU_DESCRIPTION", path)
        monkeypatch.setattr("platform.node", lambda: name)
        return cpu_kind()

    return become


@pytest.fixture
def cache_dir():
    """A function that sets the directory of JAX's cache, and what it was before afterwards."""
    before = jax.config.jax_compilation_cache_dir
    yield lambda path: jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.parametrize(
    ("description", "old", "new"),
    [
        (X86, " avx512f", ""),
        (X86, "model\t\t: 17", "model\t\t: 1"),
        (X86, "AMD EPYC", "AMD EPYC 7B13"),
        (ARM, " sve", ""),
        (ARM, "0xd40", "0xd0c"),
    ],
)
def test_another_cpu_has_another_kind(machine, description, old, new):
    assert machine(description) != machine(description.replace(old, new))


@pytest.mark.parametrize(
    ("description", "old", "new"),
    [
        (X86, "2596.134", "3100.000"),
        (X86, "5192.26", "5190.00"),
        (ARM, "processor\t: 0", "processor\t: 1"),
    ],
)
def test_clock_number_and_name_of_a_machine_do_not_make_another_kind(
    machine, description, old, new
):
    one = machine(description)
    assert one == machine(description.replace(old, new), name="there")
    assert one == machine(description + "\n" + description.replace(old, new))


def test_machines_that_report_no_cpu_share_nothing(machine):
    for description in (None, "", "processor\t: 0\n"):
        assert machine(description, "one") != machine(description, "two")


def test_each_kind_of_cpu_has_a_directory_of_its_own(machine, cache_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kinds = set()
    for description in (X86, ARM):
        cache_dir(None)
        kinds.add(machine(description))
        enable_cache()
        directory = tmp_path / "cache" / "resjax" / "compiled" / cpu_kind()
        assert jax.config.jax_compilation_cache_dir == str(directory)
    assert len(kinds) == 2


def test_a_directory_that_was_chosen_is_used_as_it_is(cache_dir, tmp_path):
    cache_dir(str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)  # JAX's own
    enable_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path)
    assert jax.config.jax_persistent_cache_min_compile_time_secs == SECONDS_WORTH_KEEPING


def test_a_number_of_processes_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv(WORKERS, "3")
    assert workers() == 3
    for told in ("many", "0", "-1", "1.5"):
        monkeypatch.setenv(WORKERS, told)
        with pytest.raises(ConfigError, match=f"RESJAX_WORKERS='{told}' is not a number of proc"):
            workers()
