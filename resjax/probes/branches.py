"""The size of the residual branches compared with the inputs of their blocks."""

from typing import Any

import jax

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.probes.walk import BoundBlock, forward, norm


def branches(model: ResNet, variables: Any, batch: Batch) -> dict[str, jax.Array]:
    """The size of the branch relative to the input, and the block's distance from the identity.

    The network is in evaluation mode, and each norm is taken over the whole batch together.

    Returns:
      branch_over_input: `[blocks]`, |F| / |x|, F being the branch's term of the sum.
      branch_over_shortcut: `[blocks]`, |F| over the norm of the shortcut's term, if there is one.
      from_identity: `[blocks]`, |H(x) - x| / |x|, with x brought into the shape of H(x) by shortcut
        A where the shape changes.
    """

    def visit(block: BoundBlock, x: jax.Array, _: None) -> tuple[jax.Array, Any]:
        y, parts = block.observed(x)
        terms, carried = parts["shortcut"], block.identity(x, y)
        found = {
            "branch_over_input": norm(terms["branch"]) / norm(x),
            "from_identity": norm(y - carried) / norm(carried),
        }
        if "shortcut" in terms:
            found["branch_over_shortcut"] = norm(terms["branch"]) / norm(terms["shortcut"])
        return y, found

    return forward(model, variables, batch.images, visit)[1]
