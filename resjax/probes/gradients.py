"""The size of the gradient at every block."""

from typing import Any

import jax

from resjax.data.batch import Batch
from resjax.models.resnet import ResNet
from resjax.probes.walk import BoundBlock, as_in_training, backward, norm
from resjax.training.losses import Loss, cross_entropy


def gradients(
    model: ResNet, variables: Any, batch: Batch, loss: Loss = cross_entropy
) -> dict[str, jax.Array]:
    """Norms of the gradient of the mean loss, with the statistics of the batch as in training.

    A net whose gradient vanishes or explodes with depth has a ratio far from 1.

    Returns:
      input: `[blocks]`, norm at the input of every block, over the whole batch together.
      parameters: `[blocks]`, norm for the parameters of every block.
      input_ratio, parameters_ratio: the norm at the first block over that at the last.
    """

    def visit(block: BoundBlock, x: jax.Array, gradient: jax.Array) -> tuple[jax.Array, Any]:
        _, pull = jax.vjp(
            lambda params, x: block.with_params(params)(x), block.variables["params"], x
        )
        of_params, of_input = pull(gradient)
        return of_input, {"input": norm(of_input), "parameters": norm(of_params)}

    model, batch = as_in_training(model, batch)
    norms = backward(model, variables, batch, visit, loss)
    return norms | {f"{name}_ratio": values[0] / values[-1] for name, values in norms.items()}
