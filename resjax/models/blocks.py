"""The block: a residual branch of weighted layers, joined by a shortcut to its own input."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.config.tables import Table
from resjax.models.layers import Layer
from resjax.models.products import normalised
from resjax.models.randomness import keep_mask
from resjax.ops.activation import relu_of_sum
from resjax.ops.pool import max_pool

NORM, ACTIVATION = "norm", "activation"


@dataclasses.dataclass(frozen=True)
class Order:
    """The places where a block normalises and activates; fields are tuples of NORM and ACTIVATION.

    Attributes:
      before: steps ahead of the first layer of the branch.
      between: steps after every layer but the last.
      after: steps after the last layer, still in the branch.
      joined: steps after the sum.
    """

    before: tuple[str, ...] = ()
    between: tuple[str, ...] = (NORM, ACTIVATION)
    after: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()

    def with_norm_after_activation(self) -> "Order":
        """The same order with every pair of norm and activation swapped."""
        return Order(*(steps[::-1] for steps in dataclasses.astuple(self)))

    def by_layer(self, layers: int) -> tuple[tuple[str, ...], ...]:
        """The steps ahead of the first of so many layers, after each, and after the sum."""
        return (self.before, *[self.between] * (layers - 1), self.after, self.joined)


ORDERS = Table(
    "model.order",
    {
        # He et al. 2016, figure 4 a to e.
        "post": Order(after=(NORM,), joined=(ACTIVATION,)),
        "bn_after_add": Order(joined=(NORM, ACTIVATION)),
        "relu_before_add": Order(after=(NORM, ACTIVATION)),
        "relu_preact": Order(before=(ACTIVATION,), after=(NORM,)),
        "preact": Order(before=(NORM, ACTIVATION)),
    },
    entry="an Order of steps",
    fits=lambda entry: isinstance(entry, Order),
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts that the blocks of a network are made of, and how they are put together.

    Attributes:
      layer: makes a weighted layer, `layer(Layer(...), name=)`.
      layer_name: the name of such layers in the tree of parameters: conv or dense.
      norm: makes a normalisation, `norm(name=, zero_scale=)`.
      activation: the elementwise function of every activation.
      shortcut: makes a shortcut, `shortcut(channels=, stride=, layer=, norm=, name=)`.
      pool: the max-pool that a stem may end with.
      order: the places where a block normalises and activates.
      zero_last_gamma: whether the scale of the last normalisation of a branch starts at zero.
      residual_scale: factor on every branch.
      learn_residual_scale: whether that factor is a parameter of the block.
    """

    layer: Callable[..., nn.Module]
    layer_name: str
    norm: Callable[..., Any]
    activation: Callable[[jax.Array], jax.Array]
    shortcut: functools.partial
    pool: Callable[[jax.Array], jax.Array] = max_pool
    order: Order = ORDERS["post"]
    zero_last_gamma: bool = False
    residual_scale: float = 1.0
    learn_residual_scale: bool = False

    def apply(
        self,
        steps: tuple[str, ...],
        x: jax.Array,
        train: bool,
        names: Iterator[str],
        layer: nn.Module | None = None,
        **options: Any,
    ) -> jax.Array:
        """Normalises and activates x `[N, ..., C]`, or layer(x), in the order of `steps`.

        A normalisation is made in the module that calls, `norm(name=next(names), **options)`.
        """
        if layer is not None and steps[:1] == (NORM,):
            x = normalised(layer, self.norm(name=next(names), **options), x, train)
            steps = steps[1:]
        elif layer is not None:
            x = layer(x)
        for step in steps:
            if step == NORM:
                x = self.norm(name=next(names), **options)(x, train)
            else:
                x = self.activation(x)
        return x


class Block(nn.Module):
    """A branch F of one or more layers and a shortcut (He et al. 2015, figure 5; 2016, figure 4).

    For the order `post` and two layers, H(x) = activation(join(x, F(x))) with
    F(x) = norm2(conv2(activation(norm1(conv1(x))))).

    Attributes:
      layers: the layers of the branch; their strides multiply to that of the shortcut.
      parts: the parts that everything else is made of.
      preactivated: whether x is already normalised and activated, so that the block leaves out the
        steps ahead of its first layer (He et al. 2016, appendix).
    """

    layers: tuple[Layer, ...]
    parts: Parts
    preactivated: bool = False

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        train: bool,
        drop: jax.Array | None = None,
        first: jax.Array | int = 0,
    ) -> jax.Array:
        """Maps `[N, H, W, C]` to `[N, H / stride, W / stride, channels]`.

        `drop` is the probability with which the branch is left out for an example in training
        (stochastic depth), if any; the branches that stay are divided by 1 - drop. `first` is the
        number of x[0] in the whole batch.
        """
        parts, order = self.parts, self.parts.order
        join = parts.shortcut(
            channels=self.layers[-1].channels,
            stride=self.stride,
            layer=parts.layer,
            norm=parts.norm,
            name="shortcut",
        )
        # A block that leaves out its first normalisation has the others by their usual names.
        before, left_out = ((), order.before) if self.preactivated else (order.before, ())
        names = (f"norm{number}" for number in itertools.count(1 + left_out.count(NORM)))
        apply = functools.partial(parts.apply, train=train, names=names)

        branch = apply(before, x)
        if join.projects(x):
            x = branch
        layers = [
            parts.layer(layer, name=f"{parts.layer_name}{number}")
            for number, layer in enumerate(self.layers, start=1)
        ]
        for layer in layers[:-1]:
            branch = apply(order.between, branch, layer=layer)
        branch = apply(order.after, branch, layer=layers[-1], zero_scale=parts.zero_last_gamma)
        branch = self._scaled(branch)
        if train and drop is not None:
            mask = keep_mask(self.make_rng("dropout"), 1 - drop, (len(branch),), first)
            mask = mask.reshape(-1, *[1] * (branch.ndim - 1))
            branch = jnp.where(mask, branch / (1 - drop).astype(branch.dtype), 0)
        joined = join(x, branch, train, first)
        if order.joined == (ACTIVATION,) and parts.activation is nn.relu:
            return relu_of_sum(joined)
        return apply(order.joined, joined)

    @property
    def stride(self) -> int:
        """The stride of the block along both axes."""
        return math.prod(layer.stride for layer in self.layers)

    def _scaled(self, branch: jax.Array) -> jax.Array:
        """The branch times a constant, or times a parameter that starts there (SkipInit)."""
        start = self.parts.residual_scale
        if self.parts.learn_residual_scale:
            exact = jnp.promote_types(branch.dtype, jnp.float32)
            scale = self.param("residual_scale", nn.initializers.constant(start), (), exact)
            return branch * scale.astype(branch.dtype)
        return branch if start == 1 else start * branch
