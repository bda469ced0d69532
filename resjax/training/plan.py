"""What a config determines before the first compilation, or why it cannot be run."""

import dataclasses

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from resjax.config import Clock, ConfigError, choose, validate
from resjax.data.resident import STATISTICS
from resjax.data.sources import Source, load
from resjax.models.build import build_model
from resjax.models.grow import refuse_ungrowable
from resjax.models.resnet import ResNet, refuse_small_images
from resjax.training.optim import OPTIMIZERS, learning_rates

STEPS_PER_CALL = {"gpu": 20, "tpu": 20}
"""Training steps in one compiled call, by platform, where `train.steps_per_call` is 0; 1 elsewhere.

An accelerator would wait for the host between short steps; a CPU is its own host.
"""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a config determines before the first compilation.

    Attributes:
      shallow: the network to train first, if the run grows one.
      grow_at: number of steps after which it is grown to `model`.
      rates: learning rate of every step, `[steps]` float32.
      marks: numbers of steps after which to evaluate; the last is the number of all steps.
      steps_per_call: training steps in one compiled call.
    """

    config: ConfigDict
    source: Source
    model: ResNet
    shallow: ResNet | None
    grow_at: int | None
    optimizer: optax.GradientTransformationExtraArgs
    rates: np.ndarray
    marks: list[int]
    steps_per_call: int


def prepare(config: ConfigDict) -> Plan:
    """Resolves every name, duration and number of a config.

    Raises:
      ConfigError: with the value and the remedy, if the config cannot be run.
    """
    validate(config)
    source = load(config.data.name)
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
    shallow, grow_at, marks = None, None, clock.marks(config.eval.every)
    if config.train.grow_from:
        shallow, grow_at = _shallow(config, model), clock.steps(config.train.grow_at)
        if not 0 < grow_at < steps:
            raise ConfigError(
                f"train.grow_at={config.train.grow_at!r} is step {grow_at} of {steps}; "
                "grow somewhere between, such as at '50%'"
            )
        marks = sorted({*marks, grow_at})
    make_optimizer = choose(OPTIMIZERS, config.optim.name, "optim.name")
    rates = learning_rates(config.optim, clock)
    return Plan(
        config=config,
        source=source,
        model=model,
        shallow=shallow,
        grow_at=grow_at,
        optimizer=make_optimizer(config.optim),
        rates=rates,
        marks=marks,
        steps_per_call=config.train.steps_per_call or STEPS_PER_CALL.get(jax.default_backend(), 1),
    )


def _shallow(config: ConfigDict, deep: ResNet) -> ResNet:
    config = config.copy_and_resolve_references()
    config.model.depth = config.train.grow_from
    shallow = build_model(config, deep.classes)
    try:
        refuse_ungrowable(shallow, deep)
    except ValueError as error:
        raise ConfigError(f"train.grow_from={config.train.grow_from}: {error}") from None
    return shallow
