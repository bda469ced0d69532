"""Shortcuts: how the input of a block is combined with its residual branch.

A shortcut is a module `(x, branch, train) -> joined`. A new kind is one class and one line in
`SHORTCUTS`: the class computes the term of x in `carry`, or both terms of the sum in `terms`. Its
own fields are filled from the keys of `config.model` of the same name.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resjax.config.tables import Table
from resjax.models.layers import Layer
from resjax.models.products import normalised
from resjax.models.randomness import keep_mask

ONE_VALUE = {"init_fn": tuple, "reduce_fn": lambda _, new: new}
"""Options of `Module.sow` that keep the last value instead of a tuple of all values."""


class Shortcut(nn.Module):
    """Joins x and the branch F(x) by a sum; the base of all kinds.

    When the collection `intermediates` is mutable, it receives the two terms and their sum.

    Attributes:
      channels: channels of the block's output.
      stride: stride of the block; its output is `[N, H / stride, W / stride, channels]`.
      layer: makes a weighted layer, `layer(Layer(...), name=)`.
      norm: makes a normalisation, `norm(name=)`.
    """

    channels: int
    stride: int
    layer: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    def __call__(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int = 0
    ) -> jax.Array:
        """The sum of x and the branch; `first` is the number of x[0] in the whole batch."""
        carried, branch = self.terms(x, branch, train, first)
        joined = branch if carried is None else carried + branch
        for name, value in (("shortcut", carried), ("branch", branch), ("sum", joined)):
            if value is not None:
                self.sow("intermediates", name, value, **ONE_VALUE)
        return joined

    def terms(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int
    ) -> tuple[jax.Array | None, jax.Array]:
        """The two terms of the sum: the shortcut's, or None, and the branch's."""
        return self.carry(x, train), branch

    def carry(self, x: jax.Array, train: bool) -> jax.Array | None:
        """Brings x into the shape of the branch as the shortcut's term; None means no term."""
        return None

    def projects(self, x: jax.Array) -> bool:
        """Tells whether a weighted layer acts on x.

        A pre-activation block then normalises and activates x first.
        """
        return False

    def changes_shape(self, x: jax.Array) -> bool:
        """Tells whether the shapes of x and of the block's output differ."""
        return self.stride != 1 or x.shape[-1] != self.channels


class Plain(Shortcut):
    """No shortcut: the block is its branch, H(x) = F(x)."""


class Identity(Shortcut):
    """Shortcut A: H(x) = F(x) + x (He et al. 2015, section 3.3 and equation 1).

    Where the shape changes, x is subsampled by the stride and zero channels are added: at the end,
    or half of them on both sides (`identity_pad`: end, both). Adds no parameters and no
    multiply-adds.

    Raises:
      ValueError: if `channels` is smaller than that of x; a shortcut cannot drop channels.
    """

    identity_pad: str = "end"

    def carry(self, x: jax.Array, train: bool) -> jax.Array:
        """Subsamples and pads x where the shape changes; returns x itself elsewhere."""
        missing = self.channels - x.shape[-1]
        if missing < 0:
            raise ValueError(
                f"identity shortcut cannot go from {x.shape[-1]} to {self.channels} channels; "
                "use a projection"
            )
        if self.stride != 1:
            x = x[:, :: self.stride, :: self.stride]
        if missing:
            first = {"end": 0, "both": missing // 2}[self.identity_pad]
            x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(first, missing - first)])
        return x


class Projection(Shortcut):
    """Shortcut B: a 1x1 convolution where the shape changes, identity elsewhere.

    H(x) = F(x) + W x (He et al. 2015, section 3.3 and equation 2), with a normalisation after W if
    `projection_norm` is "always".
    """

    projection_norm: str = "always"

    def projects(self, x: jax.Array) -> bool:
        return self.changes_shape(x)

    @nn.compact
    def carry(self, x: jax.Array, train: bool) -> jax.Array:
        """Projects x where `projects` says so; returns x itself elsewhere."""
        if not self.projects(x):
            return x
        x, stride = self.subsample(x)
        layer = self.layer(Layer(self.channels, stride=stride), name="projection")
        if self.projection_norm != "always":
            return layer(x)
        return normalised(layer, self.norm(name="norm"), x, train)

    def subsample(self, x: jax.Array) -> tuple[jax.Array, int]:
        """The input of the 1x1 convolution, and the stride left to the convolution."""
        return x, self.stride


class ProjectionAll(Projection):
    """Shortcut C: a 1x1 convolution in every block (He et al. 2015, section 4.1; 2016, 3.1)."""

    def projects(self, x: jax.Array) -> bool:
        return True


class AveragePoolProjection(Projection):
    """Shortcut B with the stride in an average pool before the convolution (He et al. 2019, D)."""

    def subsample(self, x: jax.Array) -> tuple[jax.Array, int]:
        """Averages x over windows of the size of the stride, smaller at the border."""
        if self.stride == 1:
            return x, 1
        window = (self.stride, self.stride)
        padding = [(0, -size % self.stride) for size in x.shape[1:3]]
        return nn.avg_pool(x, window, window, padding, count_include_pad=False), 1


class _Modified(Shortcut):
    """A shortcut that modifies what another shortcut, its base, carries."""

    base: Callable[..., Any] = Identity

    def setup(self) -> None:
        self.matched = self.base(
            channels=self.channels, stride=self.stride, layer=self.layer, norm=self.norm
        )

    def projects(self, x: jax.Array) -> bool:
        return self.matched.projects(x)

    def carry(self, x: jax.Array, train: bool) -> jax.Array:
        return self.matched.carry(x, train)


class Scaled(_Modified):
    """Constant scaling: H(x) = shortcut_scale * x + branch_scale * F(x) (He et al. 2016, 3.1)."""

    shortcut_scale: float = 0.5
    branch_scale: float = 0.5

    def terms(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Multiplies both terms by their constants."""
        return self.shortcut_scale * self.carry(x, train), self.branch_scale * branch


class ShortcutGate(_Modified):
    """Shortcut-only gating: H(x) = (1 - g(x)) x + F(x) (He et al. 2016, section 3.1).

    g(x) = sigmoid(W x + b) with a 1x1 convolution W and b initially `gate_bias`; the further below
    zero, the more open the shortcut.
    """

    gate_bias: float = -6.0

    def setup(self) -> None:
        super().setup()
        self.gate = self.layer(Layer(self.channels, stride=self.stride), bias=self.gate_bias)

    def terms(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Gates the shortcut and leaves the branch unchanged."""
        return (1 - nn.sigmoid(self.gate(x))) * self.carry(x, train), branch


class ExclusiveGate(ShortcutGate):
    """Exclusive gating: H(x) = (1 - g(x)) x + g(x) F(x) (He et al. 2016, section 3.1)."""

    def terms(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Gates the shortcut by 1 - g(x) and the branch by g(x)."""
        gate = nn.sigmoid(self.gate(x))
        return (1 - gate) * self.carry(x, train), gate * branch


class Dropout(_Modified):
    """Dropout on the shortcut: H(x) = z x + F(x), z being 0 or 1 (He et al. 2016, section 3.1).

    Each element of x is dropped with probability `shortcut_dropout`. The mask is not rescaled, so
    that it is on average a scaling by 1 - shortcut_dropout, which is what evaluation applies.
    """

    shortcut_dropout: float = 0.5

    def terms(
        self, x: jax.Array, branch: jax.Array, train: bool, first: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Masks the shortcut in training, and scales it by the keep probability in evaluation."""
        carried, kept = self.carry(x, train), 1 - self.shortcut_dropout
        if not train:
            return kept * carried, branch
        mask = keep_mask(self.make_rng("dropout"), kept, carried.shape, first)
        return jnp.where(mask, carried, 0), branch


SHORTCUTS: Table[type[Shortcut]] = Table(
    "model.shortcut",
    {
        "none": Plain,
        "identity": Identity,
        "projection": Projection,
        "projection_all": ProjectionAll,
        "avgpool_projection": AveragePoolProjection,
        "scaled": Scaled,
        "exclusive_gate": ExclusiveGate,
        "shortcut_gate": ShortcutGate,
        "dropout": Dropout,
    },
    entry="a Flax module; derive a class from Identity, as resjax init NAME shows",
    fits=lambda entry: isinstance(entry, type) and issubclass(entry, nn.Module),
)


SHARED = {field.name for field in dataclasses.fields(Shortcut)}
"""Fields that the block sets, not keys of a config."""


def make_shortcut(kind: str, options: dict, base: str = "identity") -> partial:
    """Binds a shortcut's class to the options in a config that are its fields.

    Args:
      kind: a key of `SHORTCUTS`.
      options: values by field name; fields that the kind does not have are ignored.
      base: the kind that a modified shortcut modifies.
    """
    shortcut = SHORTCUTS[kind]
    own = {field.name for field in dataclasses.fields(shortcut)} - SHARED
    chosen = {name: value for name, value in options.items() if name in own}
    if "base" in own:
        chosen["base"] = make_shortcut(base, options)
    return partial(shortcut, **chosen)
