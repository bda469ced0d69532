"""Plain and residual networks with and without BatchNorm: two reasons to fail.

Question: is degradation the vanishing of signals that BatchNorm cures? Before BatchNorm, deep plain
networks did not train because gradients vanished or exploded. He et al. 2015, section 4.1, argue
that degradation is something else: with BatchNorm signals neither vanish nor explode, and deep
plain nets still train worse. Plain and residual networks are trained with BatchNorm and without
(biases instead) at three depths.

Result: no, BatchNorm cures the one and not the other. Without it plain networks of 20 layers and
more do not train at all, and with it they do. But then the plain network of 32 layers ends worse
than that of 20 with every seed, though three seeds leave the gap undecided, and with shortcuts it
trains to almost nothing. Shortcuts alone train 20 layers without BatchNorm; of 32 layers, where the
sums grow with every block, one seed of three.

    resjax sweep --config=experiments/without_norm.py --workdir=runs/without_norm

It takes a minute on 2 CPU cores.
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
