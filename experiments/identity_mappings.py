"""Variants of shortcuts and of the order of activations (He et al. 2016, tables 1 and 2).

Claim: the shortcut works because it is the identity. Whatever scales it, gates it, convolves it or
drops it trains worse, in one block more than in none and so the worse the deeper the net (table 1);
and pre-activation, which leaves it the identity from block to block, trains better (table 2). The
argument is the data:

    resjax sweep --config=experiments/identity_mappings.py --workdir=runs/mappings
    resjax sweep --config=experiments/identity_mappings.py:shapes --workdir=runs/mappings-shapes
    resjax sweep --config=experiments/identity_mappings.py:cifar10 --workdir=runs/mappings-cifar10

digits (the default) and shapes: 56 layers, 13 runs. cifar10: 110 layers with the recipe of the
paper, or of table 2 the bottlenecks with `--config.model.depth=164 --config.model.block=bottleneck
--config.model.shortcut=projection --config.model.stride_in=1x1`. The last two are for accelerators,
and not run here. `--only order=preact` and the like pick some of the rows.

digits takes 2 min on 2 CPU cores. Training errors (one seed): the original 0.00 %, a shortcut gate
that begins almost open (bias -6) 0.00; scaled by 0.5 10.8, with the branch, too, 7.4; projection in
every block 9.7; an exclusive gate with bias -6 38.3, with bias 0 75.5; a shortcut gate with bias 0
9.2; dropout 89.7. Orders: preact and relu_preact 0.00, bn_after_add 22.0, relu_before_add 13.2. So
all that the paper finds to be worse is worse, and by more.
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
