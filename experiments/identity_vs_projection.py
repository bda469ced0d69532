"""Identity against projection shortcuts as networks get deep (He et al. 2015, table 3).

Question: which shortcut is best, and at which depth? The paper compares zero padding (A,
`identity`), projections where the shape changes (B, `projection`) and projections in every block
(C, `projection_all`) at one depth, finds B a little better than A and C a little better than B, and
concludes that projections are not essential. Does that hold at every depth? Layers that the
networks share start bit-equal and see the same batches, so that their differences are paired by
seed.

Result: A and B have nothing left to differ in, and C degrades. A and B reach zero training error,
but for one image in one run of B, and losses of a few thousandths. C is no better where it is
shallow, and degrades where it is deep.

The argument is the data, with the recipe of degradation.py:

    resjax sweep --config=experiments/identity_vs_projection.py --workdir=runs/abc
    resjax sweep --config=experiments/identity_vs_projection.py:shapes --workdir=runs/abc-shapes
    resjax sweep --config=experiments/identity_vs_projection.py:cifar10 --workdir=runs/abc-cifar10

digits is the default. shapes and cifar10 are for accelerators, and not run here.
"""

from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from resjax.sweeps.experiment import load_experiment

RECIPE = Path(__file__).with_name("degradation.py")

CIFAR10 = (20, 32, 44, 56, 110)

DEPTHS = {"digits": (8, 20, 32, 56), "shapes": (8, 20, 32, 56)}
DEPTHS |= {"cifar10": CIFAR10, "cifar": CIFAR10}  # the second is the files of its authors

WARM_UP = {"optim.warmup": "400 steps", "optim.warmup_shape": "constant"}
"""A tenth of the learning rate at first, as the paper trains 110 layers."""

SEEDS = {"digits": 3, "shapes": 3, "cifar10": 5, "cifar": 5}


def get_config(arg: str = "digits") -> ConfigDict:
    """The recipe of degradation.py for the same data."""
    return load_experiment(f"{RECIPE}:{arg}")[1]


def sweep_depth(config: ConfigDict) -> Iterator[dict]:
    for depth in DEPTHS.get(config.data.name.partition(":")[0], DEPTHS["digits"]):
        yield {"model.depth": depth} | (WARM_UP if depth >= 110 else {})


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("identity", "projection", "projection_all"):
        yield {"model.shortcut": shortcut}


def sweep_seed(config: ConfigDict) -> Iterator[dict]:
    for seed in range(SEEDS.get(config.data.name.partition(":")[0], 3)):
        yield {"seed": seed}
