"""Intermediate values of a network: outputs of stages, and the terms of every block's sum."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from resjax.models.resnet import ResNet


class Features(NamedTuple):
    """The intermediates of one forward pass.

    Attributes:
      logits: `[N, classes]`; of a network without a head, the pooled features.
      stages: {"stage1": `[N, H, W, C]`, ...}, the output of every stage; stage1 to stage4 of an
        ImageNet net are C2 to C5 of feature pyramids (strides 4 to 32).
      pooled: `[N, C]`, the input of the head.
      blocks: {"stage1": {"branch", "shortcut", "sum": `[blocks, N, H, W, C]`}, ...}, the two terms
        of every block's sum and the sum; a plain net has no "shortcut".
    """

    logits: jax.Array
    stages: dict[str, jax.Array]
    pooled: jax.Array
    blocks: dict[str, dict[str, jax.Array]]


def features(
    model: ResNet,
    variables: Any,
    images: jax.Array,
    train: bool = False,
    rngs: dict[str, jax.Array] | None = None,
) -> Features:
    """Runs the network on images `[N, H, W, C]` and records its intermediate values.

    A plain call of the network records none of them and has no extra cost. In training the new
    running statistics are discarded.
    """
    logits, left = model.apply(
        variables, images, train=train, rngs=rngs, mutable=["intermediates", "batch_stats"]
    )
    left = left["intermediates"]
    stages = [f"stage{number}" for number in range(1, len(model.spec.stages) + 1)]
    return Features(
        logits,
        {stage: left[stage]["output"] for stage in stages},
        left["pooled"],
        {stage: _by_block(left[stage]) for stage in stages},
    )


def _by_block(stage: dict[str, Any]) -> dict[str, jax.Array]:
    first = stage["first"]["shortcut"]
    terms = {name: value[None] for name, value in first.items() if name in _TERMS}
    if "rest" in stage:
        rest = stage["rest"]["shortcut"]
        terms = {name: jnp.concatenate([value, rest[name]]) for name, value in terms.items()}
    return terms


_TERMS = ("branch", "shortcut", "sum")
