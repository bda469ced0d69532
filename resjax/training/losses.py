"""Losses of single examples: functions of logits `[N, classes]` and labels `[N]` to `[N]`."""

import functools
import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from resjax.config import ConfigError
from resjax.config.tables import Table
from resjax.data.batch import Mixed

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-sum over classes c of q_c log p_c in nats, where p is the softmax of the logits.

    q is (1 - smoothing) for the label plus smoothing / classes for every class (Szegedy et al.
    2016, section 7).

    >>> cross_entropy(jnp.zeros((1, 4)), jnp.array([2]))
    Array([1.3862944], dtype=float32)
    """
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean over classes of (logit - target)^2; the target is 1 for the label, and else 0.

    >>> squared_error(jnp.array([[1.0, 0.0, 0.0, 2.0]]), jnp.array([0]))
    Array([1.], dtype=float32)
    """
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return jnp.square(logits - targets).mean(-1)


def of_known_labels(losses: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """The losses `[N]`, but NaN where a label `[N]` is no number of a class.

    Raises:
      ValueError: if the losses are not one for each label.
    """
    if losses.shape != labels.shape:
        raise ValueError(
            f"the loss of {len(labels)} examples has shape {losses.shape}; return one number for "
            f"each, of shape {labels.shape}, and not their mean"
        )
    return jnp.where((labels >= 0) & (labels < classes), losses, jnp.nan)


def mix_losses(
    own: jax.Array, others: jax.Array, labels: jax.Array, mixed: Mixed
) -> tuple[jax.Array, jax.Array]:
    """Losses `[N]` of mixed images, and the labels `[N]` that errors are counted against.

    The loss is share * own + (1 - share) * other, of the losses `[N]` for an image's own label and
    for that of its partner (Zhang et al. 2018; Yun et al. 2019); the label is that of the larger
    share.
    """
    losses = mixed.shares * own + (1 - mixed.shares) * others
    return losses, jnp.where(mixed.shares >= 0.5, labels, mixed.labels)


LOSSES = Table(
    "train.loss",
    {"cross_entropy": cross_entropy, "mse": squared_error},
    entry="a function of logits and labels to losses of examples",
)
"""Losses by `train.loss`."""


def training_loss(train: ConfigDict) -> Loss:
    """Loss that the section `train` of a config trains with.

    Raises:
      ConfigError: for a name that is not in `LOSSES`, or smoothing of a loss that has none.
    """
    loss = clean_loss(train)
    if not train.label_smoothing:
        return loss
    if loss is not cross_entropy:
        raise ConfigError(
            f"train.label_smoothing={train.label_smoothing} is of train.loss=cross_entropy; set it "
            "to 0"
        )
    return functools.partial(cross_entropy, smoothing=train.label_smoothing)


def clean_loss(train: ConfigDict) -> Loss:
    """Loss that evaluation reports: that of training without smoothing.

    Its arguments after the logits and labels are the keys of `config.train` of the same names.
    """
    loss = LOSSES.choose(train.loss)
    names = list(inspect.signature(loss).parameters)[2:]
    options = {name: train[name] for name in names if name in train}
    return functools.partial(loss, **options) if options else loss
