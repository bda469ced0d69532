"""Claim: what you expect, so that a sweep can show that it is wrong.

Here: a shortcut that halves its input, H(x) = x / 2 + F(x), trains worse than the identity, and the
more so the deeper the network is.

    resjax sweep --config=NAME.py --dry-run
    resjax sweep --config=NAME.py --workdir=runs/NAME
    resjax report runs/NAME --open

Hardware and time: 9 networks of 8 to 56 layers on scikit-learn's digits; 2 min on 2 CPU cores.
"""

from collections.abc import Iterator

import jax
from ml_collections import ConfigDict

from resjax.config import default_config
from resjax.models.shortcuts import SHORTCUTS, Identity


class Half(Identity):
    """A shortcut of your own: the identity, halved.

    `carry` says what reaches the sum of x, in the shape of the branch. `terms` may change the
    branch, too, as the gates and the dropout of resjax/models/shortcuts.py do. Runs are known by
    the name of their shortcut: if you change what it computes, give it another name.
    """

    def carry(self, x: jax.Array, train: bool) -> jax.Array:
        """Half of what the identity carries."""
        return super().carry(x, train) / 2


SHORTCUTS["half"] = Half


def get_config(arg: str = "digits") -> ConfigDict:
    """The network and the recipe that all runs share.

    `arg` is what follows the colon in --config=NAME.py:shapes; here it names the images. The keys
    are those of resjax/config.py, with a comment each; --config.KEY=VALUE sets one for one command.
    """
    config = default_config()
    config.model.name = "cifar"  # the family: 6n+2 layers
    config.model.width = 8
    config.data.name = arg
    config.optim.learning_rate = 0.02
    config.train.batch_size = 64
    config.train.duration = "15 epochs"  # or steps, or examples
    return config


# Axes: each function sweep_X is one, and a sweep trains their product. --sweep=depth,shortcut takes
# those alone, --seeds=3 every network with seeds 0, 1 and 2, --only=shortcut=half some of the runs.


def sweep_depth() -> Iterator[dict]:
    """Layers of the network."""
    for depth in (8, 20, 56):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    """Without a shortcut, with the identity, and with the one above."""
    for shortcut in ("none", "identity", "half"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    """One seed; with several, the report has intervals."""
    yield {"seed": 0}
