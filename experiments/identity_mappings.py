"""Variants of shortcuts and of the order of activations (He et al. 2016, tables 1 and 2).

Question: what may stand on the shortcut, and where may the activations? The claim of the paper: the
shortcut works because it is the identity. Whatever scales it, gates it, convolves it or drops it
trains worse, and the more blocks have it, the worse (table 1); and pre-activation, which leaves it
the identity from block to block, trains better (table 2).

Result: of eight variants, six are shown to train worse, and a convolution in every block probably
does. p of the training error, corrected over twelve rows, is below 0.05 for the six and 0.11 for
the convolution. Only a gate on the shortcut alone that begins almost open has nothing wrong, with
one and a half times the loss of the original. In the paper most differences are smaller, and in
another order. There, an exclusive gate that begins almost open is the second best variant; here it
is among the worst. There, dropout, exclusive gates that begin half open, and scaling the shortcut
alone fail (more than 20 % wrong); here the first two do, and the third is no worse than scaling
both terms. Of the orders, a normalisation after the sum ends with 5 to 38 % wrong, an activation at
the end of the branch with 0 to 13 %. Both pre-activations have nothing wrong, but for one image,
and the full one ends with about nine times the loss of the original.

The argument is the data:

    resjax sweep --config=experiments/identity_mappings.py --workdir=runs/mappings --seeds=5
    resjax sweep --config=experiments/identity_mappings.py:shapes --workdir=runs/mappings-shapes
    resjax sweep --config=experiments/identity_mappings.py:cifar10 --workdir=runs/mappings-cifar10
    resjax sweep --config=experiments/identity_mappings.py:cifar10 --workdir=runs/mappings-164 \
      --config.model.depth=164 --config.model.block=bottleneck \
      --config.model.shortcut=projection --config.model.stride_in=1x1 --sweep=seed --seeds=5 \
      --axis model.order=post,bn_after_add,relu_before_add,relu_preact,preact

digits (the default) and shapes: 13 runs of 56 layers for each seed, which take 2 min on digits.
cifar10: 110 layers with the recipe of the paper. The last command is the 164 layers of table 2.
shapes and cifar10 are for accelerators, and not run here. `--only order=preact` and the like pick
some of the rows.
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")

CIFAR10 = {
    # He et al. 2016, appendix: a lower rate to begin with, as for 110 layers in 2015.
    "model.depth": 110,
    "optim.warmup": "400 steps",
    "optim.warmup_shape": "constant",
}

TABLE_1 = (
    {"model.shortcut": "scaled", "model.shortcut_scale": 0.5, "model.branch_scale": 1.0},
    {"model.shortcut": "scaled", "model.shortcut_scale": 0.5, "model.branch_scale": 0.5},
    {"model.shortcut": "exclusive_gate", "model.gate_bias": 0.0},
    {"model.shortcut": "exclusive_gate", "model.gate_bias": -6.0},
    {"model.shortcut": "shortcut_gate", "model.gate_bias": 0.0},
    {"model.shortcut": "shortcut_gate", "model.gate_bias": -6.0},
    {"model.shortcut": "projection_all"},
    {"model.shortcut": "dropout", "model.shortcut_dropout": 0.5},
)
"""The shortcuts of table 1 besides the original, in the order of the paper."""

TABLE_2 = ("post", "bn_after_add", "relu_before_add", "relu_preact", "preact")
"""Orders of normalisation, activation and sum, with the identity on the shortcut."""


def get_config(arg: str = "digits") -> ConfigDict:
    """The recipe of degradation.py for the same data, with the network of the tables."""
    config = load_experiment(f"{RECIPE}:{arg}")[1]
    config.model.depth = 56
    if arg == "cifar10":
        config.update_from_flattened_dict(CIFAR10)
    return config


def sweep_variant() -> Iterator[dict]:
    for order in TABLE_2:
        yield {"model.order": order}
    yield from TABLE_1
