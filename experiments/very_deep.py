"""Residual networks of hundreds of layers, original and pre-activated (He et al. 2016, section 4).

Question: do residual networks degrade when they are very deep? With the original block a ReLU
follows every sum, so that the path from block to block is no identity; He et al. 2016 find that
networks of 164 layers and more then train worse than with pre-activation, and that 1,001 layers
train well with it. Identity networks of both orders are trained at 20 to 302 layers, on digits by
the recipe of degradation.py.

Result: at 302 layers some seeds fail with the original order, and none with pre-activation. Five
seeds of the original end with 0.8, 0.8, 5.8, 11 and 66 % of the training set wrong, so far apart
that the verdict is undecided; at 110 layers they all have nothing wrong. With pre-activation
nothing is wrong at any depth, but for an image in two runs. Where both orders have nothing wrong,
the loss of pre-activation is several times that of the original.

    resjax sweep --config=experiments/very_deep.py --workdir=runs/very_deep
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")


def get_config() -> ConfigDict:
    """The recipe of degradation.py with identity shortcuts, evaluated a few times."""
    config = load_experiment(str(RECIPE))[1]
    config.model.shortcut = "identity"
    config.eval.every = "5 epochs"
    return config


def sweep_order() -> Iterator[dict]:
    for order in ("post", "preact"):
        yield {"model.order": order}


def sweep_depth() -> Iterator[dict]:
    for depth in (20, 56, 110, 302):
        yield {"model.depth": depth}


def sweep_seed() -> Iterator[dict]:
    for seed in range(5):
        yield {"seed": seed}
