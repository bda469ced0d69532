"""Passes through a network block by block, forward and backward, with a visit at each block.

The stem and the head are the network's own; each stage is replaced by a loop over its blocks, whose
variables are stacked, so that a probe compiles in the same time whatever the depth.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from resjax.data.batch import Batch
from resjax.models.blocks import Block
from resjax.models.resnet import STACKED, ResNet, Stage
from resjax.models.shortcuts import Identity, Shortcut
from resjax.models.trace import intercepting
from resjax.training.evaluation import measuring
from resjax.training.losses import Loss, cross_entropy
from resjax.training.metrics import measure


@dataclasses.dataclass(frozen=True)
class BoundBlock:
    """A block with its variables, in evaluation mode: nothing is dropped.

    To normalise as in training, a probe walks the network that `as_in_training` makes.
    """

    module: Block
    variables: Any

    def __call__(self, x: jax.Array, terms: Callable | None = None) -> jax.Array:
        """The output of the block for x `[N, H, W, C]`.

        The shortcut receives the pair `terms(x, branch)` in place of x and branch, if given.
        """

        def join(next_call, args, kwargs, context):
            if isinstance(context.module, Shortcut) and context.method_name == "__call__":
                args = (*terms(*args[:2]), *args[2:])
            return next_call(*args, **kwargs)

        if terms is None:
            return self._apply(x)[0]
        with intercepting(join):
            return self._apply(x)[0]

    def observed(self, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """The output, and the outputs of the block's parts, {part: ...} nested as the modules are.

        The entry "shortcut" has the terms of the sum: "branch", "sum", and "shortcut" unless the
        net is plain.
        """
        y, left = self._apply(x, capture_intermediates=True)
        return y, _unwrapped(left["intermediates"])

    def identity(self, x: jax.Array, y: jax.Array) -> jax.Array:
        """Brings x into the shape of the output y by shortcut A of He et al. 2015.

        The result is NaN if y has fewer channels.
        """
        if y.shape[-1] < x.shape[-1]:
            return jnp.full_like(y, jnp.nan)
        shortcut = Identity(y.shape[-1], self.module.stride, None, None, parent=None)
        return shortcut.apply({}, x, False, method="carry")

    def with_params(self, params: Any) -> "BoundBlock":
        """The same block with other parameters."""
        return BoundBlock(self.module, {**self.variables, "params": params})

    def _apply(self, x: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
        left = ["intermediates", "batch_stats"]
        return self.module.apply(self.variables, x, False, mutable=left, **options)


def group_size(model: ResNet) -> int:
    """The number of examples of which a batch must be a multiple to be normalised in groups."""
    return getattr(model.parts.norm(), "examples", None) or 1


def as_in_training(model: ResNet, batch: Batch) -> tuple[ResNet, Batch]:
    """The network that normalises as in training, and the images for it."""
    return (model, batch) if model.frozen else by_batch(model, batch)


def by_batch(model: ResNet, batch: Batch) -> tuple[ResNet, Batch]:
    """The network that normalises by the batch, and the images for it.

    They are as many of the first images as fill groups of `norm.examples`. Images that are fewer
    than a group are normalised together.
    """
    model, there, group = measuring(model), len(batch.images), group_size(model)
    if there >= group:
        return model, jax.tree.map(lambda leaf: leaf[: there // group * group], batch)
    together = functools.partial(model.parts.norm, examples=None)
    return model.clone(parts=dataclasses.replace(model.parts, norm=together)), batch


Visit = Callable[[BoundBlock, jax.Array, Any], tuple[jax.Array, Any]]


def forward(
    model: ResNet, variables: Any, images: jax.Array, visit: Visit, given: Any = None
) -> tuple[jax.Array, Any]:
    """Runs the network with `visit(block, x, row)` in place of every block.

    A visit returns the input of the next block, and a tree to keep; `row` is the block's element of
    `given`, whose leaves are `[blocks, ...]`. Returns the logits, and the trees of all blocks with
    leaves `[blocks, ...]`.
    """
    kept, done = [], 0

    def stage(module: Stage, x: jax.Array) -> jax.Array:
        nonlocal done
        for segment in _segments(module, variables):
            own = slice(done, done + len(segment))
            x, found = segment.scan(visit, x, jax.tree.map(operator.itemgetter(own), given))
            kept.append(found)
            done = own.stop
        return x

    logits = _with_stages(model, variables, images, stage)
    return logits, jax.tree.map(lambda *parts: jnp.concatenate(parts), *kept)


def backward(
    model: ResNet, variables: Any, batch: Batch, visit: Visit, loss: Loss = cross_entropy
) -> Any:
    """Takes the gradient of the batch's mean loss back through the network, from the last block.

    `visit(block, x, gradient)` gets the input of a block and the gradient at its output, and
    returns the gradient at x, and a tree to keep. Returns the trees of all blocks with leaves
    `[blocks, ...]`, in the order of the network.
    """
    passed, last = [], None

    def stage(module: Stage, x: jax.Array) -> jax.Array:
        nonlocal last
        for segment in _segments(module, variables):
            x, inputs = segment.scan(lambda block, x, _: (block(x), x), x, None)
            passed.append((segment, inputs))
        last = x
        return x

    _with_stages(model, variables, batch.images, stage)

    def mean(last: jax.Array) -> jax.Array:
        logits = _with_stages(model, variables, batch.images, lambda module, x: last)
        return mean_loss(logits, batch.labels, loss)

    gradient, kept = jax.grad(mean)(last), []
    for segment, inputs in reversed(passed):
        gradient, found = segment.scan(
            lambda block, gradient, x: visit(block, x, gradient), gradient, inputs, reverse=True
        )
        kept.append(found)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *reversed(kept))


def mean_loss(logits: jax.Array, labels: jax.Array, loss: Loss) -> jax.Array:
    """The mean of a loss over the examples."""
    return measure(loss(logits, labels), logits, labels).loss / len(labels)


def mean_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The fraction of the examples that are classified wrongly."""
    return measure(cross_entropy(logits, labels), logits, labels).errors / len(labels)


def norm(x: Any) -> jax.Array:
    """The Euclidean norm of all values in an array or tree, of the whole batch together."""
    return jnp.sqrt(sum(jnp.square(exact(leaf)).sum() for leaf in jax.tree.leaves(x)))


def exact(x: jax.Array) -> jax.Array:
    """Converts x to at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@dataclasses.dataclass(frozen=True)
class _Segment:
    """Consecutive equal blocks; their variables are stacked along a leading axis."""

    module: Block
    variables: Any

    def __len__(self) -> int:
        return len(jax.tree.leaves(self.variables)[0])

    def scan(self, visit: Visit, x: jax.Array, rows: Any, reverse: bool = False) -> tuple:
        def step(x: jax.Array, row: tuple) -> tuple:
            variables, given = row
            return visit(BoundBlock(self.module, variables), x, given)

        if len(self) == 1:  # a stage's first block, which may change the shape
            x, found = step(x, jax.tree.map(lambda leaf: leaf[0], (self.variables, rows)))
            return x, jax.tree.map(lambda leaf: leaf[None], found)
        return jax.lax.scan(step, x, (self.variables, rows), reverse=reverse)


def _segments(stage: Stage, variables: Any) -> list[_Segment]:
    """The first block of a stage, and the rest if there are more."""
    own = {kind: tree[stage.name] for kind, tree in variables.items() if tree}
    first = jax.tree.map(lambda leaf: leaf[None], {kind: own[kind]["first"] for kind in own})
    segments = [_Segment(stage.make_first(parent=None), first)]
    if STACKED in own["params"]:
        rest = {kind: own[kind][STACKED] for kind in own}
        segments.append(_Segment(stage.make_rest(parent=None), rest))
    return segments


def _with_stages(
    model: ResNet, variables: Any, images: jax.Array, run: Callable[[Stage, jax.Array], jax.Array]
) -> jax.Array:
    """The logits with `run(stage, x)` in place of every stage."""

    def replace(next_call, args, kwargs, context):
        if isinstance(context.module, Stage) and context.method_name == "__call__":
            return run(context.module, args[0])
        return next_call(*args, **kwargs)

    with intercepting(replace):
        return model.apply(variables, images, train=False, mutable=["batch_stats"])[0]


def _unwrapped(tree: Any) -> Any:
    """Removes the tuple and the method's name that Flax puts around outputs of modules."""
    if not isinstance(tree, dict):
        return tree
    found = {name: _unwrapped(below) for name, below in tree.items() if name != "__call__"}
    if "__call__" in tree:
        found["output"] = tree["__call__"][0]
    return found
