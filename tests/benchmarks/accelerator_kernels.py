"""The kernels that a step starts on a GPU, and the time that they take."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRACED = 3
"""Calls in a trace."""

FUSION = re.compile(r"fusion|wrapped|^triton|^copy|^transpose|^void at::native")
PRODUCT = re.compile(r"conv|gemm|xmma|cudnn|cutlass|nvjet|wgrad|dgrad|fprop", re.IGNORECASE)
"""Names of kernels that XLA or PyTorch make, and of those of libraries that multiply matrices."""


def trace(call: Callable[[], None]) -> list[tuple[str, float]]:
    """The kernels of some calls of JAX, as `kernels_in` returns them."""
    import jax

    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            for _ in range(TRACED):
                call()
        return kernels_in(directory)


def trace_by_torch(call: Callable[[], None]) -> list[tuple[str, float]]:
    """The kernels of some calls of PyTorch, as `kernels_in` returns them."""
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        return []
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(TRACED):
            call()
    events = [each for each in profiled.events() if each.device_type == DeviceType.CUDA]
    return [(each.name, each.time_range.elapsed_us() / 1e3) for each in events]


def kernels_in(directory: str) -> list[tuple[str, float]]:
    """The name of every kernel that a profile of JAX saw on GPUs, and its time in ms."""
    from jax.profiler import ProfileData

    return [
        (event.name, event.duration_ns / 1e6)
        for path in Path(directory).rglob("*.xplane.pb")
        for plane in ProfileData.from_file(str(path)).planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        if line.name.startswith("Stream")
        for event in line.events
    ]


def in_kernels(what: str, kernels: list[tuple[str, float]], steps: int) -> dict[str, Any]:
    """A row of how many kernels a step has, and how long they take; it also prints the longest."""
    if not kernels:
        return {"what": what}
    times, counts = Counter(), Counter(name for name, _ in kernels)
    for name, ms in kernels:
        times[name] += ms / steps
    print(json.dumps({"kernels of a step": what, "ms and number": {
        name: [round(ms, 4), counts[name] / steps] for name, ms in times.most_common(60)
    }}))  # fmt: skip
    products = sum(
        ms for name, ms in times.items() if PRODUCT.search(name) and not FUSION.search(name)
    )
    return {
        "what": what, "kernels": len(kernels) / steps, "in kernels ms": times.total(),
        "in products ms": products,
    }  # fmt: skip
