"""Residual networks and their plain twins, from a spec: a stem, stages of blocks, a head."""

import functools
import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resjax.models.blocks import Block, Parts
from resjax.models.initialisers import INITIALISERS
from resjax.models.networks import Spec, Stem
from resjax.models.shortcuts import ONE_VALUE
from resjax.ops.platform import platform


class ResNet(nn.Module):
    """Stem, stages, global average pooling and a dense head, for a `Spec`.

    Made by `build_model`. When the collection `intermediates` is mutable, it receives the output of
    every stage and the pooled features; see `resjax.models.features`.

    Attributes:
      spec: the network as data.
      classes: outputs of the head; 0 is no head, and the output is the pooled features.
      parts: the parts that blocks are made of.
      gains: factor on the initial kernel of each layer of a branch.
      head_init: key of `INITIALISERS`.
      stochastic_depth: probability of dropping the last block's branch; it grows linearly from the
        first (Huang et al. 2016, equation 4).
      dtype: dtype of the computation; parameters, statistics and logits have at least float32.
      unroll, remat: see `Stage`.
    """

    spec: Spec
    classes: int
    parts: Parts
    gains: tuple[float, ...]
    head_init: str = "lecun_normal"
    stochastic_depth: float = 0.0
    dtype: jnp.dtype = jnp.float32
    unroll: int | None = None
    remat: bool = False

    @property
    def frozen(self) -> bool:
        """Tells whether training normalises by the running statistics, and keeps them."""
        return getattr(self.parts.norm(), "frozen", False)

    @nn.compact
    def __call__(self, images: jax.Array, train: bool, first: jax.Array | int = 0) -> jax.Array:
        """Maps images `[N, H, W, C]` to logits `[N, classes]`, at least float32.

        Without a head the result is the pooled features `[N, channels]`.

        `first` is the number of images[0] in the whole batch, if these are a part of it: the random
        masks of training belong to examples.

        Raises:
          ValueError: if the images are not `[N, H, W, C]`, or smaller than the product of all
            strides.
        """
        spec, order = self.spec, self.parts.order
        _refuse_other_images(spec, images.shape)
        exact = jnp.promote_types(self.dtype, jnp.float32)
        bare = spec.opening == "block"
        stem = StemLayers(spec.stem_layers, self.parts, bare, name="stem")
        x = stem(images.astype(self.dtype), train)

        blocks, done = sum(spec.stages), 0
        drops = self.stochastic_depth * np.arange(1, blocks + 1) / blocks
        block = functools.partial(Block, parts=self.parts)
        for i, size in enumerate(spec.stages):
            stage = Stage(
                make_first=functools.partial(
                    block, spec.branch(i, True, self.gains), preactivated=i == 0 and not bare
                ),
                make_rest=functools.partial(block, spec.branch(i, False, self.gains)),
                drops=tuple(map(float, drops[done : done + size])),
                unroll=self.unroll,
                remat=self.remat,
                name=f"stage{i + 1}",
            )
            x = stage(x, train, first)
            done += size
        # The last block of a pre-activation net has no successor to activate its sum.
        x = self.parts.apply(order.before, x, train, itertools.repeat("norm"))
        pooled = _global_average(x, exact, train) if x.ndim == 4 else x.astype(exact)
        self.sow("intermediates", "pooled", pooled, **ONE_VALUE)
        if not self.classes:
            return pooled
        head = nn.Dense(
            self.classes,
            dtype=exact,
            param_dtype=exact,
            precision="highest",  # accelerators would round the factors of a float32 product
            kernel_init=INITIALISERS[self.head_init].scaled(),
            name="head",
        )
        return head(pooled)


def _global_average(x: jax.Array, dtype: jnp.dtype, train: bool) -> jax.Array:
    """The mean over pixels, `[N, H, W, C]` to `[N, C]`, in `dtype`."""
    mean = x.astype(dtype).mean((1, 2))
    if train or platform() != "cpu":
        return mean
    # XLA's code for CPUs takes relu of NaN as zero in this sum.
    return jnp.where(jnp.isnan(x).any((1, 2)), jnp.nan, mean)


def _refuse_other_images(spec: Spec, shape: tuple[int, ...]) -> None:
    if len(shape) != 4 and not spec.stem_layers.flatten:
        single = "; give a single one as image[None]" if len(shape) == 3 else ""
        raise ValueError(f"images of shape {shape} are not [N, H, W, C]{single}")
    if len(shape) == 4 and shape[1] in (1, 3) and shape[1] < min(shape[3], spec.total_stride):
        raise ValueError(
            f"images of shape {shape} look like [N, C, H, W]; give [N, H, W, C], such as "
            "images.transpose(0, 2, 3, 1)"
        )
    refuse_small_images(spec, shape[1:3])


def refuse_small_images(spec: Spec, size: tuple[int, ...]) -> None:
    """Raises ValueError if images of (height, width) `size` are smaller than the total stride."""
    if min(size) < spec.total_stride:
        smallest = spec.total_stride
        raise ValueError(
            f"images of {size[0]}x{size[1]} are too small for strides of {smallest} in all; "
            f"the smallest are {smallest}x{smallest}"
        )


class StemLayers(nn.Module):
    """The layers before the first block, each normalised and activated, and the max-pool.

    Input `[N, H, W, C]`, or anything with N rows for a stem that flattens.

    Attributes:
      bare: whether the last layer is not normalised and activated.
    """

    stem: Stem
    parts: Parts
    bare: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps `[N, H, W, C]` to `[N, H / stride, W / stride, channels]`, or to `[N, channels]`."""
        if self.stem.flatten:
            x = x.reshape(len(x), -1)
        parts, names = self.parts, (f"norm{number}" for number in itertools.count(1))
        for number, layer in enumerate(self.stem.layers, start=1):
            x = parts.layer(layer, name=f"{parts.layer_name}{number}")(x)
            if not (self.bare and number == len(self.stem.layers)):
                x = parts.apply(parts.order.between, x, train, names)
        return parts.pool(x) if self.stem.pool else x


class Stage(nn.Module):
    """Blocks of one width: the `first` may change the shape, and the `rest` are equal.

    The rest are one block scanned over a leading axis of its `params` and `batch_stats`, so the
    layout of a checkpoint does not depend on how the stage is executed.

    Attributes:
      make_first: makes the first block, `make_first(name=)`.
      make_rest: makes the block that is scanned, `make_rest(name=)`.
      drops: the probability, for each block, that its branch is dropped in training.
      unroll: blocks of the rest in one iteration of the compiled loop; as many as there are, or
        more, is straight-line code, 1 is one compiled body whatever their number. None chooses by
        `STRAIGHT_LINE`.
      remat: whether a block keeps nothing but its input for the gradient, and computes the rest
        again (Chen et al. 2016).
    """

    make_first: Callable[..., Block]
    make_rest: Callable[..., Block]
    drops: tuple[float, ...]
    unroll: int | None
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, first: jax.Array | int = 0) -> jax.Array:
        """Maps `[N, H, W, C]` to `[N, H / stride, W / stride, channels]`.

        `first` is the number of x[0] in the whole batch.
        """
        others = len(self.drops) - 1
        unroll = blocks_per_iteration(self.unroll, others)
        drop, other_drops = None, None
        if any(self.drops):
            drops = np.asarray(self.drops, np.float32)
            drop, other_drops = jnp.asarray(drops[0]), drops[1:]

        def apply(block: Block, x: jax.Array, drop: jax.Array | None) -> tuple[jax.Array, None]:
            return block(x, train, drop, first), None

        def with_remat(straight_line: bool) -> Callable:
            # In a loop the body is computed again anyway; in straight-line code, which a loop of
            # one block is as well, XLA would see that it was computed before.
            return nn.remat(apply, prevent_cse=straight_line) if self.remat else apply

        x, _ = with_remat(True)(self.make_first(name="first"), x, drop)
        if others:
            scanned = nn.scan(
                with_remat(unroll > 1 or others == 1),
                variable_axes={"params": 0, "batch_stats": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                length=others,
                unroll=unroll,
            )
            x, _ = scanned(self.make_rest(name=STACKED), x, other_drops)
        self.sow("intermediates", "output", x, **ONE_VALUE)
        return x


STACKED = "rest"
"""Name of the equal blocks of a stage; their variables have a leading axis, a row per block."""


def is_stacked(path: tuple) -> bool:
    """Tells whether a path of `jax.tree_util` leads to variables that are stacked by block."""
    return any(getattr(key, "key", None) == STACKED for key in path)


EVERY_BLOCK = 1 << 30
"""Value of `unroll` for straight-line code, however many blocks there are."""

STRAIGHT_LINE = 8
"""Maximum number of equal blocks in a stage that are straight-line code by default.

A loop compiles in the same time whatever the number of blocks, but copies what the gradient needs
to and from stacked arrays. On a CPU that makes a step 3 to 10 % longer, and straight-line code of
more blocks takes longer to compile than the shorter steps of an hour give back.
"""


def blocks_per_iteration(unroll: int | None, others: int) -> int:
    """The number of blocks in an iteration of the loop over `others`; all is no loop."""
    if unroll is None:
        unroll = others if others <= STRAIGHT_LINE else 1
    return max(1, min(unroll, others))
