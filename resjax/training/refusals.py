"""Checks, before compilation, of configs whose values are valid one by one but not together."""

import jax
from ml_collections import ConfigDict

from resjax.config import ConfigError, notify
from resjax.config.extras import EXTRAS, require
from resjax.config.keys import KEYS
from resjax.data.source import Source
from resjax.models.norm import find_scope
from resjax.models.resnet import ResNet
from resjax.training.parallel import Parallel

UNUSABLE = {
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
}
"""Debugging settings of JAX, with the values under which networks cannot be computed."""

NOT_TUNED = ("seed", "model.depth", "data.name", "eval.select")
"""Keys by which every report sorts runs."""


def refuse_unusable_settings() -> None:
    """Raises ConfigError for a setting of JAX in `UNUSABLE`."""
    for name, value in UNUSABLE.items():
        if getattr(jax.config, name) == value:
            raise ConfigError(
                f"{name.upper()}={value} is a setting of JAX with which networks cannot be "
                "computed here; unset it"
            )


def refuse_unmet_needs(config: ConfigDict) -> None:
    """Raises ConfigError for a key that needs another key, a package or a single host."""
    if config.data.on_bad == "skip" and jax.process_count() > 1:
        raise ConfigError("data.on_bad=skip is for one host; repair or remove the images")
    if config.eval.statistics == "precise" and not config.eval.precise_batches:
        raise ConfigError(
            "eval.statistics=precise needs batches to measure them over; set "
            "eval.precise_batches=32 or so"
        )
    if config.norm.frozen:
        _refuse_moved_statistics(config)
    for key in config.eval.tune:
        KEYS.choose(key, "eval.tune")
        if key in NOT_TUNED:
            raise ConfigError(f"eval.tune cannot name {key}, by which every report sorts runs")
    for name in config.log.writers:
        if name in EXTRAS:
            require(name, f"log.writers={name}")


def _refuse_moved_statistics(config: ConfigDict) -> None:
    """Raises ConfigError for keys that contradict norm.frozen=True."""
    norm, train = config.norm, config.train
    for wrong, message in (
        (
            not train.init_from,
            " of the weights that a run starts from; name them by train.init_from",
        ),
        (train.grow_from, ", and new blocks have none; grow a run with norm.frozen=False first"),
        (
            config.eval.statistics == "precise",
            ", and eval.statistics=precise measures others; use running",
        ),
        (norm.examples, f", whatever is in a batch; leave out norm.examples={norm.examples}"),
    ):
        if wrong:
            raise ConfigError(f"norm.frozen=True keeps the running statistics{message}")


def refuse_large_batch(config: ConfigDict, source: Source) -> None:
    """Raises ConfigError for a batch that is larger than the training set."""
    examples, batch_size = len(source.train), config.train.batch_size
    if batch_size > examples:
        raise ConfigError(
            f"train.batch_size={batch_size} is larger than the training set of {examples} "
            "examples; set a smaller one"
        )


def refuse_missing_validation(config: ConfigDict, source: Source) -> None:
    """Raises ConfigError for a choice on a validation split that the source does not have."""
    if source.validation is not None:
        return
    if config.eval.tune:
        raise ConfigError(
            f"eval.tune={list(config.eval.tune)} needs a validation split to choose on; set "
            "data.validation, such as 'train[80%:]' with data.train='train[:80%]'"
        )
    if config.eval.select == "best":
        raise ConfigError(
            "eval.select=best needs a validation split; set data.validation, such as "
            "'train[90%:]' with data.train='train[:90%]'"
        )


def warn_of_single_values(config: ConfigDict, model: ResNet, size: tuple[int, int]) -> None:
    """Warns of a normalisation of each value by itself, which makes it zero."""
    if model.spec.pixels(-1, size) > 1:
        return
    norm, faults = config.norm, {}
    if (norm.examples or config.train.batch_size) == 1 and not norm.frozen:
        faults["batch"] = "BatchNorm over one example of one pixel", "take larger batches"
    if norm.groups == model.spec.output(-1):  # as many as an MLP has units
        faults["group"] = "GroupNorm over one channel of one pixel", "set fewer norm.groups"
    if norm.kind in faults:
        what, remedy = faults[norm.kind]
        notify(
            f"{what}: every value is its own mean, and nothing but the bias comes out; {remedy}, "
            "or norm.kind=none"
        )


def refuse_uneven(config: ConfigDict, parallel: Parallel) -> None:
    """Raises ConfigError for a batch that cannot be split into equal parts as configured."""
    batch, micro, devices = config.train.batch_size, config.train.micro_batches, parallel.count
    shares = micro * devices
    if batch % shares:
        near = sorted({max(1, batch // shares) * shares, (batch // shares + 1) * shares})
        among = f"{devices} device" + "s" * (devices > 1)
        among += f" on {parallel.hosts} hosts" if parallel.hosts > 1 else ""
        among += f" in {micro} micro-batches" if micro > 1 else ""
        hosts_or_devices = "the number of hosts" if parallel.hosts > 1 else "train.devices"
        remedy = hosts_or_devices if batch % devices else "train.micro_batches"
        raise ConfigError(
            f"train.batch_size={batch} cannot be shared by {among}; nearest: "
            f"{', '.join(map(str, near))}; or change {remedy}"
        )
    if config.norm.kind != "batch" or config.norm.frozen:
        return
    together, whole = config.norm.examples, batch // micro
    if not together and micro > 1:
        raise ConfigError(
            f"norm.examples=0 is the whole batch of {batch}, of which a micro-batch has {whole}; "
            f"set norm.examples={whole}, which is another experiment, or train.micro_batches=1"
        )
    if together and whole % together:
        divisors = (number for number in range(1, whole + 1) if whole % number == 0)
        closest = min(divisors, key=lambda number: abs(number - together))
        of = f"train.batch_size={batch}" if micro == 1 else f"the {whole} of a micro-batch"
        raise ConfigError(
            f"norm.examples={together} does not divide {of}; set norm.examples={closest}, or "
            "another batch size"
        )
    try:
        find_scope(together or None, whole // devices, devices)
    except ValueError as error:
        raise ConfigError(f"norm.examples={together}: {error}; change train.devices") from None
