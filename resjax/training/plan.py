"""Plan of a run: all that its config determines before compilation, or why it cannot be run."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from resjax.config import ConfigError, choose
from resjax.config.durations import Clock
from resjax.config.extras import require
from resjax.config.validation import validate
from resjax.data import sources
from resjax.data.augment import Augmentation
from resjax.data.mixing import MixedView, Mixing
from resjax.data.resident import refuse_no_room
from resjax.data.slices import Splits
from resjax.data.source import Source, Split
from resjax.data.sources import requested
from resjax.data.statistics import STREAMED_STATISTICS
from resjax.data.views import evaluation_view, image_shape, training_view
from resjax.models.build import build_model
from resjax.models.grow import refuse_ungrowable
from resjax.models.networks import Spec
from resjax.models.resnet import ResNet, refuse_small_images
from resjax.models.summary import sizes
from resjax.training.losses import Loss, clean_loss, training_loss
from resjax.training.optim import learning_rate_schedule, learning_rates, make_optimizer
from resjax.training.parallel import Parallel
from resjax.training.platforms import MOST_BLOCKS, MOST_CHANNELS, MOST_PIXELS, choices
from resjax.training.refusals import (
    refuse_large_batch,
    refuse_missing_validation,
    refuse_uneven,
    refuse_unmet_needs,
    refuse_unusable_settings,
    warn_of_single_values,
)
from resjax.training.start import FindStart, Start
from resjax.training.unrolling import choose_unrolling


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything that a config determines before the first compilation.

    Attributes:
      shallow: the network to train first, if the run grows one.
      grow_at: number of steps after which it is grown to `model`.
      start: the weights to start from, if they are not drawn.
      loss: function of logits and labels that is minimised.
      clean_loss: function that evaluation reports, without smoothing of labels.
      schedule: learning rate of a step.
      marks: numbers of steps after which to evaluate; the last is the number of all steps.
      steps_per_call: training steps in one compiled call.
      side_by_side: runs that are put into one program, if they differ in their seed alone.
      parallel: the devices, and how programs run on them.
      augmentation: augmentation of resident training images.
      mixing: mixing of training images with others, if they are mixed.
      alone: whether the run cannot share a program with others, whatever their seeds.
      seed: that of the config, uint32; those of several runs that are side by side in one program.
    """

    config: ConfigDict
    source: Source
    model: ResNet
    shallow: ResNet | None
    grow_at: int | None
    start: Start | None
    loss: Loss
    clean_loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    schedule: optax.Schedule
    marks: list[int]
    steps_per_call: int
    side_by_side: int
    parallel: Parallel
    augmentation: Augmentation | MixedView
    mixing: Mixing | None
    alone: bool
    seed: np.ndarray | np.uint32

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """Learning rate of every step, `[steps]` float32."""
        return learning_rates(self.schedule, self.marks[-1])

    @property
    def longest_call(self) -> int:
        """Number of steps in the longest compiled call, at most those of the run."""
        return min(self.steps_per_call, len(self.rates))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape `[H, W, C]` of the images that the network is given."""
        return image_shape(self.config.data, self.source)

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of parameters, and of multiply-adds of a forward pass of one image."""
        return sizes(self.model, self.image_shape)

    @property
    def batch_norm_examples(self) -> int | None:
        """Number of examples that training normalises together; None if it does so with none."""
        norm = self.config.norm
        if norm.kind != "batch" or norm.frozen:
            return None
        return norm.examples or self.config.train.batch_size


def make_plan(
    config: ConfigDict,
    load: Callable[..., Source] | None = None,
    find_start: FindStart | None = None,
) -> Plan:
    """Resolves every name, duration and number of a config.

    Args:
      config: config of the run.
      load: function that loads a source; None is `resjax.data.sources.load`.
      find_start: function that finds the weights of `train.init_from`, for a plan that is trained;
        without it they are drawn, which has the same shapes and the same cost.

    Raises:
      ConfigError: with the value and the remedy, if the config cannot be run.
    """
    refuse_unusable_settings()
    validate(config)
    refuse_unmet_needs(config)
    parallel = Parallel(_devices(config), config.train.parallel)
    refuse_uneven(config, parallel)

    headless = build_model(config, classes=0)
    shallow = _shallow(config, headless) if config.train.grow_from else None
    source = _load(config.data, load or sources.load)
    shape, classes = image_shape(config.data, source), len(source.class_names)
    model, shallow = headless.clone(classes=classes), shallow and shallow.clone(classes=classes)

    refuse_large_batch(config, source)
    refuse_no_room(source.image_bytes, parallel.devices)
    refuse_missing_validation(config, source)
    try:
        refuse_small_images(model.spec, shape[:2])
    except ValueError as error:
        raise ConfigError(str(error)) from None
    warn_of_single_values(config, model, shape[:2])

    clock = _clock(config, len(source.train))
    grow_at, marks = None, clock.marks(config.eval.every)
    if shallow:
        grow_at = _grow_at(config, clock)
        marks = sorted({*marks, grow_at} - {0})
    start = None
    if config.train.init_from:
        first, grown = shallow or model, grow_at == 0
        start = find_start and find_start(config.train.init_from, first, shape, grown)
        shallow, grow_at = (None, None) if grown else (shallow, grow_at)

    augmentation, mixing = Augmentation(config.data.pad, config.data.flip), _mixing(config, source)
    alone = _why_alone(config, source, parallel)

    def unrolled(model: ResNet) -> ResNet:
        chosen = choose_unrolling(model.spec, shape[:2], config.train.batch_size, clock.end)
        return model.clone(unroll=chosen) if model.unroll is None else model

    return Plan(
        config=config,
        source=source,
        model=unrolled(model),
        shallow=shallow and unrolled(shallow),
        grow_at=grow_at,
        start=start,
        loss=training_loss(config.train),
        clean_loss=clean_loss(config.train),
        optimizer=make_optimizer(config.optim),
        schedule=learning_rate_schedule(config.optim, clock),
        marks=marks,
        steps_per_call=config.train.steps_per_call or _steps_per_call(source),
        side_by_side=_side_by_side(config.train, alone, model.spec, math.prod(shape[:2])),
        parallel=parallel,
        augmentation=MixedView(augmentation) if mixing else augmentation,
        mixing=mixing,
        alone=alone is not None,
        seed=np.uint32(config.seed),
    )


def _clock(config: ConfigDict, examples: int) -> Clock:
    """The clock of a run of `train.duration`."""
    batch_size = config.train.batch_size
    steps = Clock(examples, batch_size).steps(config.train.duration)
    if steps < 1:
        raise ConfigError(
            f"train.duration={config.train.duration!r} is empty; use '1 step' or more"
        )
    return Clock(examples, batch_size, steps)


def _grow_at(config: ConfigDict, clock: Clock) -> int:
    """The number of steps after which to grow; 0 grows the weights that a run starts from."""
    step = clock.steps(config.train.grow_at)
    if not (step > 0 or config.train.init_from) or step >= clock.end:
        raise ConfigError(
            f"train.grow_at={config.train.grow_at!r} is step {step} of {clock.end}; "
            "grow somewhere between, such as at '50%'"
        )
    return step


def _mixing(config: ConfigDict, source: Source) -> Mixing | None:
    asked = {name: config.data[name] for name in ("mixup", "cutmix") if config.data[name]}
    if asked and len(source.train) < 2:
        settings = ", ".join(f"data.{name}={alpha}" for name, alpha in asked.items())
        raise ConfigError(f"{settings} mixes an image with another, and there is one; set it to 0")
    return Mixing(**asked) if asked else None


def _steps_per_call(source: Source) -> int:
    return choices().steps_per_call if isinstance(source.train, Split) else 1


def _side_by_side(train: ConfigDict, alone: str | None, spec: Spec, pixels: int) -> int:
    """The number of runs in a program, for images of so many pixels."""
    asked = train.side_by_side
    if alone and asked > 1:
        raise ConfigError(f"train.side_by_side={asked} cannot be, since {alone}; set it to 0")
    if alone or asked:
        return 1 if alone else asked
    channels = max(map(spec.output, range(len(spec.stages))))
    small = channels <= MOST_CHANNELS and sum(spec.stages) <= MOST_BLOCKS
    return choices().side_by_side if small and train.batch_size * pixels <= MOST_PIXELS else 1


def _why_alone(config: ConfigDict, source: Source, parallel: Parallel) -> str | None:
    """The reason why a run cannot share a program with others; None if it can."""
    if config.train.side_by_side == 1:
        return "train.side_by_side=1"
    if not isinstance(source.train, Split):
        return "images that are decoded as they are needed are those of one run"
    if parallel.hosts > 1:
        return f"there are {parallel.hosts} hosts"
    if "wandb" in config.log.writers:
        return "log.writers=wandb shows one run of a process at a time"
    return None


def _load(data: ConfigDict, load: Callable[..., Source]) -> Source:
    if data.size:
        require("stream", f"data.size={data.size}, crops of images that are streamed,")
    splits = Splits(data.train, data.validation, data.test)
    source = load(data.name, requested(data, splits))
    if isinstance(source.train, Split):
        channels = source.train.images.shape[-1]
    else:
        channels = source.train.channels
        choose(dict.fromkeys(STREAMED_STATISTICS), data.standardise, "data.standardise of a stream")
        if data.pad:
            raise ConfigError(
                f"data.pad={data.pad} is for resident images; streamed ones are cropped by "
                "data.area and data.ratio, set it to 0"
            )
        try:
            training_view(data), evaluation_view(data)
        except ValueError as error:
            raise ConfigError(f"data: {error}") from None
    if data.standardise == "imagenet" and channels != 3:
        raise ConfigError(
            f"data.standardise=imagenet is of 3 colours, and images of {data.name} have "
            f"{channels}; set data.channels=3, or use channel or none"
        )
    return source


def _devices(config: ConfigDict) -> tuple[jax.Device, ...]:
    """The devices that share a batch: all, or the first few of a single host's."""
    devices, wanted = jax.devices(), config.train.devices
    if wanted > len(devices):
        raise ConfigError(
            f"train.devices={wanted}, but JAX sees {len(devices)} ({devices[0].platform}); use 0 "
            "for all there are"
        )
    if jax.process_count() > 1 and wanted not in (0, len(devices)):
        raise ConfigError(
            f"train.devices={wanted} leaves devices of some hosts idle; use 0 for all "
            f"{len(devices)}, or fewer hosts"
        )
    return tuple(devices[: wanted or None])


def _shallow(config: ConfigDict, deep: ResNet) -> ResNet:
    if config.train.grow_from == config.model.depth:
        raise ConfigError(
            f"train.grow_from={config.train.grow_from} has no effect: it is model.depth; set it to "
            "a smaller depth, or to 0"
        )
    config = config.copy_and_resolve_references()
    config.model.depth = config.train.grow_from
    shallow = build_model(config, deep.classes)
    try:
        refuse_ungrowable(shallow, deep)
    except ValueError as error:
        raise ConfigError(f"train.grow_from={config.train.grow_from}: {error}") from None
    return shallow
