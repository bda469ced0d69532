"""Traces of networks: layers, shapes of variables, and how variables are initialised."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from resjax.models.layers import Convolution
from resjax.models.resnet import ResNet
from resjax.ops.interpreter import interpret
from resjax.ops.random import random_key
from resjax.ops.value import ByValue


@contextmanager
def intercepting(interceptor: Callable[..., Any]) -> Iterator[None]:
    """Acts as `nn.intercept_methods`, but also ends under `python -O`.

    Flax removes an interceptor within an assertion, which Python leaves out there.
    """
    inside = True

    def intercept(next_call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if not inside:
            return next_call(*args, **kwargs)
        return interceptor(next_call, args, kwargs, context)

    with nn.intercept_methods(intercept):
        try:
            yield
        finally:
            inside = False


MOST_TRACES = 256
"""Number of networks whose traces are kept, those used last."""


@dataclasses.dataclass(frozen=True)
class LayerRecord:
    """A weighted layer of a built network.

    Attributes:
      path: names of the modules that it is in, then its own name.
      kernel: shape of its kernel, `[size, size, C / groups, channels]` or `[F, channels]`.
      input_shape, output_shape: shapes for one image, without the batch.
      times: how often the network has it: the number of blocks for a layer of a stage's `rest`.
    """

    path: tuple[str, ...]
    kernel: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    times: int

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one image; a tap of a kernel that falls on padding counts as well."""
        return self.times * math.prod(self.kernel[:-1]) * math.prod(self.output_shape)

    @property
    def in_shortcut(self) -> bool:
        """Tells whether it is part of a shortcut, not of a branch, the stem or the head."""
        return "shortcut" in self.path


@dataclasses.dataclass(frozen=True)
class Trace:
    """A record of the initialisation of a network, for images of one shape.

    The layers are observed while it is traced: they are those executed, not those planned.

    Attributes:
      layers: weighted layers in the order in which they are applied.
      variables: shapes and dtypes of all variables, a tree.
      drawing: the program that computes them from a key.
    """

    layers: tuple[LayerRecord, ...]
    variables: Any
    drawing: ClosedJaxpr


def trace(model: ResNet, image_shape: tuple[int, ...], key: jax.Array | None = None) -> Trace:
    """Traces a network for images `[H, W, C]`, once for all that are equal by value.

    Its variables are drawn from keys of the kind of `key`, by default of those of `random_key`.
    """
    # However it is executed, its layers and its variables are the same.
    model = model.clone(unroll=1, remat=False)
    key = jax.eval_shape(lambda: random_key(0) if key is None else key)
    settings = jax.config.jax_enable_x64, jax.config.jax_threefry_partitionable
    return _trace(ByValue(model), tuple(image_shape), key.dtype, settings)


def variable_shapes(model: ResNet, image_shape: tuple[int, ...]) -> dict[str, Any]:
    """Shapes and dtypes of all variables, found without computing them."""
    return trace(model, image_shape).variables


def initial_variables(model: nn.Module, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Parameters and running statistics before training, for images `[H, W, C]`.

    A parameter depends only on the key and on its path, so models that share a layer share its
    initial value. Those of a `ResNet` are on the host. Any other module is initialised by Flax.
    """
    if not isinstance(model, ResNet):
        images = jnp.zeros((1, *image_shape), jnp.float32)
        return jax.jit(model.init, static_argnames="train")(key, images, train=False)
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    traced = trace(model, image_shape, key)
    leaves = interpret(traced.drawing, [key])
    return jax.tree.unflatten(jax.tree.structure(traced.variables), leaves)


@functools.lru_cache(MOST_TRACES)
def _trace(
    network: ByValue, image_shape: tuple[int, ...], key_dtype: Any, settings: tuple
) -> Trace:
    """Traces a network under the settings of JAX that affect its trace."""
    model, layers = network.wrapped, {}

    def observe(next_call, args, kwargs, context):
        output = next_call(*args, **kwargs)
        module = context.module
        if isinstance(module, Convolution | nn.Dense) and context.method_name == "__call__":
            stage = module.path[0].removeprefix("stage")
            times = model.spec.stages[int(stage) - 1] - 1 if "rest" in module.path else 1
            kernel = module.variables["params"]["kernel"].shape
            layers[module.path] = LayerRecord(
                module.path, kernel, args[0].shape[1:], output.shape[1:], times
            )
        return output

    def draw(key: jax.Array) -> Any:
        return model.init(key, jnp.zeros((1, *image_shape), jnp.float32), train=False)

    with intercepting(observe):
        key = jax.ShapeDtypeStruct((), key_dtype)
        drawing, variables = jax.make_jaxpr(draw, return_shape=True)(key)
    return Trace(tuple(layers.values()), variables, drawing)
