"""Normalises a batch of eight examples on four simulated devices, by a program of one's own.

    python -m tests.models.own_axis_worker

prints as JSON, by the kind of the program, the largest difference to one device, relative to the
largest value there, of the logits, of the running statistics and of the summed gradients; and the
refusal of a network that does not know the axis.
"""

import functools
import json

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from resjax.models.build import named_model
from resjax.models.trace import variable_shapes
from resjax.ops.platform import traced_for
from tests.drawn import normal
from tests.models.compiled import scrambled

AXIS, DEVICES = "batch", 4


def outputs(model, variables, x):
    """Logits, running statistics, and gradients of the sum of the squared logits of these."""

    def loss(params):
        logits, new = model.apply(
            variables | {"params": params}, x, train=True, mutable=["batch_stats"]
        )
        return (logits**2).sum(), (logits, new)

    gradients, (logits, new) = jax.grad(loss, has_aux=True)(variables["params"])
    return logits, new, gradients


def on_devices(model, variables, x):
    logits, new, gradients = outputs(model, variables, x)
    return logits, new, jax.lax.psum(gradients, AXIS)


def differences(ours, theirs):
    return [
        max(
            float(np.abs(a - b).max() / np.abs(b).max())
            for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
        )
        for one, other in zip(ours, theirs, strict=True)
    ]


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    keys = {"depth": 5, "block": "single", "width": 8, "dtype": "float64"}
    model = functools.partial(named_model, "cifar-resnet8", **keys)
    x = normal(1, (2 * DEVICES, 8, 8, 3))
    variables = scrambled(variable_shapes(model(), x.shape[1:]))
    whole = jax.jit(functools.partial(outputs, model()))(variables, x)
    share = functools.partial(on_devices, model(axis_name=AXIS))
    cut = x.reshape(DEVICES, 2, 8, 8, 3)

    def by_pmap():
        # A function of its own, or what was traced for another platform would be taken again.
        pmapped = jax.pmap(lambda *inputs: share(*inputs), axis_name=AXIS, in_axes=(None, 0))
        logits, *rest = pmapped(variables, cut)
        return logits.reshape(whole[0].shape), *jax.tree.map(lambda leaf: leaf[0], rest)

    mapped = by_pmap()
    with traced_for("gpu"):
        mapped_as_for_gpus = by_pmap()

    mesh = Mesh(np.array(jax.devices()[:DEVICES]), (AXIS,))
    shared, own = PartitionSpec(), PartitionSpec(AXIS)
    by_mesh = jax.jit(
        jax.shard_map(
            share,
            mesh=mesh,
            in_specs=(shared, own),
            out_specs=(own, shared, shared),
            check_vma=False,
        )
    )(variables, x)

    alone = jax.pmap(
        functools.partial(outputs, model(axis_name=None)), axis_name=AXIS, in_axes=(None, 0)
    )(variables, cut)
    first = jax.jit(functools.partial(outputs, model()))(variables, cut[0])
    try:
        jax.pmap(functools.partial(outputs, model()), axis_name=AXIS, in_axes=(None, 0))(
            variables, cut
        )
        refusal = ""
    except ValueError as error:
        refusal = str(error)
    print(
        json.dumps(
            {
                "pmap": differences(mapped, whole),
                "pmap as for GPUs": differences(mapped_as_for_gpus, whole),
                "shard_map": differences(by_mesh, whole),
                "each by itself": differences(jax.tree.map(lambda leaf: leaf[0], alone), first),
                "refusal": refusal,
            }
        )
    )


if __name__ == "__main__":
    main()
