"""The CIFAR-10 nets of He et al. 2015, section 4.2 and table 6, by the recipe of the paper.

Question: do the networks of the paper reach its errors on CIFAR-10? The claim: with identity
shortcuts (option A, no parameters) test error falls from 8.75 % at 20 layers to 6.61 % (mean of
five) at 110, where a plain net of 110 layers stays above 60 %. Elsewhere one that began at a rate
of 0.01 reached 16.44 % (Li et al. 2018).

    resjax prepare cifar10  # or --config.data.name=cifar:PATH, the files of its authors
    resjax train --config=experiments/cifar10.py:56 --workdir=runs/cifar10/56
    resjax sweep --config=experiments/cifar10.py --workdir=runs/cifar10 --sweep=depth,shortcut,seed

The argument is a depth. With `:56-validation` 45,000 images are trained on and the other 5,000 are
the validation split, as where the paper chose its schedule; the evaluation with the lowest error
on them is then selected.

Hardware and time: 64,000 steps of batch 128. By the steps of `docs/results.md`, ResNet-20 takes
5 hours on 2 CPU cores and ResNet-110 40; they are meant for an accelerator. The recipe has not been
run to its end here.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config

WARMED_UP = 110
"""The shallowest net that starts with a tenth of the learning rate, for about 400 steps."""

WARM_UP = {
    "optim.warmup": "400 steps",
    "optim.warmup_shape": "constant",
    "optim.warmup_factor": 0.1,
}


def get_config(arg: str = "20") -> ConfigDict:
    """The recipe of the paper for a depth such as "56", or "56-validation"."""
    depth, _, validation = arg.partition("-")
    if not depth.isdecimal() or validation not in ("", "validation"):
        raise ConfigError(f"cifar10.py takes a depth, such as 56 or 56-validation, not {arg!r}")
    config = default_config()
    config.data.name = "cifar10"
    config.data.standardise = "pixel"
    config.data.pad = 4
    config.data.flip = True
    config.model.depth = int(depth)
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "step"
    config.optim.milestones = ("32000 steps", "48000 steps")
    config.optim.factor = 0.1
    if config.model.depth >= WARMED_UP:
        config.update_from_flattened_dict(WARM_UP)
    config.train.batch_size = 128
    config.norm.examples = 64  # on each of the two GPUs of the paper
    config.train.duration = "64000 steps"
    config.eval.every = "2000 steps"
    if validation:
        config.data.train = "train[:45000]"
        config.data.validation = "train[45000:]"
        config.eval.select = "best"
    return config


def sweep_depth() -> Iterator[dict]:
    for depth in (20, 32, 44, 56, 110):
        yield {"model.depth": depth} | (WARM_UP if depth >= WARMED_UP else {})


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    for seed in range(5):
        yield {"seed": seed}
