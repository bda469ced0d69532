"""A deeper plain network contains the shallower one's solution, and SGD does not find it.

He et al. 2015, section 1: a deeper model has a solution by construction, the trained shallower one
and identity layers. Here it is constructed. A plain network of 20 layers is trained for half of the
run, then grown to 56 layers by blocks that are the identity, which leaves its training error as it
is, and trained on; the other run trains 56 plain layers from the start for as long.

    resjax sweep --config=experiments/nested.py --workdir=runs/nested

It takes a minute on 2 CPU cores. From scratch plain-56 ends at 29.4 % training error; grown, it has
0.07 % before and after the growth and ends at 0.00 %.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import default_config


def get_config() -> ConfigDict:
    """The recipe of degradation.py for twice as long, on a plain network of 56 layers."""
    config = default_config()
    config.model.width = 8
    config.model.depth = 56
    config.model.shortcut = "none"
    config.data.name = "digits"
    config.optim.learning_rate = 0.02
    config.optim.schedule = "cosine"
    config.train.batch_size = 64
    config.train.duration = "30 epochs"
    config.train.grow_at = "50%"
    config.eval.batch_size = 360
    return config


def sweep_grown() -> Iterator[dict]:
    for depth in (0, 20):
        yield {"train.grow_from": depth}
