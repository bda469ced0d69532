"""Residual networks and their plain twins, from a spec: a stem, stages of blocks, a head."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from resjax.config import ConfigError, choose
from resjax.models.blocks import BasicBlock
from resjax.models.norm import BatchNorm
from resjax.models.shortcuts import SHORTCUTS

INITIALISERS: dict[str, Callable] = {
    # He et al. 2015b, equation 14: variance 2 / (size * size * channels out).
    "he_normal": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "lecun_normal": nn.initializers.lecun_normal(),
}


def conv(
    channels: int,
    size: int,
    stride: int,
    *,
    init: str = "he_normal",
    dtype: jnp.dtype = jnp.float32,
    name: str | None = None,
) -> nn.Conv:
    """A convolution without bias, padded by (size - 1) / 2 on every side; never SAME.

    At stride 2, SAME would shift the residual branch by a pixel against its shortcut.
    """
    return nn.Conv(
        channels,
        (size, size),
        (stride, stride),
        padding=(size - 1) // 2,
        use_bias=False,
        kernel_init=INITIALISERS[init],
        dtype=dtype,
        param_dtype=jnp.promote_types(dtype, jnp.float32),
        name=name,
    )


@dataclasses.dataclass(frozen=True)
class Spec:
    """A network as data.

    Attributes:
      stages: blocks in each stage.
      channels: channels of each stage's blocks.
      strides: stride of each stage's first block.
      stem_channels: channels of the 3x3 convolution that opens the network.
    """

    stages: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    stem_channels: int


def cifar_spec(depth: int, width: int = 16) -> Spec:
    """The CIFAR-10 family of He et al. 2015, section 4.2: 6n+2 weighted layers.

    A 3x3 convolution, three stages of n blocks with `width`, 2 `width` and 4 `width` channels on
    maps of full, half and quarter size, global average pooling and a dense layer.

    Raises:
      ValueError: if depth is not 6n+2 with n >= 1, naming the nearest depths that are.
    """
    n, odd = divmod(depth - 2, 6)
    if odd or n < 1:
        nearest = sorted({6 * max(1, n) + 2, 6 * max(1, n + 1) + 2})
        raise ValueError(
            f"CIFAR depth {depth} is not 6n+2; nearest: {', '.join(map(str, nearest))}"
        )
    if width < 1:
        raise ValueError(f"width {width} is not positive; the papers use 16")
    return Spec((n, n, n), (width, 2 * width, 4 * width), (1, 2, 2), width)


MODELS: dict[str, Callable[[int, int], Spec]] = {"cifar": cifar_spec}
"""Families of networks: a function of depth and width each."""

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}


class Stage(nn.Module):
    """Blocks of one width: a `first` that may change the shape, and the `rest`, which are equal.

    The rest are one block scanned over a leading axis of its `params` and `batch_stats`, so the
    layout of a checkpoint does not depend on how the stage is executed.

    Attributes:
      block: makes a block, `block(channels=, stride=, name=)`.
      size: number of blocks.
      channels: of every block's output.
      stride: of the first block.
      unroll: blocks of the rest in one iteration of the compiled loop; `size` or more is
        straight-line code, 1 is one compiled body whatever the size.
    """

    block: Callable[..., nn.Module]
    size: int
    channels: int
    stride: int
    unroll: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[N, H, W, C]` to `[N, H / stride, W / stride, channels]`."""
        x = self.block(channels=self.channels, stride=self.stride, name="first")(x, train)
        if self.size == 1:
            return x
        scanned = nn.scan(
            lambda block, x, _: (block(x, train), None),
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=self.size - 1,
            unroll=min(self.unroll, self.size - 1),
        )
        return scanned(self.block(channels=self.channels, stride=1, name="rest"), x, None)[0]


class ResNet(nn.Module):
    """Stem, stages, global average pooling and a dense head, for a `Spec`.

    Attributes:
      spec: the network.
      classes: outputs of the head.
      shortcut: a key of `SHORTCUTS`.
      momentum, epsilon: of every `BatchNorm`.
      kernel_init, head_init: keys of `INITIALISERS`, for convolutions and the head.
      dtype: of the computation; parameters, statistics and logits have at least float32.
      unroll: see `Stage`.
    """

    spec: Spec
    classes: int
    shortcut: str = "identity"
    momentum: float = 0.9
    epsilon: float = 1e-5
    kernel_init: str = "he_normal"
    head_init: str = "lecun_normal"
    dtype: jnp.dtype = jnp.float32
    unroll: int = 1 << 30

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Images `[N, H, W, C]` to logits `[N, classes]`, at least float32."""
        exact = jnp.promote_types(self.dtype, jnp.float32)
        convolution = functools.partial(conv, init=self.kernel_init, dtype=self.dtype)
        norm = functools.partial(
            BatchNorm, momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype
        )
        block = functools.partial(
            BasicBlock,
            conv=convolution,
            norm=norm,
            activation=nn.relu,
            shortcut=SHORTCUTS[self.shortcut],
        )
        x = convolution(self.spec.stem_channels, 3, 1, name="stem_conv")(images.astype(self.dtype))
        x = nn.relu(norm(name="stem_norm")(x, train))
        layers = zip(self.spec.stages, self.spec.channels, self.spec.strides, strict=True)
        for i, (size, channels, stride) in enumerate(layers, start=1):
            x = Stage(block, size, channels, stride, self.unroll, name=f"stage{i}")(x, train)
        pooled = x.astype(exact).mean((1, 2))
        head = nn.Dense(
            self.classes, dtype=exact, param_dtype=exact, name="head",
            kernel_init=INITIALISERS[self.head_init],
        )  # fmt: skip
        return head(pooled)


def build_model(config: ConfigDict, classes: int) -> ResNet:
    """The network that `config.model` and `config.norm` describe.

    Raises:
      ConfigError: for a name that is in no table, or a depth that the family does not have.
    """
    model = config.model
    try:
        spec = choose(MODELS, model.name, "model.name")(model.depth, model.width)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for key, table in (
        ("shortcut", SHORTCUTS),
        ("kernel_init", INITIALISERS),
        ("head_init", INITIALISERS),
    ):
        choose(table, model[key], f"model.{key}")
    if model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise ConfigError("model.dtype=float64 needs JAX_ENABLE_X64=1 in the environment")
    return ResNet(
        spec=spec,
        classes=classes,
        shortcut=model.shortcut,
        momentum=config.norm.momentum,
        epsilon=config.norm.epsilon,
        kernel_init=model.kernel_init,
        head_init=model.head_init,
        dtype=choose(DTYPES, model.dtype, "model.dtype"),
        unroll=_unroll(model.unroll),
    )


def _unroll(text: str) -> int:
    if text == "all":
        return ResNet.unroll
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"model.unroll={text!r} is neither a positive number nor 'all'")
    return int(text)
