import subprocess
import sys
from pathlib import Path

import pytest

from resjax import accelerators, process

ROOT = Path(__file__).parents[1]

MACHINES = {
    # what there is: (TPU, plugin for GPUs, nvidia-smi)
    "nothing": (False, False, False),
    "TPU": (True, False, False),
    "GPU": (False, True, True),
    "GPU without the plugin": (False, False, True),
    "plugin without a GPU": (False, True, False),
}

SMI = """#!/bin/sh
echo 'GPU 0: NVIDIA A100 (UUID: GPU-5a)'
echo '  MIG 1g.5gb Device 0: (UUID: MIG-77)'
echo 'GPU 1: NVIDIA A100 (UUID: GPU-5b)'
"""


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A function that makes this machine one of `MACHINES`."""

    def become(name):
        tpu, plugin, smi = MACHINES[name]
        for variable in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(accelerators, "on_tpu_vm", lambda: tpu)
        monkeypatch.setattr(accelerators, "cuda_is_installed", lambda: plugin)
        monkeypatch.setenv("PATH", str(tmp_path))
        if smi:
            (tmp_path / "nvidia-smi").write_text(SMI)
            (tmp_path / "nvidia-smi").chmod(0o755)

    return become


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, None), ("", None), ("cpu", False), ("cuda", True), ("tpu,cpu", True)],
)
def test_an_accelerator_is_expected_where_it_is_asked_for_or_there(
    machine, monkeypatch, name, asked, expected
):
    machine(name)
    if asked is not None:
        monkeypatch.setenv("JAX_PLATFORMS", asked)
    assert accelerators.is_expected() == (name in ("TPU", "GPU") if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "gpus"),
    [("GPU", ["0", "1"]), ("GPU without the plugin", []), ("plugin without a GPU", [])],
)
def test_gpus_are_counted_without_jax(machine, name, gpus):
    machine(name)
    assert accelerators.visible_gpus() == gpus


def test_jax_has_its_plugin_for_gpus_where_such_a_package_is(tmp_path):
    code = (
        f"import sys; sys.path += {[str(ROOT), str(tmp_path)]}\n"
        "from resjax import accelerators; print(accelerators.cuda_is_installed())"
    )
    found = []
    for plugin in ("xla_rocm7", "xla_cuda13"):
        (tmp_path / "jax_plugins" / plugin).mkdir(parents=True)
        (tmp_path / "jax_plugins" / plugin / "__init__.py").touch()
        words = [sys.executable, "-I", "-S", "-c", code]  # without those that are installed
        found.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert found == ["False\n", "True\n"]


@pytest.mark.parametrize("accelerator", [True, False])
def test_memory_is_left_to_the_threads_of_the_compiler_of_an_accelerator(monkeypatch, accelerator):
    kept = []
    monkeypatch.setattr(process, "_keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr(accelerators, "is_expected", lambda: accelerator)
    process.set_up()
    assert bool(kept) is not accelerator
