"""The block: a residual branch of convolutions, joined by a shortcut to its own input."""

from collections.abc import Callable

import flax.linen as nn
import jax


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, activation(join(x, F(x))).

    This is figure 5, left, of He et al. 2015:
    F(x) = norm2(conv2(activation(norm1(conv1(x))))), where conv1 has the stride.

    Attributes:
      channels: channels of both convolutions.
      stride: of the first convolution and of the shortcut.
      conv: makes a convolution, `conv(channels, size, stride, name=)`.
      norm: makes a normalisation, `norm(name=)`.
      activation: elementwise function.
      shortcut: makes a shortcut, `shortcut(channels=, stride=, conv=, norm=, name=)`.
    """

    channels: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]
    activation: Callable[[jax.Array], jax.Array]
    shortcut: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[N, H, W, C]` to `[N, H / stride, W / stride, channels]`."""
        branch = self.conv(self.channels, 3, self.stride, name="conv1")(x)
        branch = self.activation(self.norm(name="norm1")(branch, train))
        branch = self.conv(self.channels, 3, 1, name="conv2")(branch)
        branch = self.norm(name="norm2")(branch, train)
        join = self.shortcut(
            channels=self.channels, stride=self.stride, conv=self.conv, norm=self.norm,
            name="shortcut",
        )  # fmt: skip
        return self.activation(join(x, branch, train))
