"""ImageNet nets by the recipe that became usual: batch 256 for 90 epochs, /10 after 30 and 60.

Question: do the networks reach the errors that others report on ImageNet? The claim: ResNet-50 ends
near 24.0 % top-1 error in one crop (facebookarchive/fb.resnet.torch), and plain nets degrade from
18 to 34 layers, 27.9 to 28.5 % in ten crops, where residual ones gain 3 points (He et al. 2015,
tables 2 and 3).

    pip install -e '.[prepare,stream]'
    resjax prepare imagenet2012 --manual-dir=ARCHIVES
    resjax train --config=experiments/imagenet.py:50 --workdir=runs/imagenet/50
    resjax sweep --config=experiments/imagenet.py --workdir=runs/imagenet

The argument is a depth. Crops are random in area and shape, half of them mirrored; the centre of
224 pixels of an image resized to 256 is evaluated, on the 50,000 images of the validation split and
as many of the training set.

Hardware and time: for accelerators; it has not been run here. `data.workers` is the number of
processes that decode: as many as the host has cores.
"""

import os
from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config


def get_config(arg: str = "50") -> ConfigDict:
    """The recipe for a depth such as "50"."""
    if not arg.isdecimal():
        raise ConfigError(f"imagenet.py takes a depth, such as 50, not {arg!r}")
    config = default_config()
    config.model.name = "imagenet"
    config.model.depth = int(arg)
    config.model.shortcut = "projection"
    config.data.name = "imagenet2012"
    config.data.test = "validation"  # the labels of the split `test` were never published
    config.data.standardise = "imagenet"
    config.data.flip = True
    config.data.size = 224
    config.data.resize = 256
    config.data.workers = os.cpu_count() or 1
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "step"
    config.optim.milestones = ("30 epochs", "60 epochs")
    config.optim.factor = 0.1
    config.train.batch_size = 256
    config.norm.examples = 32  # on each of the usual eight GPUs
    config.train.duration = "90 epochs"
    config.eval.every = "5 epochs"
    config.eval.train_examples = 50_000
    return config


def sweep_depth() -> Iterator[dict]:
    for depth in (18, 34):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity", "projection"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    yield {"seed": 0}
