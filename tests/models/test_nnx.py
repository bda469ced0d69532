"""Networks behind the bridge of Flax, as modules of NNX."""

import functools

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import resjax
from tests.drawn import normal


def variables_of(module):
    kinds = {"params": nnx.Param, "batch_stats": nnx.BatchStat}
    found = {name: nnx.to_pure_dict(nnx.state(module, kind)) for name, kind in kinds.items()}
    return jax.tree.map(np.array, found)


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
def test_a_step_of_nnx_moves_parameters_and_running_statistics_as_one_of_linen():
    network, rule = resjax.named_model("cifar-resnet8", classes=3, width=2), optax.sgd(0.1)
    images, labels = normal(0, (6, 8, 8, 1)), np.arange(6) % 3
    module = nnx.bridge.ToNNX(network, rngs=nnx.Rngs(0))
    nnx.bridge.lazy_init(module, images, train=False)
    before, optimizer = variables_of(module), nnx.Optimizer(module, rule, wrt=nnx.Param)

    @nnx.jit
    def step(module, optimizer):
        def loss(module):
            logits = module(images, train=True, mutable=["batch_stats"])
            return resjax.cross_entropy(logits, labels).mean()

        optimizer.update(module, nnx.grad(loss)(module))

    step(module, optimizer)
    state = resjax.create_state(network, rule, 0, (8, 8, 1), variables=before)
    linen = functools.partial(resjax.train_step, network, resjax.cross_entropy, rule.update)
    after, _ = jax.jit(linen)(state, (images, labels), jax.random.key(0))
    moved = variables_of(module)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6),
        moved,
        after.evaluated(),
    )
    for kind in moved:
        pairs = zip(jax.tree.leaves(moved[kind]), jax.tree.leaves(before[kind]), strict=True)
        assert all((one != other).any() for one, other in pairs)
