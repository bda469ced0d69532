"""GPUs that are not here: the compiler of XLA for them needs none, but three packages.

Two have the version of jax, and all may lie in a folder of their own:

    version=$(python -c 'import jax; print(jax.__version__)')
    pip install --no-deps --target=cuda jax-cuda12-{plugin,pjrt}==$version nvidia-cuda-nvcc-cu12
    export PYTHONPATH=cuda
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from jax.experimental import topologies

H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84978958336
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 12 minor: 9 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
"""An H100 in the text format of XLA's `GpuTargetConfigProto`."""


def h100() -> Any:
    """An H100; programs can be compiled for it, and not run.

    Nothing is tuned by trying, as it would be on the card itself: convolutions take the algorithm
    that cuDNN proposes.
    """
    try:
        compiler = importlib.util.find_spec("nvidia.cuda_nvcc")
        plugin = importlib.util.find_spec("jax_plugins.xla_cuda12")
    except ModuleNotFoundError:  # the package that it would be in
        compiler = plugin = None
    if compiler is None or plugin is None:
        raise SystemExit(f"no compiler for GPUs is installed.\n\n{__doc__}")
    files = Path(next(iter(compiler.submodule_search_locations)))
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0 "
        f"--xla_gpu_cuda_data_dir={files}"
    )
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    described = topologies.get_topology_desc(
        "", platform="cuda", target_config=H100, topology="1x1x1"
    )
    return described.devices[0]
