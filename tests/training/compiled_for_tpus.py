"""Compiles the training steps of a small network for a slice of TPUs, and prints JSON about them.

    python -m tests.training.compiled_for_tpus TOPOLOGY

Nothing is run.
"""

import collections
import dataclasses
import functools
import json
import math
import re
import sys
from typing import Any

import jax

from resjax.config import default_config
from resjax.ops.platform import traced_for
from resjax.training import network
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.parallel import Parallel
from resjax.training.plan import make_plan
from resjax.training.state import create_state
from tests.tpus import devices_of

EXAMPLES = 16
"""Examples of a batch on each device."""


class Absent(Parallel):
    """Devices that are not here: no array is put on them."""

    def whole(self, tree: Any) -> Any:
        return tree

    def shard(self, value: Any, axis: int | None = None) -> Any:
        return value


def lowered(share, parts, arguments, transform, **options):
    """Lowers what `resjax.training.programs.program` would compile."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    return transform(functools.partial(share, *parts), **options).lower(*shapes)


def compile_for(topology: str) -> dict[str, Any]:
    """Compiles the steps of ResNet-8 in bfloat16; says what the program is made of."""
    devices = devices_of(topology)
    config = default_config()
    config.model.depth, config.model.dtype = 8, "bfloat16"
    config.train.batch_size = EXAMPLES * len(devices)
    config.data.name = f"fake:32x32x3:10:{config.train.batch_size}"
    config.data.pad, config.data.flip = 4, True
    with traced_for("tpu"):
        plan = dataclasses.replace(make_plan(config), parallel=Absent(devices))
        state = create_state(plan.model, plan.optimizer, 0, plan.image_shape, 0.0)
        steps = Network(plan, plan.model, state, make_feed(plan)).steps
    compiled = steps.compile()
    text = compiled.as_text()
    return {
        "devices": len(devices),
        "hosts": plan.parallel.hosts,
        "operations": collections.Counter(re.findall(r" ([a-z][a-z-]*)\(%", text)),
        "images": re.findall(r" = (\w+)\[\d+(?:,\d+){3}\]\S* convolution\(", text),
        "whole_sets": [
            operation
            for sizes, operation in re.findall(r" = \w+\[([\d,]+)\]\S* ([a-z][a-z-]*)\(", text)
            if math.prod(map(int, sizes.split(","))) >= plan.source.train.images.size
        ],
        "passes": re.findall(r'op_name="([^"]*)"[^\n]*"estimated_cycles"', text),
        "float64": text.count("f64["),
        "state": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "donated": compiled.memory_analysis().alias_size_in_bytes,
    }


if __name__ == "__main__":
    network.program = lowered
    print(json.dumps(compile_for(sys.argv[1])))
