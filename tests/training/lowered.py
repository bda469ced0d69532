"""Prints what the training step of ResNet-50 is made of on platforms that are not here, as JSON.

On simulated devices; bfloat16, 32 images of 64x64 a device, straight-line code.
"""

import collections
import functools
import json
import re

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from resjax.config import default_config
from resjax.models.trace import variable_shapes
from resjax.ops.platform import traced_for
from resjax.training import network, parallel
from resjax.training.feeds import make_feed
from resjax.training.network import Network
from resjax.training.plan import make_plan
from resjax.training.state import begin_training

PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}
"""Names of lowering, and those of the devices."""


def lowered(platform, style):
    """What is said of a program, which is traced for the devices that are here."""
    config = default_config()
    config.model.update({"name": "imagenet", "depth": 50, "shortcut": "projection"})
    config.model.update({"dtype": "bfloat16", "unroll": "all"})
    config.data.name, config.train.batch_size = "fake:64x64x3:1000:256", 32 * jax.device_count()
    config.train.parallel = style
    with traced_for(PLATFORMS[platform]):
        plan = make_plan(config)
        shapes = variable_shapes(plan.model, plan.image_shape)
        variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        state = begin_training(variables, plan.optimizer, np.float32, 0.0)
        function, arguments = Network(plan, plan.model, state, make_feed(plan)).steps
        if style == "pmap":  # which of itself is lowered for the devices that are here
            function = jax.jit(function)
        traced = function.trace(*arguments)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    convolutions = re.findall(r"stablehlo\.convolution\(.*", text)
    return {
        "platform": platform,
        "style": style,
        "steps": plan.steps_per_call,
        "leaves": len(jax.tree.leaves(state)),
        "executed": executed(traced.jaxpr.jaxpr),
        "written": collections.Counter(re.findall(r"stablehlo\.(\w+)", text)),
        "dtypes": sorted(set(re.findall(r"x([a-z]+\d+)>", "".join(convolutions)))),
        "layouts": sorted(
            {re.search(r"dim_numbers = (.*?),\s*window", line)[1] for line in convolutions}
        ),
        "transposed": collections.Counter(  # by their axes
            dims.count("x") for dims in re.findall(r"transpose .*\(tensor<([\dx]+)", text)
        ),
        "float64": len(re.findall(r"\bf64\b|xf64", text)),
        "donated": text.count("tf.aliasing_output") + text.count("jax.buffer_donor"),
    }


def executed(jaxpr):
    """{primitive: how often a step executes it}; the loop of the steps is counted once."""
    found = collections.Counter()
    for eqn in jaxpr.eqns:
        found[eqn.primitive.name] += 1
        times = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for inner in jaxprs_in_params(eqn.params):
            found += collections.Counter({n: times * own for n, own in executed(inner).items()})
    return found


def instead(share, parts, arguments, transform, **options):
    """Of `resjax.training.programs.program`: what it would compile, and for which arguments."""
    return transform(functools.partial(share, *parts), **options), arguments


def main():
    network.program = instead
    for platform in PLATFORMS:
        for style in parallel.STYLES:
            print(json.dumps(lowered(platform, style)))


if __name__ == "__main__":
    main()
