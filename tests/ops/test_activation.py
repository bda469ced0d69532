import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resjax.ops.activation import relu_of_sum
from resjax.ops.platform import traced_for

X = jnp.array([-2.0, -0.0, 0.0, 3.0, jnp.inf, jnp.nan])


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_it_is_relu_with_its_gradient(platform):
    with traced_for(platform):
        y, pull = jax.vjp(jax.jit(lambda x: relu_of_sum(x)), X)
    expected, pull_expected = jax.vjp(jax.nn.relu, X)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pull(1 + X[::-1]), pull_expected(1 + X[::-1]))


def test_for_a_gpu_its_gradient_reads_the_result_alone():
    with traced_for("gpu"):
        traced = jax.make_jaxpr(lambda x: jax.vjp(relu_of_sum, x)[1](x))(X)
    [activated] = (eqn for eqn in traced.eqns if eqn.primitive.name == "custom_jvp_call")
    [compared] = (eqn for eqn in traced.eqns if eqn.primitive.name == "gt")
    assert compared.invars[0] is activated.outvars[0]
    assert "optimization_barrier" in str(activated.params["call_jaxpr"])
