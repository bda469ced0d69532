"""Plain and residual networks with and without BatchNorm: two reasons to fail.

Before BatchNorm, deep plain networks did not train because gradients vanished or exploded. He et
al. 2015, section 4.1, argue that degradation is something else: with BatchNorm signals neither
vanish nor explode, and deep plain nets still train worse. This sweep trains plain and residual
networks with BatchNorm and without (biases instead) at three depths.

    resjax sweep --config=experiments/without_norm.py --workdir=runs/without_norm

It takes a minute on 2 CPU cores. With BatchNorm plain-32 trains, but worse than plain-20, and
identity-32 to 0 %. Without it plain networks of 20 layers and more stay at chance, identity-20
trains and identity-32 does not, since its sums grow with every block.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import default_config


def get_config() -> ConfigDict:
    """The recipe of degradation.py with a learning rate at which nets without BatchNorm train."""
    config = default_config()
    config.model.width = 8
    config.data.name = "digits"
    config.optim.learning_rate = 0.005
    config.optim.schedule = "cosine"
    config.train.batch_size = 64
    config.train.duration = "15 epochs"
    config.eval.batch_size = 360
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
