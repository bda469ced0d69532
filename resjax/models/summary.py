"""What a network costs: parameters and multiply-adds, counted exactly."""

import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend import core


def count_parameters(variables: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))


def count_multiply_adds(model: nn.Module, image_shape: tuple[int, ...]) -> int:
    """Multiply-adds of the convolutions and dense layers for one image of shape `[H, W, C]`.

    They are counted in the traced program, so in what is executed; a tap of a kernel that falls on
    padding counts like any other, as in the papers.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), image
    )  # fmt: skip
    program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, image)
    return _multiply_adds(program.jaxpr)


def _multiply_adds(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        match equation.primitive.name:
            case "conv_general_dilated":
                kernel = equation.invars[1].aval.shape
                channels_out = equation.params["dimension_numbers"].rhs_spec[0]
                taps = math.prod(kernel) // kernel[channels_out]
                total += taps * math.prod(equation.outvars[0].aval.shape)
            case "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                left = equation.invars[0].aval.shape
                summed = math.prod(left[axis] for axis in contracted)
                total += summed * math.prod(equation.outvars[0].aval.shape)
            case _:
                times = equation.params.get("length", 1)
                total += times * sum(map(_multiply_adds, _inner_programs(equation)))
    return total


def _inner_programs(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in jax.tree.leaves(
        equation.params, is_leaf=lambda x: isinstance(x, core.Jaxpr | core.ClosedJaxpr)
    ):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value
