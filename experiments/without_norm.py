"""Plain and residual networks with and without BatchNorm: two reasons to fail.

Question: is degradation the vanishing of signals that BatchNorm cures? Before BatchNorm, deep plain
networks did not train because gradients vanished or exploded. He et al. 2015, section 4.1, argue
that degradation is something else: with BatchNorm signals vanish neither forward nor backward, and
deep plain nets still train worse. Measured here, the gradients of deep plain nets with BatchNorm
explode at initialisation and not later (`docs/probes.md`, `experiments/inside.py`). Plain and
residual networks are trained with BatchNorm and without (biases instead) at three depths.

Result: no, BatchNorm lets deep plain networks train and does not keep them from degrading. Without
it plain networks of 20 layers and more hardly train. With it they do, and the one of 32 layers ends
worse than the one of 20 with each of five seeds; with shortcuts 32 layers have almost no training
error. Shortcuts without BatchNorm train 20 layers; of 32 layers one seed of five trains.

    resjax sweep --config=experiments/without_norm.py --workdir=runs/without_norm --seeds=5

A seed takes a minute on 2 CPU cores.
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")


def get_config() -> ConfigDict:
    """The recipe of degradation.py with a learning rate at which nets without BatchNorm train."""
    config = load_experiment(str(RECIPE))[1]
    config.optim.learning_rate = 0.005
    return config


def sweep_norm() -> Iterator[dict]:
    for kind in ("batch", "none"):
        yield {"norm.kind": kind}


def sweep_depth() -> Iterator[dict]:
    for depth in (8, 20, 32):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity"):
        yield {"model.shortcut": shortcut}
