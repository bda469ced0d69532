"""Probes of networks whose stages halve maps of an odd size."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.data.batch import Batch
from resjax.probes.branches import branches
from resjax.probes.table import PROBES
from tests.drawn import normal
from tests.probes.networks import built, probed

ODD = Batch(normal(3, (8, 9, 15, 3)), jnp.arange(8))


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", ["none", "projection", "exclusive_gate"])
def test_every_probe_has_a_row_for_each_block(shortcut):
    model, variables = built(depth=8, shortcut=shortcut)
    for name, probe in PROBES.items():
        found = jax.eval_shape(functools.partial(probe.measure, model), variables, ODD)
        assert found or name == "gates"
        if probe.by_block:
            assert {array.shape[:1] for array in found.values()} <= {(), (3,)}


@pytest.mark.parametrize("strides", [(1, 2, 2), (1, 2, 4)], ids=str)
@pytest.mark.usefixtures("double")
def test_blocks_whose_branches_are_zero_are_the_identity(strides):
    model, variables = built(depth=8)
    model = model.clone(spec=dataclasses.replace(model.spec, strides=strides))
    for stage in ("stage1", "stage2", "stage3"):
        last = variables["params"][stage]["first"]["norm2"]
        last |= jax.tree.map(jnp.zeros_like, last)
    found = probed(branches, model, variables, ODD)
    np.testing.assert_array_equal(found["from_identity"], 0)
    np.testing.assert_array_equal(found["branch_over_shortcut"], 0)
