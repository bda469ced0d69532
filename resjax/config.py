"""What an experiment may say: keys and defaults, what is refused and why, and the run's name."""

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict


class ConfigError(ValueError):
    """An experiment that cannot be run as it is written: one line with the value and the remedy."""


class UnknownName(ConfigError):
    """A name that is not in the table of its key; `key` is that."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def default_config() -> ConfigDict:
    """The value of every key, for an experiment file to start from.

    A default never changes its meaning once runs exist, and a key that is added later has a default
    that keeps the old behaviour: `run_id` names a run by the keys that differ from these.
    """
    config = ConfigDict()
    config.seed = 0

    config.model = ConfigDict()
    config.model.name = "cifar"  # the family: cifar, imagenet, wrn, mlp
    config.model.depth = 20  # weighted layers
    config.model.width = 0  # channels of the first stage; 0 is the family's own, 16 for cifar
    config.model.block = "auto"  # single, basic or bottleneck; auto is the family's own
    config.model.stem = "auto"  # imagenet, deep or small; auto is the family's own
    config.model.groups = 1  # of the 3x3 layer of a bottleneck
    config.model.bottleneck_width = 1.0  # factor on the inner channels of a bottleneck
    config.model.stride_in = "3x3"  # layer of a bottleneck with the stride; the paper's is 1x1
    config.model.order = "post"  # of normalisation, activation and sum in a block
    config.model.opening = "stem"  # preact: what normalises for the first block; or the block
    config.model.shortcut = "identity"
    config.model.identity_pad = "end"  # where an identity shortcut adds zero channels: end, both
    config.model.projection_norm = "auto"  # always, never; auto is never if order is preact
    config.model.shortcut_base = "identity"  # what scaled, gates and dropout modify
    config.model.shortcut_scale = 0.5  # scaled: constant on the shortcut
    config.model.branch_scale = 0.5  # scaled: constant on the branch
    config.model.gate_bias = -6.0  # gates: initial bias of the gate
    config.model.shortcut_dropout = 0.5  # dropout: probability of dropping an element
    config.model.bias = "auto"  # of the layers: always, never; auto is only without normalisation
    config.model.activation = "relu"
    config.model.kernel_init = "he_normal"
    config.model.head_init = "lecun_normal"
    config.model.zero_last_gamma = False  # start every branch at zero by its last BatchNorm
    config.model.residual_scale = 1.0  # factor on every branch
    config.model.learn_residual_scale = False  # make it a parameter of each block (SkipInit)
    config.model.stochastic_depth = 0.0  # probability of dropping the last block's branch
    config.model.dtype = "float32"  # of the computation; logits and statistics never have less
    config.model.unroll = "auto"  # blocks in one iteration of a stage's loop: a number, all, auto
    config.model.remat = False  # compute a block's inside again for its gradient; less memory
    config.model.conv = "auto"  # xla is XLA's own convolution and gradients on every backend

    config.norm = ConfigDict()
    config.norm.kind = "batch"  # or none, with biases instead
    config.norm.position = "before"  # or after the activation
    config.norm.momentum = 0.9  # fraction of the running statistics kept at a step
    config.norm.epsilon = 1e-5
    config.norm.examples = 0  # normalised together; 0 is the whole batch, on all devices
    config.norm.unbiased_running_var = False  # n / (n - 1) in the running variance, as PyTorch has
    config.norm.use_scale = True
    config.norm.use_bias = True

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.dir = ""  # of prepared data; empty is TFDS_DATA_DIR, or ~/tensorflow_datasets
    config.data.train = ""  # slices of splits, such as train[:45000]; empty is the source's own
    config.data.validation = ""  # empty is none
    config.data.test = ""
    config.data.on_bad = "refuse"  # images that cannot be read: refuse, or skip
    config.data.feed = "auto"  # resident: images are on the device; streaming: decoded as needed
    config.data.resident_bytes = 2**31  # the most bytes of images on a device
    config.data.standardise = (
        "channel"  # by moments of the training set; pixel, imagenet, half, none
    )
    config.data.flip = False  # mirror half of the training images
    config.data.pad = 0  # resident: zeros around an image, from which a window is cut at random
    config.data.size = 0  # streaming: side of the images that are made; 0 is as they are, resident
    config.data.resize = 256  # streaming: shorter side in evaluation, before the centre is cut
    config.data.interpolation = "bilinear"  # streaming: in evaluation; or bicubic
    config.data.area = (0.08, 1.0)  # streaming: share of an image that a training crop is of
    config.data.ratio = (0.75, 4 / 3)  # streaming: width / height of a training crop
    config.data.tries = 10  # streaming: to draw a crop that fits
    config.data.brightness = 0.0  # streaming: strength of a random change; contrast, saturation too
    config.data.contrast = 0.0
    config.data.saturation = 0.0
    config.data.workers = 0  # streaming: processes that decode; 0 is a thread of this one

    config.optim = ConfigDict()
    config.optim.name = "sgd"
    config.optim.learning_rate = 0.1
    config.optim.momentum = 0.9
    config.optim.nesterov = False
    config.optim.weight_decay = 1e-4
    config.optim.decayed = "all"  # parameters under weight decay: all, or kernels
    config.optim.trust_coefficient = 0.001  # lars: of the step of a layer to its norm
    config.optim.trust_epsilon = 0.0  # lars: added to the norm of the gradient
    config.optim.adapted = "kernels"  # lars: parameters with a ratio of their own; or all
    config.optim.schedule = "cosine"
    config.optim.milestones = ("50%", "75%")  # of the step schedule
    config.optim.factor = 0.1  # by which each milestone multiplies the learning rate
    config.optim.warmup = "0 steps"
    config.optim.warmup_shape = "linear"
    config.optim.warmup_factor = 0.1  # of the learning rate, where the warm-up starts

    config.train = ConfigDict()
    config.train.duration = "15 epochs"
    config.train.batch_size = 128
    config.train.steps_per_call = 0  # steps in one call of the device; 0 chooses by its kind
    config.train.micro_batches = 1  # parts of a batch that pass one after the other
    config.train.devices = 0  # that share a batch; 0 is all there are
    config.train.parallel = "jit"  # or pmap; the result is the same
    config.train.side_by_side = 0  # runs of several seeds in one program; 0 chooses by the device
    config.train.ema_decay = 0.0  # evaluate moving averages of the parameters; 0 is none
    config.train.init_from = ""  # a run to start from; other classes get a new head
    config.train.on_nan = "stop"  # a loss that is not finite ends the run; skip leaves it out
    config.train.grow_from = 0  # depth of a network to train first and then grow; 0 is none
    config.train.grow_at = "50%"  # when it is grown to model.depth; "0 steps" with init_from

    config.checkpoint = ConfigDict()
    config.checkpoint.seconds = 60.0  # from one to the next; 0 is after every call of the device
    config.checkpoint.keep = 2  # of the newest, beside that of the best evaluation

    config.log = ConfigDict()
    config.log.writers = ("tensorboard",)  # that show metrics.jsonl elsewhere; or wandb
    config.log.histograms = False  # of parameters and running statistics, at every evaluation

    config.resources = ConfigDict()  # that Ray reserves for a run
    config.resources.cpus = 1.0  # reserved, and not enforced: XLA has a thread for every core
    config.resources.gpus = 0.0  # a share such as 0.5 is that of the GPU's memory, too
    config.resources.tpu = ""  # Ray's name of the slices of a kind, such as TPU-v4-8-head
    config.resources.retries = 3  # after the process or its node died; no exception is retried

    config.eval = ConfigDict()
    config.eval.every = "1 epoch"
    config.eval.batch_size = 500
    config.eval.train_examples = 0  # of the training set in a clean evaluation; 0 is all
    config.eval.select = "final"  # the evaluation that counts; or best, on the validation split
    config.eval.statistics = "running"  # that evaluation normalises by; or precise
    config.eval.precise_batches = 0  # of training data that precise statistics are measured over
    config.eval.tune = ()  # keys that a report chooses for each network by its validation error
    config.eval.probes = ""  # to record at every evaluation: names such as gradients,responses
    config.eval.probe_examples = 512  # that they are computed on: the first ones of a split
    return config


@functools.cache
def defaults() -> Mapping[str, Any]:
    """{dotted key: value} of `default_config`."""
    return MappingProxyType(flatten(default_config()))


EXECUTION_KEYS = frozenset(
    {
        "model.unroll",
        "model.remat",
        "model.conv",
        "checkpoint.keep",
        "checkpoint.seconds",
        "data.dir",
        "data.resident_bytes",
        "data.workers",
        "log.histograms",
        "log.writers",
        "train.micro_batches",
        "train.devices",
        "train.parallel",
        "train.side_by_side",
        "train.steps_per_call",
        "eval.batch_size",
        "eval.probe_examples",
        "eval.probes",
        "eval.tune",
        "resources.cpus",
        "resources.gpus",
        "resources.tpu",
        "resources.retries",
    }
)
"""Keys that say how a run is executed and not what it computes; they are not part of its name."""

DURATION_KEYS = ("optim.warmup", "train.duration", "train.grow_at", "eval.every")
"""Keys that hold one duration; `optim.milestones` holds several."""


_NESTED = (ConfigDict, dict)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping to {dotted key: value}.

    >>> flatten({"model": {"depth": 56}, "seed": 0})
    {'model.depth': 56, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, _NESTED):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def differences(one: Mapping[str, Any], other: Mapping[str, Any], *places: str) -> str:
    """What differs between two {key: value} that are at two places; empty if nothing does."""
    first, second = places
    return "; ".join(
        f"{key} is {one.get(key)!r} {first}, {other.get(key)!r} {second}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    )


MOST_LISTED = 30
"""Names in a line; of more the most similar are told."""


def nearest(name: str, known: list[str]) -> str:
    """The remedy for a misspelt name: the most similar known ones, or the list if it is short.

    >>> nearest("learning_rte", ["optim.name", "optim.learning_rate"])
    'nearest: optim.learning_rate'
    """
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if not matches:
        last = {other.split(".")[-1]: other for other in reversed(known)}
        close = difflib.get_close_matches(name.split(".")[-1], list(last), n=3, cutoff=0.6)
        matches = [last[other] for other in close]
    if not matches and len(known) <= MOST_LISTED:
        return f"known: {', '.join(known)}"
    matches = matches or difflib.get_close_matches(name, known, n=3, cutoff=0.0)
    return f"nearest: {', '.join(matches)}"


def choose(table: Mapping[str, Any], name: str, what: str) -> Any:
    """`table[name]`, or a ConfigError that lists what there is."""
    if name not in table:
        message = f"unknown {what} {name!r}; choose one of: {', '.join(table)}"
        raise UnknownName(what, message)
    return table[name]


# --------------------------------------------------------------------------------------- durations


MOST_STEPS = 10**8


@dataclasses.dataclass(frozen=True)
class Clock:
    """What converts a duration to steps: examples in an epoch, examples in a step, steps in all."""

    epoch_examples: int
    batch_size: int
    total_steps: int | None = None

    def steps(self, duration: str, times: int = 1) -> int:
        """`times` times a duration such as "15 epochs", "64000 steps", "1e6 examples" or "50%".

        Rounded up to whole steps, so that n epochs see every example n times.

        >>> clock = Clock(epoch_examples=50_000, batch_size=128, total_steps=64_000)
        >>> clock.steps("1 epoch"), clock.steps("50%"), clock.steps("1e6 examples")
        (391, 32000, 7813)

        Raises:
          ConfigError: if the text is no duration, or a share of a run of unknown length.
        """
        number, unit = _parse_duration(duration)
        if unit == "%" and self.total_steps is None:
            raise ConfigError(f"duration {duration!r} is a share of itself; use steps or epochs")
        steps_per = {
            "step": Fraction(1),
            "epoch": Fraction(self.epoch_examples, self.batch_size),
            "example": Fraction(1, self.batch_size),
            "%": Fraction(self.total_steps or 0, 100),
        }
        steps = math.ceil(number * times * steps_per[unit])
        if steps > MOST_STEPS:
            raise ConfigError(f"duration {duration!r} is {steps} steps; the most are {MOST_STEPS}")
        return steps

    def marks(self, every: str) -> list[int]:
        """The steps after which each further `every` is complete, ending with the last step.

        >>> Clock(epoch_examples=1437, batch_size=64, total_steps=60).marks("1 epoch")
        [23, 45, 60]
        """
        if self.steps(every) < 1:
            raise ConfigError(f"interval {every!r} is empty; use at least '1 steps'")
        marks = []
        while (step := self.steps(every, len(marks) + 1)) < self.total_steps:
            marks.append(step)
        return sorted({*marks, self.total_steps})


_DURATION = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*(step|epoch|example|%)s?")


def _parse_duration(text: Any) -> tuple[Fraction, str]:
    parsed = _parsed(text) if isinstance(text, str) else None
    if parsed is None:
        raise ConfigError(
            f"duration {text!r} is not understood; "
            "write '15 epochs', '64000 steps', '1e6 examples' or '50%'"
        )
    return parsed


@functools.lru_cache
def _parsed(text: str) -> tuple[Fraction, str] | None:
    """The number and the unit of a duration; every run of a grid has the same few."""
    match = _DURATION.fullmatch(text.strip())
    return (Fraction(match[1]), match[2]) if match else None


# -------------------------------------------------------------------------------------- validation

NUMBERS = {
    # key: (lowest, highest, what is expected); both ends included
    "seed": (0, 2**32 - 1, "a whole number from 0 to 2^32 - 1"),
    "model.depth": (1, 10**5, "a number of layers, such as 56"),
    "model.width": (0, 2**14, "a number of channels, such as 16, or 0 for the family's own"),
    "train.grow_from": (0, 10**6, "the depth of a shallower network, or 0 for none"),
    "model.groups": (1, 2**20, "a positive number, such as 32"),
    "model.bottleneck_width": (1e-6, 1e6, "a positive factor, such as 2.0"),
    "model.shortcut_scale": (-1e6, 1e6, "a finite number, such as 0.5"),
    "model.branch_scale": (-1e6, 1e6, "a finite number, such as 0.5"),
    "model.gate_bias": (-1e6, 1e6, "a finite number, such as -6.0"),
    "model.shortcut_dropout": (0.0, 1.0, "a probability from 0 to 1, such as 0.5"),
    "model.residual_scale": (-1e6, 1e6, "a finite number, such as 1.0"),
    "model.stochastic_depth": (0.0, 0.999, "a probability from 0 to below 1, such as 0.5"),
    "norm.momentum": (0.0, 1.0, "a fraction from 0 to 1, 0.9 by default"),
    "norm.examples": (0, 2**31 - 1, "a number of examples, such as 32, or 0 for the whole batch"),
    "norm.epsilon": (1e-30, 1.0, "a small positive number, 1e-5 by default"),
    "data.resident_bytes": (0, 2**60, "a number of bytes, such as 2147483648"),
    "data.size": (0, 2**14, "a number of pixels, such as 224, or 0 for images as they are"),
    "data.resize": (1, 2**14, "a number of pixels, such as 256"),
    "data.tries": (1, 1000, "a positive number, such as 10"),
    "data.brightness": (0.0, 100.0, "a strength of at least 0, such as 0.4"),
    "data.contrast": (0.0, 100.0, "a strength of at least 0, such as 0.4"),
    "data.saturation": (0.0, 100.0, "a strength of at least 0, such as 0.4"),
    "data.workers": (0, 1024, "a number of processes, or 0 for a thread of this one"),
    "eval.train_examples": (0, 2**31 - 1, "a number of examples, or 0 for all"),
    "data.pad": (0, 2**10, "a number of pixels, such as 4"),
    "optim.learning_rate": (1e-30, 1e30, "a positive finite number, such as 0.1"),
    "optim.momentum": (0.0, 1.0, "a fraction from 0 to 1, such as 0.9"),
    "optim.weight_decay": (0.0, 1e30, "a finite number of at least 0, such as 1e-4"),
    "optim.trust_coefficient": (1e-30, 1e30, "a positive finite number, such as 0.001"),
    "optim.trust_epsilon": (0.0, 1e30, "a finite number of at least 0, such as 1e-8"),
    "optim.factor": (0.0, 1.0, "a fraction from 0 to 1, such as 0.1"),
    "optim.warmup_factor": (0.0, 1.0, "a fraction from 0 to 1, such as 0.1"),
    "train.batch_size": (1, 2**31 - 1, "a positive number of examples, such as 128"),
    "train.micro_batches": (1, 2**16, "a positive number of parts, such as 4"),
    "train.devices": (0, 2**20, "a number of devices, or 0 for all there are"),
    "train.side_by_side": (0, 32, "a number of runs, such as 8, or 0 for the device's own"),
    "train.ema_decay": (0.0, 0.9999999, "a decay from 0 to below 1, such as 0.9999"),
    "checkpoint.seconds": (0.0, 1e9, "a number of seconds, such as 60, or 0 for after every call"),
    "checkpoint.keep": (1, 10**6, "a positive number of checkpoints, such as 2"),
    "train.steps_per_call": (0, 10**4, "a number of steps, such as 20, or 0 for the device's own"),
    "eval.batch_size": (1, 2**31 - 1, "a positive number of examples, such as 500"),
    "eval.probe_examples": (1, 2**31 - 1, "a positive number of examples, such as 512"),
    "resources.cpus": (0.0, 1e5, "a number of cores, such as 4"),
    "resources.gpus": (0.0, 1e3, "a number of GPUs, such as 1, or a share of one, such as 0.5"),
    "resources.retries": (0, 10**6, "a number of times, such as 3"),
    "eval.precise_batches": (0, 10**6, "a number of batches, such as 32, or 0 for none"),
}
"""The range of every key that is a number."""


def validate(config: ConfigDict) -> None:
    """Refuses what is wrong whatever the data: unknown keys, wrong types, numbers out of range.

    Names of models, shortcuts, data and schedules, durations, and depths that do not exist, are
    refused where they are looked up: `resjax.training.plan.prepare` does so before any compilation.

    Raises:
      ConfigError: naming the key, the value and what is expected.
    """
    flat, known = flatten(config), defaults()
    for key in flat:
        if key not in known:
            raise ConfigError(f"unknown config key {key!r}; {nearest(key, list(known))}")
    for key, default in known.items():
        if key not in flat:
            raise ConfigError(f"config key {key!r} is missing; start from default_config()")
        value = flat[key]
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        if not fits:
            expected = type(default).__name__
            raise ConfigError(f"{key}={value!r} is not {expected}; such as {key}={default!r}")
    for key in DURATION_KEYS:
        _parse_duration(flat[key])
    for milestone in flat["optim.milestones"]:
        _parse_duration(milestone)
    for key, (lowest, highest, expected) in NUMBERS.items():
        if not lowest <= flat[key] <= highest:
            raise ConfigError(f"{key}={flat[key]} is not {expected}")
    for key in ("resources.cpus", "resources.gpus"):
        if flat[key] > 1 and flat[key] != int(flat[key]):
            raise ConfigError(f"{key}={flat[key]} is neither whole nor a share of one; such as 2")


# ---------------------------------------------------------------------------------- names of a run


def deciding_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that decide a result and differ from their defaults, {dotted key: value}.

    Two configs in which these are equal are the same run, also when a later version of resjax has
    more keys: those have defaults that keep the old behaviour.

    >>> deciding_keys({"model": {"depth": 56, "width": 0, "remat": True}})
    {'model.depth': 56}
    """
    known, chosen = defaults(), {}
    for key, value in flatten(config).items():
        if key in EXECUTION_KEYS:
            continue
        default = known.get(key)
        value = float(value) if type(default) is float else value
        if key in DURATION_KEYS:
            value, default = _parse_duration(value), _parse_duration(default)
            if value != default:
                number, unit = value
                chosen[key] = f"{number} {unit}"
            continue
        if key not in known or value != default:
            chosen[key] = value
    return dict(sorted(chosen.items()))


def run_id(config: ConfigDict) -> str:
    """A readable name and a hash of `deciding_keys`, such as `identity-56-seed0-9a3f6b21`.

    >>> config = default_config()
    >>> run_id(config)
    'identity-20-seed0-44136fa3'
    >>> config.model.unroll = "all"  # how it is executed
    >>> run_id(config)
    'identity-20-seed0-44136fa3'
    """
    text = json.dumps(deciding_keys(config), sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{config.model.shortcut}-{config.model.depth}-seed{config.seed}-{digest}"
