"""Plain networks degrade with depth, residual ones do not (He et al. 2015, section 4.2, figure 6).

Claim: with more layers a plain network ends at a higher *training* error, so it is not
overfitting but optimisation that fails; with shortcuts the deeper network trains at least as well.
The sweep trains the CIFAR family at three depths with four shortcuts on scikit-learn's 8x8 digits,
12 networks of up to 56 layers, and computes the degradation gap of each shortcut.

    resjax sweep --config=experiments/degradation.py --workdir=runs/degradation

It takes 2 min on 2 CPU cores, compilation included.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from resjax.config import ConfigError, default_config


def get_config(arg: str = "digits") -> ConfigDict:
    """The network and the recipe that all runs share; `arg` names the data set."""
    if arg != "digits":
        raise ConfigError(f"degradation.py has no size {arg!r}; choose one of: digits")
    config = default_config()
    config.model.width = 8
    config.data.name = "digits"
    config.optim.learning_rate = 0.02
    config.optim.schedule = "cosine"
    config.train.batch_size = 64
    config.train.duration = "15 epochs"
    config.eval.batch_size = 360
    return config


def sweep_depth() -> Iterator[dict]:
    for depth in (8, 20, 56):
        yield {"model.depth": depth}


def sweep_shortcut() -> Iterator[dict]:
    for shortcut in ("none", "identity", "projection", "projection_all"):
        yield {"model.shortcut": shortcut}


def sweep_seed() -> Iterator[dict]:
    yield {"seed": 0}
