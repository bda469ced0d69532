"""The two paths of the gradient through a block: the "1 +" of the chain rule."""

from typing import Any

import jax

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.probes.walk import BoundBlock, as_in_training, backward, norm
from resjax.training.losses import Loss, cross_entropy


def path_gradients(
    model: ResNet, variables: Any, batch: Batch, loss: Loss = cross_entropy
) -> dict[str, jax.Array]:
    """The gradient that reaches a block's input through its shortcut and through its branch.

    A block joins x and F(x) to J(x, F(x)), so the gradient at x is the sum of two terms,
    dL/dJ dJ/dx, where F(x) is held constant, and dL/dJ dJ/dF dF/dx (He et al. 2016, equation 5).
    Gates are part of the join. The network normalises by the batch, as in training.

    Returns:
      through_shortcut, through_branch: `[blocks]`, norms of the two terms.
      shortcut_share: `[blocks]`, the first norm over the sum of both; 0 in a plain net.
    """
    held = jax.lax.stop_gradient

    def visit(block: BoundBlock, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, Any]:
        terms = {
            "through_shortcut": lambda x, branch: (x, held(branch)),
            "through_branch": lambda x, branch: (held(x), branch),
        }
        arrived = {
            name: jax.vjp(lambda x, change=change: block(x, change), x)[1](gradient)[0]
            for name, change in terms.items()
        }
        total = arrived["through_shortcut"] + arrived["through_branch"]
        return total, {name: norm(value) for name, value in arrived.items()}

    model, batch = as_in_training(model, batch)
    norms = backward(model, variables, batch, visit, loss)
    return norms | {"shortcut_share": norms["through_shortcut"] / sum(norms.values())}
