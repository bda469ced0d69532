"""What a config determines before the first compilation, or why it cannot be run."""

import dataclasses

import numpy as np
import optax
from ml_collections import ConfigDict

from resjax.config import Clock, ConfigError, choose, validate
from resjax.data.resident import STATISTICS
from resjax.data.sources import SOURCES, Source
from resjax.models.build import build_model
from resjax.models.resnet import ResNet, refuse_small_images
from resjax.training.optim import OPTIMIZERS, learning_rates


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a config determines before the first compilation.

    Attributes:
      rates: learning rate of every step, `[steps]` float32.
      marks: numbers of steps after which to evaluate; the last is the number of all steps.
    """

    config: ConfigDict
    source: Source
    model: ResNet
    optimizer: optax.GradientTransformationExtraArgs
    rates: np.ndarray
    marks: list[int]


def prepare(config: ConfigDict) -> Plan:
    """Resolves every name, duration and number of a config.

    Raises:
      ConfigError: with the value and the remedy, if the config cannot be run.
    """
    validate(config)
    source = choose(SOURCES, config.data.name, "data.name")()
    choose(STATISTICS, config.data.standardise, "data.standardise")
    examples, batch_size = len(source.train), config.train.batch_size
    if batch_size > examples:
        raise ConfigError(
            f"train.batch_size={batch_size} is larger than the training set of {examples} examples"
        )
    model = build_model(config, len(source.class_names))
    try:
        refuse_small_images(model.spec, source.train.images.shape[1:3])
    except ValueError as error:
        raise ConfigError(str(error)) from None
    steps = Clock(examples, batch_size).steps(config.train.duration)
    if steps < 1:
        raise ConfigError(
            f"train.duration={config.train.duration!r} is empty; use '1 steps' or more"
        )
    clock = Clock(examples, batch_size, steps)
    make_optimizer = choose(OPTIMIZERS, config.optim.name, "optim.name")
    rates = learning_rates(config.optim, clock)
    return Plan(
        config, source, model, make_optimizer(config.optim), rates, clock.marks(config.eval.every)
    )
