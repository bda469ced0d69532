"""Plain networks degrade with depth, residual ones do not (He et al. 2015, section 4.2, figure 6).

Question: do plain networks degrade with depth, and residual ones? The claim of the paper: with more
layers a plain network ends at a higher *training* error, so it is not overfitting but optimisation
that fails; with shortcuts the deeper network trains at least as well. A family of networks is
trained at several depths with four shortcuts, on scans of handwritten digits of 8x8 pixels.

Result: plain networks degrade, with identity shortcuts they do not, as claimed. After these 15
epochs the deepest plain network has half of its training set wrong, whatever the seed; three times
as many leave 22 to 36 % wrong (`experiments/duration.py`). With an identity shortcut and as many
parameters it gets nothing wrong, and its loss is the lowest of all depths. Projections where the
shape changes do as well; projections in every block do not: they take the identity off the path,
and degrade, too.

Question of shapes: does it hold for colour images? The same networks, on drawn shapes of 32x32
pixels.

Result of shapes: with one seed it seems to, but one seed decides nothing. With 56 layers the plain
network learns next to nothing, with identity shortcuts as much as with 20. What it shows of
projections may well be chance: with seeds 1 and 2 the network of 56 layers and projections where
the shape changes ends with 26.6 and 31.8 % wrong. All would still learn more after these ten
epochs.

Question of lr: did the plain networks just have the wrong learning rate? The digits once more.
Every network at every depth is trained with five rates; shown is the one with the lowest error on a
validation split, a fifth of the training set.

Result of lr: no; with the rate that suits it best, and as many epochs, the deepest plain network
still gets half of its training set wrong. With an identity shortcut, or projections where the shape
changes, no network degrades; with projections in every block three seeds leave it undecided. The
best rates of the deepest networks lie within what was tried, those of some shallow ones at its
upper end.

The argument is the data:

    resjax sweep --config=experiments/degradation.py --workdir=runs/degradation
    resjax sweep --config=experiments/degradation.py:shapes --workdir=runs/shapes
    resjax sweep --config=experiments/degradation.py:cifar10 --workdir=runs/cifar10
    resjax sweep --config=experiments/degradation.py:imagenet --workdir=runs/imagenet
    resjax sweep --config=experiments/degradation.py:lr --workdir=runs/lr

On 2 CPU cores digits, the default, takes 1 to 2 minutes, or at most one with `--seeds=1`; lr takes
6, and shapes with one seed 23. cifar10: figure 6 of the paper, with its recipe, 20 to 56 layers.
imagenet: figure 4, 18 and 34 layers. These two are for accelerators, and not run here;
`resjax prepare` gets the data.
"""

import os
from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config

DEPTHS = {
    "digits": (8, 20, 56),
    "shapes": (20, 56),
    "cifar10": (20, 32, 44, 56),
    "cifar": (20, 32, 44, 56),  # the files of its authors
    "imagenet2012": (18, 34),
}
"""Weighted layers, by data set: what its name begins with."""

DIGITS = {
    "model.width": 8,
    "optim.learning_rate": 0.02,
    "train.batch_size": 64,
    "train.duration": "15 epochs",
    "eval.batch_size": 360,
}

RECIPES = {
    # By argument, which names the data set unless the recipe does.
    "digits": DIGITS,
    "shapes": {
        "model.width": 8,
        "data.pad": 4,
        "data.flip": True,
        "optim.learning_rate": 0.05,
        "train.batch_size": 128,
        "train.duration": "10 epochs",
    },
    "cifar10": {
        "data.standardise": "pixel",
        "data.pad": 4,
        "data.flip": True,
        "optim.schedule": "step",
        "optim.milestones": ("32000 steps", "48000 steps"),
        "norm.examples": 64,
        "train.duration": "64000 steps",
        "eval.every": "2000 steps",
    },
    "imagenet": {
        "model.name": "imagenet",
        "model.depth": 34,
        "data.name": "imagenet2012",
        "data.test": "validation",
        "data.standardise": "imagenet",
        "data.flip": True,
        "data.size": 224,
        "data.workers": os.cpu_count() or 1,
        "optim.schedule": "step",
        "optim.milestones": ("30 epochs", "60 epochs"),
        "norm.examples": 32,
        "train.batch_size": 256,
        "train.duration": "90 epochs",
        "eval.every": "5 epochs",
        "eval.train_examples": 50_000,
    },
    "lr": DIGITS
    | {
        "data.name": "digits",
        "data.train": "train[:80%]",
        "data.validation": "train[80%:]",
        "eval.tune": ("optim.learning_rate",),
    },
}

RATES = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Learning rates, the best of which each network uses; see `eval.tune`."""


def get_config(arg: str = "digits") -> ConfigDict:
    """The network and the recipe that all runs share; `arg` names the data set."""
    if arg not in RECIPES:
        known = ", ".join(RECIPES)
        raise ConfigError(f"degradation.py has no data {arg!r}; choose one of: {known}")
    config = default_config()
    config.data.name = arg
    config.update_from_flattened_dict(RECIPES[arg])
    return config


def sweep_depth(config: ConfigDict) -> Iterator[dict]:
    for depth in DEPTHS.get(config.data.name.partition(":")[0], DEPTHS["digits"]):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity", "projection", "projection_all"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    for seed in range(3):
        yield {"seed": seed}


def sweep_learning_rate(config: ConfigDict) -> Iterator[dict]:
    if not config.eval.tune:
        yield {}  # that of the recipe
        return
    for rate in RATES:
        yield {"optim.learning_rate": rate}
