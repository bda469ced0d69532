"""Metrics of a batch as sums, which add up over batches and devices."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Metrics:
    """Sums over examples; dividing by `examples` gives the means.

    Attributes:
      loss: sum of the losses of the examples.
      errors: number of examples whose largest logit is not the label's, or whose loss is not
        finite.
      examples: number of examples.
    """

    loss: jax.Array
    errors: jax.Array
    examples: jax.Array

    @classmethod
    def zero(cls, dtype: jnp.dtype) -> "Metrics":
        """Metrics of no examples; the loss is summed in `dtype`, the counts are integers."""
        return cls(jnp.zeros((), dtype), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, np.ndarray]:
        """Returns {"error": fraction of the examples, "loss": mean over them}, in float64."""
        sums = (self.loss, self.errors, self.examples)
        loss, errors, examples = (np.asarray(value, np.float64) for value in sums)
        return {"error": errors / examples, "loss": loss / examples}


def measure(
    losses: jax.Array, logits: jax.Array, labels: jax.Array, valid: jax.Array | None = None
) -> Metrics:
    """Metrics of logits `[N, classes]` against labels `[N]`, counting the `valid` `[N]` ones.

    A row of logits whose loss, of `losses` `[N]`, is not finite is an error, whatever its label,
    and makes the sum of the losses not finite either. Without `valid` all rows count.
    """
    wrong = (logits.argmax(-1) != labels) | ~jnp.isfinite(losses)
    if valid is None:
        valid = jnp.ones(labels.shape, bool)
    return Metrics(
        jnp.where(valid, losses, 0).sum(),
        (wrong & valid).sum(dtype=jnp.int32),
        valid.sum(dtype=jnp.int32),
    )
