"""Every key of a config with its default, its meaning and the values that it takes.

python -m resjax.config_reference > docs/config.md
"""

import dataclasses
import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from resjax.config import DURATION_KEYS, EXECUTION_KEYS, NUMBERS, defaults

SECTIONS: dict[str, str] = {
    "": "What all random numbers of a run come from.",
    "model": "The network: its family and size, its blocks, and what their shortcuts are.",
    "norm": "What normalises, and over which examples.",
    "data": "Where images come from and what is done to them before the network sees them.",
    "optim": "The update of the parameters and the learning rate of every step.",
    "train": "How long, on how much at once, on which devices, and from where.",
    "checkpoint": "When the state of a run is saved.",
    "log": "Where else the numbers of a run are shown.",
    "resources": "What Ray reserves for a run; other launchers do not read it.",
    "eval": "When a run is evaluated, on what, and which evaluation counts.",
}
"""What the keys of each part of a config are about, in the order of the reference."""

MEANINGS: dict[str, str] = {
    "seed": "Initial values, order of examples, augmentation and dropout are drawn from it. Two "
    "networks with one seed start equal in what they share and see the same batches.",
    "model.name": "The family: `cifar` (He et al. 2015, section 4.2), `imagenet` (table 1), "
    "`wrn` (wide nets, Zagoruyko and Komodakis 2016), or `mlp` (dense layers).",
    "model.depth": "Weighted layers as the papers count them: 6n+2 in the cifar family (9n+2 "
    "with bottlenecks, 3n+2 with single layers), 18 to 200 of imagenet, 6n+4 of wrn.",
    "model.width": "Channels of the first stage; `0` is the family's own: 16 of cifar, 64 of "
    "imagenet, 160 of wrn, 256 of mlp.",
    "model.block": "Layers of a residual branch: `single` has one, `basic` two, `bottleneck` "
    "three; `auto` is the family's own.",
    "model.stem": "Layers before the first block: `imagenet` (7x7 of stride 2 and a max-pool), "
    "`deep` (three of 3x3 and a max-pool), `small` (one of 3x3), `dense` (of an MLP); `auto` is "
    "the family's own.",
    "model.groups": "Groups of channels in the 3x3 layer of a bottleneck (ResNeXt).",
    "model.bottleneck_width": "Factor on the inner channels of a bottleneck (wide nets, ResNeXt).",
    "model.stride_in": "Layer of a bottleneck that has the stride: `3x3` as in torchvision, or "
    "`1x1` as in the paper.",
    "model.order": "Where a block normalises and activates (He et al. 2016, figure 4): `post` "
    "(a), `bn_after_add` (b), `relu_before_add` (c), `relu_preact` (d), `preact` (e).",
    "model.opening": "With `model.order=preact`, what normalises for the first block: the "
    "`stem`, as in the paper's appendix, or the `block` itself, as in timm.",
    "model.shortcut": "How the input of a block meets its branch: `none` (a plain net), "
    "`identity` (A: zero channels where the shape changes), `projection` (B: a 1x1 convolution "
    "there), `projection_all` (C: one in every block), `avgpool_projection` (B with the stride "
    "in a pool), and of He et al. 2016 `scaled`, `exclusive_gate`, `shortcut_gate` and `dropout`.",
    "model.identity_pad": "Where an identity shortcut adds zero channels: at the `end`, or half "
    "of them on `both` sides.",
    "model.projection_norm": "Whether a projection is normalised: `always`, `never`, or `auto`, "
    "which is `never` where blocks begin with a normalisation.",
    "model.shortcut_base": "The shortcut that scaling, gates and dropout modify; not `none`, nor "
    "one that modifies another itself.",
    "model.shortcut_scale": "With `model.shortcut=scaled`: the constant on the shortcut.",
    "model.branch_scale": "With `model.shortcut=scaled`: the constant on the branch.",
    "model.gate_bias": "With `model.shortcut=exclusive_gate` and `model.shortcut=shortcut_gate`: "
    "initial bias of the gate; the further below zero, the more open is the shortcut.",
    "model.shortcut_dropout": "With `model.shortcut=dropout`: probability that an element of the "
    "shortcut is dropped.",
    "model.bias": "Whether layers have a bias: `always`, `never`, or `auto`, which is only where "
    "nothing normalises.",
    "model.activation": "The elementwise function after a normalisation.",
    "model.kernel_init": "How kernels are drawn: `he_normal` (variance 2 / fan-out), "
    "`he_normal_fan_in`, `lecun_normal`, `orthogonal`, `fixup` (branches scaled by their number, "
    "the last layer zero). `zeros` is for the head alone.",
    "model.head_init": "How the kernel of the head is drawn; `zeros` starts with equal logits, "
    "and `fixup` is for branches alone.",
    "model.zero_last_gamma": "Start every branch at zero, by the scale of its last normalisation "
    "(Goyal et al. 2017).",
    "model.residual_scale": "Factor on every branch.",
    "model.learn_residual_scale": "Make that factor a parameter of each block (SkipInit).",
    "model.stochastic_depth": "Probability that the last block's branch is dropped in training; "
    "it grows linearly from the first block (Huang et al. 2016).",
    "model.dtype": "Precision of the computation: `float32`, `bfloat16`, or `float64`, which "
    "needs JAX_ENABLE_X64=1. Parameters, statistics, logits and loss have at least `float32`.",
    "model.unroll": "Equal blocks in one iteration of a stage's loop: a number, `all` for "
    "straight-line code, or `auto`, a loop where there are more than eight.",
    "model.remat": "Compute the inside of a block again for its gradient, which saves memory.",
    "model.conv": "The convolution: `auto` is the fastest for the device, `xla` is XLA's with "
    "its own gradients everywhere.",
    "norm.kind": "What normalises: `batch`, or `none`, with biases instead.",
    "norm.position": "Whether it stands `before` or `after` the activation.",
    "norm.momentum": "Fraction of the running statistics that is kept at a step.",
    "norm.epsilon": "Added to the variance.",
    "norm.examples": "Consecutive examples that are normalised together; `0` is the whole batch, "
    "on all devices and hosts.",
    "norm.unbiased_running_var": "Let the running variance be that of a sample, n / (n - 1) "
    "times the biased one, as PyTorch has it.",
    "norm.use_scale": "Whether there is a learnt scale.",
    "norm.use_bias": "Whether there is a learnt bias.",
    "data.name": "The source of images. Sets of TFDS are prepared once, by resjax prepare.",
    "data.dir": "Directory of prepared sets; empty is TFDS_DATA_DIR, or ~/tensorflow_datasets.",
    "data.train": "Slice to train on, such as train[:45000]; empty is the source's own.",
    "data.validation": "Slice to choose by, such as train[45000:]; empty is none.",
    "data.test": "Slice to test on; empty is the source's own.",
    "data.on_bad": "What is done about images that cannot be read: `refuse` ends the run with "
    "their names, `skip` leaves them out and lists them.",
    "data.feed": "How images reach the device: `resident` holds them there, `streaming` decodes "
    "them when they are needed; `auto` streams where `data.size` is set.",
    "data.resident_bytes": "The most bytes of images that may be held on a device.",
    "data.standardise": "What is subtracted and divided by: moments of each `channel`, the mean "
    "`pixel` of the training set, those of `imagenet`, `half` of 255 (images from -1 to 1), or "
    "`none`.",
    "data.flip": "Mirror half of the training images.",
    "data.pad": "Resident images: zeros around one, from which a window of its size is cut at "
    "random.",
    "data.size": "Streamed images: side of the squares that they become; `0` is images as they "
    "are, resident.",
    "data.resize": "Streamed images: shorter side in evaluation, before the centre is cut out.",
    "data.interpolation": "Streamed images: how they are resized in evaluation.",
    "data.area": "Streamed images: least and largest share of an image that a training crop is of.",
    "data.ratio": "Streamed images: least and largest width / height of a training crop.",
    "data.tries": "Streamed images: times that a crop is drawn until it fits.",
    "data.brightness": "Streamed images: strength of a random change of the brightness.",
    "data.contrast": "Streamed images: strength of a random change of the contrast.",
    "data.saturation": "Streamed images: strength of a random change of the saturation.",
    "data.workers": "Streamed images: processes that decode; `0` is a thread of this one.",
    "optim.name": "The rule: `sgd` with momentum, or `lars` for large batches.",
    "optim.learning_rate": "The highest learning rate, which the schedule starts from.",
    "optim.momentum": "Fraction of the velocity that is kept at a step.",
    "optim.nesterov": "Whether the gradient is that ahead of the velocity.",
    "optim.weight_decay": "Times the parameters, added to their gradient.",
    "optim.decayed": "Parameters under weight decay: `all`, or `kernels` alone.",
    "optim.trust_coefficient": "With `optim.name=lars`: share of a layer's norm that a step has.",
    "optim.trust_epsilon": "With `optim.name=lars`: added to the norm of the gradient.",
    "optim.adapted": "With `optim.name=lars`: parameters with a ratio of their own, `kernels` or "
    "`all`.",
    "optim.schedule": "The learning rate over the run: `constant`, `cosine` to zero, or `step`, "
    "multiplied at milestones.",
    "optim.milestones": "With `optim.schedule=step`: durations from the start of the run.",
    "optim.factor": "With `optim.schedule=step`: what each milestone multiplies the learning "
    "rate by.",
    "optim.warmup": "Time before the schedule starts.",
    "optim.warmup_shape": "The learning rate until then: `linear` growth, or `constant`.",
    "optim.warmup_factor": "Share of the learning rate that the warm-up starts at.",
    "train.duration": "Length of the run.",
    "train.batch_size": "Examples in a step, on all devices together.",
    "train.steps_per_call": "Steps in one call of the device; `0` is 1 on a CPU and 20 on an "
    "accelerator with resident images.",
    "train.micro_batches": "Parts of a batch that pass one after the other, to save memory.",
    "train.devices": "Devices that share a batch; `0` is all there are.",
    "train.parallel": "How they share it: `jit` over a mesh, or `pmap`; the result is the same.",
    "train.side_by_side": "Runs that differ in their seed alone, in one program; `0` is what was "
    "measured to be fastest on the device, so far `1`.",
    "train.ema_decay": "Evaluate moving averages of parameters and statistics that decay so; "
    "`0.0` is none.",
    "train.init_from": "Directory of a run to start from; empty is drawn weights. Other classes "
    "get a new head.",
    "train.on_nan": "What is done about an update that is not finite: `stop` ends the run, "
    "`skip` leaves it out and counts it.",
    "train.grow_from": "Depth of a network that is trained first and then grown to "
    "`model.depth`; `0` is none.",
    "train.grow_at": "When it is grown; 0 steps with `train.init_from`.",
    "checkpoint.seconds": "From one checkpoint to the next; `0` is after every call of the device.",
    "checkpoint.keep": "Of the newest, how many are kept, beside that of the best evaluation.",
    "log.writers": "What shows the numbers of metrics.jsonl: `tensorboard`, `wandb`, both or none.",
    "log.histograms": "Write distributions of parameters and running statistics, too.",
    "resources.cpus": "Cores. They are reserved and not enforced.",
    "resources.gpus": "GPUs; 0.5 puts two runs on one.",
    "resources.tpu": "A slice of one host by Ray's name of its kind, such as TPU-v4-8-head.",
    "resources.retries": "Times that a run is started again after its process or node died.",
    "eval.every": "Time from one evaluation to the next.",
    "eval.batch_size": "Examples that are evaluated at once; the result does not depend on it.",
    "eval.train_examples": "Of the training set in an evaluation; `0` is all.",
    "eval.select": "The evaluation that counts: the `final` one, or the `best` on the validation "
    "split, which is then recorded beside the final one.",
    "eval.statistics": "What evaluation normalises by: `running` statistics, or `precise` ones, "
    "measured again over training data.",
    "eval.precise_batches": "Batches that precise statistics are measured over; `0` is none.",
    "eval.tune": "Keys of which a report takes, for each network, the value with the lowest "
    "validation error.",
    "eval.probes": "Probes to record at every evaluation, with commas between them.",
    "eval.probe_examples": "First images of a split that probes are computed on.",
}
"""What each key says, in Markdown; a value in backticks is one that the key takes."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A key of a config.

    Attributes:
      key: dotted.
      default: its value in `default_config`; a list for a tuple.
      meaning: what it says, in Markdown.
      choices: the names that it takes, empty if it takes anything else than names.
      expected: in words, what it takes.
      execution: whether it says how a run is executed and not what it computes; then it is not part
        of the run's name.
    """

    key: str
    default: Any
    meaning: str
    choices: tuple[str, ...]
    expected: str
    execution: bool

    @property
    def section(self) -> str:
        """The part of the config that it is in, empty for `seed`."""
        return self.key.rpartition(".")[0]


@functools.cache
def entries() -> Mapping[str, Entry]:
    """{dotted key: entry} of every key, in the order of `MEANINGS`.

    >>> entries()["norm.position"].choices
    ('before', 'after')
    >>> entries()["model.depth"].expected
    'a number of layers, such as 56'
    """
    choices, values = _choices(), defaults()
    return MappingProxyType(
        {
            key: Entry(
                key=key,
                default=values[key],
                meaning=meaning,
                choices=choices.get(key, ()),
                expected=_expected(key, values[key], choices.get(key, ())),
                execution=key in EXECUTION_KEYS,
            )
            for key, meaning in MEANINGS.items()
        }
    )


def markdown() -> str:
    """The reference as a page of Markdown, one table for each part of the config."""
    lines = [INTRODUCTION]
    for section, about in SECTIONS.items():
        lines += [f"\n## {section or 'seed'}\n", f"{about}\n"]
        lines += ["| key | default | meaning | values |", "|---|---|---|---|"]
        for entry in entries().values():
            if entry.section == section:
                mark = " (e)" if entry.execution else ""
                values = ", ".join(f"`{name}`" for name in entry.choices) or entry.expected
                default = f"`{_as_written(entry.default)}`"
                lines.append(f"| `{entry.key}`{mark} | {default} | {entry.meaning} | {values} |")
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
---
hide-toc: true
---

<!-- Written by python -m resjax.config_reference; change resjax/config_reference.py instead. -->

# Keys of a config

An experiment is a config: what differs from these defaults. An experiment file sets keys in
`get_config`, the command line with `--config.KEY=VALUE`, an axis of a sweep with
`yield {"KEY": value}`.

A key marked (e) says how a run is executed and not what it computes, and is not part of its name.
A duration takes any one unit: `15 epochs`, `64000 steps`, `1e6 examples`, and inside a run `50%`.
A key, a name or a value that does not exist is refused before anything is written."""


def _as_written(value: Any) -> str:
    return repr(tuple(value)) if isinstance(value, list) else repr(value)


def _expected(key: str, default: Any, names: tuple[str, ...]) -> str:
    if key in NUMBERS:
        return NUMBERS[key][-1]
    if key in DURATION_KEYS:
        return "a duration"
    if key == "data.name":
        from resjax.data.sources import SOURCES

        return "; ".join(kind.form for kind in SOURCES.values())
    if names:
        return "one of " + ", ".join(names)
    return OTHERWISE.get(key) or {bool: "True or False", list: "a tuple"}.get(type(default), "text")


OTHERWISE = {
    "model.unroll": "`auto`, `all`, or a number of blocks",
    "optim.milestones": "a tuple of durations",
    "eval.tune": "a tuple of keys",
    "data.area": "two shares of at most 1",
    "data.ratio": "two positive numbers",
}
"""What keys take that are neither names nor single numbers."""


def _choices() -> dict[str, tuple[str, ...]]:
    """{key: names}, from the tables that the names are looked up in."""
    from resjax.data.folder import ON_BAD
    from resjax.data.resident import STATISTICS
    from resjax.data.sources import FEEDS
    from resjax.data.transforms import INTERPOLATIONS
    from resjax.models.build import AUTO, CHOICES
    from resjax.models.networks import BLOCKS, FAMILIES, STEMS
    from resjax.probes.table import PROBES
    from resjax.training.events import WRITERS
    from resjax.training.optim import CHOSEN, OPTIMIZERS, SCHEDULES, WARMUPS
    from resjax.training.parallel import STYLES
    from resjax.training.plan import ON_NAN, SELECTIONS, STATISTICS_OF_EVALUATION

    return {
        key: tuple(names)
        for key, names in {
            **CHOICES,
            "model.name": FAMILIES,
            "model.block": (AUTO, *BLOCKS),
            "model.stem": (AUTO, *STEMS),
            "data.on_bad": ON_BAD,
            "data.feed": FEEDS,
            "data.standardise": STATISTICS,
            "data.interpolation": INTERPOLATIONS,
            "optim.name": OPTIMIZERS,
            "optim.decayed": CHOSEN,
            "optim.adapted": CHOSEN,
            "optim.schedule": SCHEDULES,
            "optim.warmup_shape": WARMUPS,
            "train.parallel": STYLES,
            "train.on_nan": ON_NAN,
            "log.writers": WRITERS,
            "eval.select": SELECTIONS,
            "eval.statistics": STATISTICS_OF_EVALUATION,
            "eval.probes": PROBES,
        }.items()
    }


if __name__ == "__main__":
    print(markdown(), end="")
