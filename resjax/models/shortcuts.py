"""Shortcuts: how the input of a block meets its residual branch.

A shortcut is a module `(x, branch, train) -> joined`. It is made with the shape its block asks for
(`channels`, `stride`) and the parts that it may need (`conv`, `norm`), so that a plain net, whose
shortcut returns the branch alone, is one more entry of the table and no special case.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class _Shortcut(nn.Module):
    """The shape that a block asks of its shortcut, and the parts it may build with.

    Attributes:
      channels: channels of the block's output.
      stride: stride of the block; the output is `[N, H / stride, W / stride, channels]`.
      conv: makes a convolution, `conv(channels, size, stride, name=)`.
      norm: makes a normalisation, `norm(name=)`.
    """

    channels: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    def changes_shape(self, x: jax.Array) -> bool:
        return self.stride != 1 or x.shape[-1] != self.channels

    def project(self, x: jax.Array, train: bool) -> jax.Array:
        """1x1 convolution with the block's stride, normalised like every other convolution."""
        x = self.conv(self.channels, 1, self.stride, name="conv")(x)
        return self.norm(name="norm")(x, train)


class Plain(_Shortcut):
    """No shortcut: the block is its branch, H(x) = F(x)."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array, train: bool) -> jax.Array:
        return branch


class Identity(_Shortcut):
    """Shortcut A: H(x) = F(x) + x (He et al. 2015, section 3.3 and equation 1).

    Where the shape changes, x is subsampled by the stride and zero channels are appended. Adds no
    parameters and no multiply-adds.

    Raises:
      ValueError: if `channels` is smaller than that of x; a shortcut cannot drop channels.
    """

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array, train: bool) -> jax.Array:
        missing = self.channels - x.shape[-1]
        if missing < 0:
            raise ValueError(
                f"identity shortcut cannot go from {x.shape[-1]} to {self.channels} channels; "
                "use shortcut='projection'"
            )
        x = x[:, :: self.stride, :: self.stride, :]
        return branch + jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))


class Projection(_Shortcut):
    """Shortcut B: a 1x1 convolution where the shape changes, identity elsewhere.

    H(x) = F(x) + W x (He et al. 2015, section 3.3 and equation 2).
    """

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array, train: bool) -> jax.Array:
        return branch + (self.project(x, train) if self.changes_shape(x) else x)


class ProjectionAll(_Shortcut):
    """Shortcut C: a 1x1 convolution in every block (He et al. 2015, section 4.1)."""

    @nn.compact
    def __call__(self, x: jax.Array, branch: jax.Array, train: bool) -> jax.Array:
        return branch + self.project(x, train)


SHORTCUTS: dict[str, type[_Shortcut]] = {
    "none": Plain,
    "identity": Identity,
    "projection": Projection,
    "projection_all": ProjectionAll,
}
