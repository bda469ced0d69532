"""What is measured of a batch, as sums that add up over batches and devices."""

import jax
import jax.numpy as jnp
import optax
from flax import struct


@struct.dataclass
class Metrics:
    """Sums over examples; dividing by `examples` gives the means.

    Attributes:
      loss: sum of the cross-entropies, in nats.
      errors: number of examples whose largest logit is not the label's.
      examples: number of examples.
    """

    loss: jax.Array
    errors: jax.Array
    examples: jax.Array

    @classmethod
    def zero(cls, dtype: jnp.dtype) -> "Metrics":
        """No examples; the loss is summed in `dtype`, the counts are integers."""
        return cls(jnp.zeros((), dtype), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def __add__(self, other: "Metrics") -> "Metrics":
        return jax.tree.map(jnp.add, self, other)

    def means(self) -> dict[str, float]:
        """{"error": fraction of examples, "loss": nats per example}."""
        examples = int(self.examples)
        return {"error": int(self.errors) / examples, "loss": float(self.loss) / examples}


def measure(logits: jax.Array, labels: jax.Array, valid: jax.Array | None = None) -> Metrics:
    """Metrics of logits `[N, classes]` against labels `[N]`, counting the `valid` `[N]` ones.

    A row of logits that is not finite is an error, whatever its label.
    """
    valid = jnp.ones(labels.shape, bool) if valid is None else valid
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    wrong = (logits.argmax(-1) != labels) | ~jnp.isfinite(losses)
    return Metrics(
        jnp.where(valid, losses, 0).sum(),
        (wrong & valid).sum(dtype=jnp.int32),
        valid.sum(dtype=jnp.int32),
    )
