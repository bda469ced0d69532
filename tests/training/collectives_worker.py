"""Compiles the training step of a network for 8 simulated devices and prints what they exchange.

    python -m tests.training.collectives_worker '{"CONFIG KEY": VALUE}'

prints {"all-reduce": bytes, ...}, the sizes of the results of every collective operation.
"""

import collections
import json
import math
import re
import sys

from resjax.config import default_config
from resjax.training.benchmark import compile_training
from resjax.training.plan import make_plan

BYTES = {"pred": 1, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
OPERATIONS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"


def exchanged(program: str) -> dict[str, int]:
    """Bytes by operation, of a compiled program's text."""
    sizes = collections.Counter()
    for shapes, operation in re.findall(rf"= (.*?) ({OPERATIONS})(?:-start)?\(", program):
        for kind, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            count = math.prod(int(size) for size in dimensions.split(",") if size)
            sizes[operation] += BYTES[kind] * count
    return dict(sizes)


if __name__ == "__main__":
    config = default_config()
    config.model.shortcut, config.train.batch_size = "projection", 64
    config.update_from_flattened_dict(json.loads(sys.argv[1]))
    print(json.dumps(exchanged(compile_training(make_plan(config))[0].as_text())))
