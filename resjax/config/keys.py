"""The keys that an experiment may vary: their defaults, their meanings and their values.

A new key is one entry of `KEYS`. A default never changes its meaning once runs exist, and a key
that is added later has a default that keeps the old behaviour: the keys that differ name a run.
"""

from resjax.config.key import Key, Keys

KEYS = Keys({
    "seed": Key(0,
        "Seed of initial values, order of examples, augmentation and dropout. Two "
        "networks with one seed start equal in what they share and see the same batches.",
        (0, 2**32 - 1), "a whole number from 0 to 2^32 - 1"),

    # ---------------------------------------------------------------------------------------- model
    "model.name": Key("cifar",
        "The family: `cifar` (He et al. 2015, section 4.2), `imagenet` (table 1), `wrn` (wide "
        "nets, Zagoruyko and Komodakis 2016), or `mlp` (dense layers).",
        table="resjax.models.networks:FAMILIES"),
    "model.depth": Key(20,
        "Weighted layers as the papers count them: 6n+2 in the cifar family (9n+2 with "
        "bottlenecks, 3n+2 with single layers), 18 to 200 of imagenet, 6n+4 of wrn.",
        (1, 10**5), "a number of layers, such as 56"),
    "model.width": Key(0,
        "Channels of the first stage; `0` is the family's own: 16 of cifar, 64 of imagenet, 160 of "
        "wrn, 256 of mlp.",
        (0, 2**14), "a number of channels, such as 16, or 0 for the family's own"),
    "model.block": Key("auto",
        "Layers of a residual branch: `single` has one, `basic` two, `bottleneck` three; `auto` is "
        "the family's own.",
        names=("auto",), table="resjax.models.networks:BLOCKS"),
    "model.stem": Key("auto",
        "Layers before the first block: `imagenet` (7x7 of stride 2 and a max-pool), `deep` (three "
        "of 3x3 and a max-pool), `small` (one of 3x3), `dense` (of an MLP); `auto` is the family's "
        "own.",
        names=("auto",), table="resjax.models.networks:STEMS"),
    "model.groups": Key(1,
        "Groups of channels in the 3x3 layer of a bottleneck (ResNeXt).",
        (1, 2**20), "a positive number, such as 32"),
    "model.bottleneck_width": Key(1.0,
        "Factor on the inner channels of a bottleneck (wide nets, ResNeXt).",
        (1e-6, 1e6), "a positive factor, such as 2.0"),
    "model.stride_in": Key("3x3",
        "Layer of a bottleneck that has the stride: `3x3` as in torchvision, or `1x1` as in the "
        "paper.",
        names=("3x3", "1x1")),
    "model.order": Key("post",
        "Order of normalisation, activation and sum in a block (He et al. 2016, figure 4): `post` "
        "(a), `bn_after_add` (b), `relu_before_add` (c), `relu_preact` (d), `preact` (e).",
        table="resjax.models.blocks:ORDERS"),
    "model.opening": Key("stem",
        "With `model.order=preact`, what normalises for the first block: the `stem`, as in the "
        "paper's appendix, or the `block` itself, as in timm.",
        names=("stem", "block")),
    "model.shortcut": Key("identity",
        "How the input of a block meets its branch: `none` (a plain net), `identity` (A: zero "
        "channels where the shape changes), `projection` (B: a 1x1 convolution there), "
        "`projection_all` (C: one in every block), `avgpool_projection` (B with the stride in a "
        "pool), and of He et al. 2016 `scaled`, `exclusive_gate`, `shortcut_gate` and `dropout`.",
        table="resjax.models.shortcuts:SHORTCUTS"),
    "model.identity_pad": Key("end",
        "Where an identity shortcut adds zero channels: at the `end`, or half of them on `both` "
        "sides.",
        names=("end", "both")),
    "model.projection_norm": Key("auto",
        "Whether a projection is normalised: `always`, `never`, or `auto`, which is `never` where "
        "blocks begin with a normalisation.",
        names=("auto", "always", "never")),
    "model.shortcut_base": Key("identity",
        "The shortcut that scaling, gates and dropout modify: `identity`, `projection`, "
        "`projection_all` or `avgpool_projection`.",
        table="resjax.models.shortcuts:SHORTCUTS",
        refused=("none", "scaled", "exclusive_gate", "shortcut_gate", "dropout")),
    "model.shortcut_scale": Key(0.5,
        "With `model.shortcut=scaled`: the constant on the shortcut.",
        (-1e6, 1e6), "a finite number, such as 0.5"),
    "model.branch_scale": Key(0.5,
        "With `model.shortcut=scaled`: the constant on the branch.",
        (-1e6, 1e6), "a finite number, such as 0.5"),
    "model.gate_bias": Key(-6.0,
        "With `model.shortcut=exclusive_gate` and `model.shortcut=shortcut_gate`: initial bias of "
        "the gate; the further below zero, the more open is the shortcut.",
        (-1e6, 1e6), "a finite number, such as -6.0"),
    "model.shortcut_dropout": Key(0.5,
        "With `model.shortcut=dropout`: probability that an element of the shortcut is dropped.",
        (0.0, 1.0), "a probability from 0 to 1, such as 0.5"),
    "model.bias": Key("auto",
        "Whether layers have a bias: `always`, `never`, or `auto`, which is only where nothing "
        "normalises.",
        names=("auto", "always", "never")),
    "model.activation": Key("relu", "The elementwise function after a normalisation.",
        table="resjax.models.build:ACTIVATIONS"),
    "model.kernel_init": Key("he_normal",
        "How kernels are drawn: `he_normal` (variance 2 / fan-out), `he_normal_fan_in`, "
        "`lecun_normal`, `orthogonal`, `fixup` (branches scaled by their number, the last layer "
        "zero).",
        table="resjax.models.initialisers:INITIALISERS", refused=("zeros",)),
    "model.head_init": Key("lecun_normal",
        "How the kernel of the head is drawn, as by `model.kernel_init`; `zeros` starts with equal "
        "logits.",
        table="resjax.models.initialisers:INITIALISERS", refused=("fixup",)),
    "model.zero_last_gamma": Key(False,
        "Start every branch at zero, by the scale gamma of its last normalisation (Goyal et al. "
        "2017)."),
    "model.residual_scale": Key(1.0,
        "Factor on every branch.",
        (-1e6, 1e6), "a finite number, such as 1.0"),
    "model.learn_residual_scale": Key(False,
        "Make `model.residual_scale` a parameter of each block (SkipInit)."),
    "model.stochastic_depth": Key(0.0,
        "Probability that the last block's branch is dropped in training; it grows linearly from "
        "the first block (Huang et al. 2016).",
        (0.0, 0.999), "a probability from 0 to below 1, such as 0.5"),
    "model.dtype": Key("float32",
        "Precision of the computation: `float32`, `bfloat16`, or `float64`, which needs "
        "JAX_ENABLE_X64=1. Parameters, statistics, logits and loss have at least `float32`.",
        table="resjax.models.build:DTYPES"),
    "model.unroll": Key("auto",
        "Equal blocks in one iteration of a stage's loop: a number, `all` for straight-line code, "
        "or `auto`, which saves the most time in compilation and steps together.",
        expected="`auto`, `all`, or a number of blocks", decides="bits"),
    "model.remat": Key(False,
        "Recompute the inside of a block for its gradient, which saves memory.",
        decides="bits"),
    "model.conv": Key("auto",
        "The convolution: `auto` is the fastest for the device, `xla` is XLA's with its own "
        "gradients everywhere.",
        decides="bits",
        table="resjax.ops.conv:IMPLEMENTATIONS"),

    # ----------------------------------------------------------------------------------------- norm
    "norm.kind": Key("batch",
        "What normalises: `batch`, over examples and pixels, with running statistics for "
        "evaluation; `group`, each example by groups of channels; `layer`, by all of them; "
        "`filter_response`, which divides each channel of an example by its mean square; or "
        "`none`, with biases instead.",
        table="resjax.models.norm:NORMS"),
    "norm.position": Key("before",
        "Whether the normalisation comes `before` or `after` the activation.",
        names=("before", "after")),
    "norm.momentum": Key(0.9,
        "Fraction of the running statistics that is kept at a step.",
        (0.0, 1.0), "a fraction from 0 to 1, 0.9 by default"),
    "norm.epsilon": Key(1e-5,
        "Added to the variance.",
        (1e-30, 1.0), "a small positive number, 1e-5 by default"),
    "norm.examples": Key(0,
        "Consecutive examples that are normalised together; `0` is the whole batch, on all devices "
        "and hosts.",
        (0, 2**31 - 1), "a number of examples, such as 32, or 0 for the whole batch"),
    "norm.groups": Key(8,
        "Groups of channels of `norm.kind=group`, which has 32 in its paper; they divide the "
        "channels of all layers.",
        (1, 65536), "a number of groups, such as 8"),
    "norm.unbiased_running_var": Key(False,
        "Let the running variance be that of a sample, n / (n - 1) times the biased one, as "
        "PyTorch has it."),
    "norm.frozen": Key(False,
        "Normalise by the running statistics in training, too, and leave them as they are: for "
        "fine-tuning with `train.init_from`."),
    "norm.use_scale": Key(True, "Whether normalisations have a learnt scale."),
    "norm.use_bias": Key(True, "Whether normalisations have a learnt bias."),

    # ----------------------------------------------------------------------------------------- data
    "data.name": Key("digits",
        "The source of images. Sets of TFDS are prepared once, by resjax prepare.",
        table="resjax.data.sources:SOURCES", form="name:argument"),
    "data.dir": Key("",
        "Directory of prepared sets, also gs://, s3://, az://; empty is TFDS_DATA_DIR, or "
        "~/tensorflow_datasets.",
        decides="nothing"),
    "data.train": Key("", "Slice to train on, such as train[:45000]; empty is the source's own."),
    "data.validation": Key("", "Slice to choose by, such as train[45000:]; empty is none."),
    "data.test": Key("", "Slice to test on; empty is the source's own."),
    "data.on_bad": Key("refuse",
        "What to do about images that cannot be read: `refuse` ends the run with their names, "
        "`skip` leaves them out and lists them.",
        names=("refuse", "skip")),
    "data.feed": Key("auto",
        "How images reach the device: `resident` holds them there, `streaming` decodes them when "
        "they are needed; `auto` streams where `data.size` is set.",
        names=("auto", "resident", "streaming")),
    "data.resident_bytes": Key(2**31,
        "The most bytes of images that may be held on a device.",
        (0, 2**60), "a number of bytes, such as 2147483648", decides="nothing"),
    "data.channels": Key(0,
        "Channels that the network sees: `1` takes the luma of colours, `3` repeats grey ones; `0` "
        "is as the images are.",
        (0, 3), "1, 3, or 0 for those of the images"),
    "data.exif": Key(False,
        "Turn images in files upright, as the orientation in the EXIF data of cameras says; "
        "torchvision does not."),
    "data.standardise": Key("channel",
        "What is subtracted and divided by: moments of each `channel`, the mean `pixel` of the "
        "training set, those of `imagenet`, `half` of 255 (images from -1 to 1), or `none`.",
        table="resjax.data.statistics:STATISTICS"),
    "data.flip": Key(False, "Mirror half of the training images."),
    "data.pad": Key(0,
        "Resident images: zeros around one, from which a window of its size is cut at random.",
        (0, 2**10), "a number of pixels, such as 4"),
    "data.size": Key(0,
        "Streamed images: side of the squares that they become; `0` is images as they are, "
        "resident.",
        (0, 2**14), "a number of pixels, such as 224, or 0 for images as they are"),
    "data.resize": Key(256,
        "Streamed images: shorter side in evaluation, before the centre is cut out.",
        (1, 2**14), "a number of pixels, such as 256"),
    "data.interpolation": Key("bilinear", "Streamed images: how they are resized in evaluation.",
        names=("bilinear", "bicubic")),
    "data.area": Key((0.08, 1.0),
        "Streamed images: least and greatest share of the area of an image in a training crop.",
        expected="two shares above 0 and of at most 1, the lower one first",
        pair=(1e-30, 1.0)),
    "data.ratio": Key((0.75, 4 / 3),
        "Streamed images: least and greatest width / height of a training crop.",
        expected="two positive numbers, the lower one first",
        pair=(1e-30, 1e30)),
    "data.tries": Key(10,
        "Streamed images: attempts to draw a crop that fits.",
        (1, 1000), "a positive number, such as 10"),
    "data.brightness": Key(0.0,
        "Streamed images: strength s of a random change of the brightness, by a factor from "
        "1 - s (at least 0) to 1 + s; `0.0` is none.",
        (0.0, 100.0), "a strength of at least 0, such as 0.4"),
    "data.contrast": Key(0.0,
        "Streamed images: strength s of a random change of the contrast, by a factor from "
        "1 - s (at least 0) to 1 + s; `0.0` is none.",
        (0.0, 100.0), "a strength of at least 0, such as 0.4"),
    "data.saturation": Key(0.0,
        "Streamed images: strength s of a random change of the saturation, by a factor from "
        "1 - s (at least 0) to 1 + s; `0.0` is none.",
        (0.0, 100.0), "a strength of at least 0, such as 0.4"),
    "data.mixup": Key(0.0,
        "Strength of mixup: a training image is blended with another by a share from the Beta "
        "distribution with this alpha, and so is the loss; `0.0` is none. The error on batches "
        "counts the label with the larger share. With `data.cutmix`, each mixes half the images.",
        (0.0, 100.0), "a number from 0 to 100, such as 0.2"),
    "data.cutmix": Key(0.0,
        "Strength of CutMix: a box of a training image is replaced by another, its area a share "
        "from the Beta distribution with this alpha, and so is the loss; `0.0` is none.",
        (0.0, 100.0), "a number from 0 to 100, such as 1.0"),
    "data.workers": Key(0,
        "Streamed images: processes that decode; `0` is a thread of this one.",
        (0, 1024), "a number of processes, or 0 for a thread of this one", decides="nothing"),

    # ---------------------------------------------------------------------------------------- optim
    "optim.name": Key("sgd",
        "The rule: `sgd` with momentum, `adam` with weight decay in the gradient, `adamw` with "
        "weight decay beside it, or `lars` for large batches.",
        table="resjax.training.optim:OPTIMIZERS"),
    "optim.learning_rate": Key(0.1,
        "The highest learning rate, which the schedule starts from.",
        (1e-30, 1e30), "a positive finite number, such as 0.1"),
    "optim.momentum": Key(0.9,
        "Fraction of the velocity that is kept at a step.",
        (0.0, 1.0), "a fraction from 0 to 1, such as 0.9"),
    "optim.nesterov": Key(False,
        "Use Nesterov's momentum."),
    "optim.beta1": Key(0.9,
        "With `optim.name=adam` or `optim.name=adamw`: fraction of the mean gradient that is kept "
        "at a step.",
        (0.0, 0.9999999), "a fraction from 0 to below 1, such as 0.9"),
    "optim.beta2": Key(0.999,
        "With `optim.name=adam` or `optim.name=adamw`: fraction of the mean squared gradient that "
        "is kept at a step.",
        (0.0, 0.9999999), "a fraction from 0 to below 1, such as 0.999"),
    "optim.epsilon": Key(1e-8,
        "With `optim.name=adam` or `optim.name=adamw`: added to the root of the mean squared "
        "gradient.",
        (1e-30, 1e30), "a positive finite number, such as 1e-8"),
    "optim.clip_norm": Key(0.0,
        "Largest norm of the gradient of all parameters together; a larger gradient is scaled down "
        "to it, before weight decay and the update. `0.0` is none.",
        (0.0, 1e30), "a finite number of at least 0, such as 1.0"),
    "optim.weight_decay": Key(1e-4,
        "Factor on the parameters that is added to their gradient, or with `optim.name=adamw` to "
        "the update, before the learning rate.",
        (0.0, 1e30), "a finite number of at least 0, such as 1e-4"),
    "optim.decayed": Key("all", "Parameters under weight decay: `all`, or `kernels` alone.",
        table="resjax.training.optim:CHOSEN"),
    "optim.trust_coefficient": Key(0.001,
        "With `optim.name=lars`: share of a layer's norm that a step has.",
        (1e-30, 1e30), "a positive finite number, such as 0.001"),
    "optim.trust_epsilon": Key(0.0,
        "With `optim.name=lars`: added to what the norm of the weights is divided by.",
        (0.0, 1e30), "a finite number of at least 0, such as 1e-8"),
    "optim.adapted": Key("kernels",
        "With `optim.name=lars`: parameters with a ratio of their own, `kernels` or `all`.",
        table="resjax.training.optim:CHOSEN"),
    "optim.schedule": Key("cosine",
        "The learning rate over the run: `constant`, `cosine` to zero, or `step`, multiplied at "
        "milestones.",
        table="resjax.training.optim:SCHEDULES"),
    "optim.milestones": Key(("50%", "75%"),
        "With `optim.schedule=step`: durations from the start of the run.",
        expected="a tuple of durations", duration=True),
    "optim.factor": Key(0.1,
        "With `optim.schedule=step`: what each milestone multiplies the learning rate by.",
        (0.0, 1.0), "a fraction from 0 to 1, such as 0.1"),
    "optim.warmup": Key("0 steps",
        "Length of the warm-up. The schedule follows it and takes the rest of the run; milestones "
        "count from the start of the run.",
        duration=True),
    "optim.warmup_shape": Key("linear",
        "The learning rate during the warm-up: `linear` growth, or `constant`.",
        table="resjax.training.optim:WARMUPS"),
    "optim.warmup_factor": Key(0.1,
        "Share of the learning rate at which the warm-up starts.",
        (0.0, 1.0), "a fraction from 0 to 1, such as 0.1"),

    # ---------------------------------------------------------------------------------------- train
    "train.loss": Key("cross_entropy",
        "What is minimised: `cross_entropy` of the softmax, or `mse`, the mean over classes of the "
        "squared distance from 1 for the label and 0 for others.",
        table="resjax.training.losses:LOSSES"),
    "train.label_smoothing": Key(0.0,
        "Share of a label that is spread over all classes, with `train.loss=cross_entropy`, while "
        "training.",
        (0.0, 0.999), "a share from 0 to below 1, such as 0.1"),
    "train.duration": Key("15 epochs", "Length of the run.", duration=True),
    "train.batch_size": Key(128,
        "Examples in a step, on all devices together.",
        (1, 2**31 - 1), "a positive number of examples, such as 128"),
    "train.steps_per_call": Key(0,
        "Steps in one call of the device; `0` is 1 on a CPU and 20 on an accelerator with resident "
        "images.",
        (0, 10**4), "a number of steps, such as 20, or 0 for the device's own", decides="bits"),
    "train.micro_batches": Key(1,
        "Parts of a batch that are processed one after the other, to save memory.",
        (1, 2**16), "a positive number of parts, such as 4", decides="bits"),
    "train.devices": Key(0,
        "Devices that share a batch; `0` is all there are.",
        (0, 2**20), "a number of devices, or 0 for all there are", decides="bits"),
    "train.parallel": Key("jit",
        "How devices share a batch: `jit` over a mesh, or `pmap`; the result is the same.",
        decides="bits",
        names=("jit", "pmap")),
    # Which seeds came together decides the bits, and is recorded by itself.
    "train.side_by_side": Key(0,
        "Runs that differ only in their seed, in one program; `0` is the device's own number: 8 "
        "for small networks on a GPU, else 1.",
        (0, 32), "a number of runs, such as 8, or 0 for the device's own", decides="nothing"),
    "train.ema_decay": Key(0.0,
        "Decay of the moving averages of parameters and statistics that are evaluated; `0.0` is "
        "none.",
        (0.0, 0.9999999), "a decay from 0 to below 1, such as 0.9999"),
    "train.init_from": Key("",
        "Directory of a run to start from, also gs://, s3://, az://; empty is drawn weights. Other "
        "classes get a new head."),
    "train.on_nan": Key("stop",
        "What to do where numbers are not finite: `stop` ends the run at such a loss, `skip` "
        "leaves out updates with such a loss or gradient and counts them.",
        names=("stop", "skip")),
    "train.grow_from": Key(0,
        "Depth of a network that is trained first and then grown to `model.depth`; `0` is none.",
        (0, 10**6), "the depth of a shallower network, or 0 for none"),
    "train.grow_at": Key("50%",
        "When the network of `train.grow_from` is grown; 0 steps with `train.init_from`.",
        duration=True),

    # ----------------------------------------------------------------------------------- checkpoint
    "checkpoint.seconds": Key(60.0,
        "Seconds between checkpoints; `0` saves one after every call of the device.",
        (0.0, 1e9), "a number of seconds, such as 60, or 0 for after every call",
        decides="nothing"),
    "checkpoint.keep": Key(2,
        "Number of the newest checkpoints to keep, besides that of the best evaluation.",
        (1, 10**6), "a positive number of checkpoints, such as 2", decides="nothing"),

    # ------------------------------------------------------------------------------------------ log
    "log.writers": Key(("tensorboard",),
        "Tools that receive the numbers of metrics.jsonl: `tensorboard`, `wandb`, both or none.",
        decides="nothing",
        table="resjax.runs.events:WRITERS"),
    "log.histograms": Key(False,
        "Write histograms of parameters and running statistics, too, at every evaluation.",
        decides="nothing"),

    # ------------------------------------------------------------------------------------ resources
    "resources.cpus": Key(1.0,
        "Cores. They are reserved and not enforced: XLA has a thread for every core.",
        (0.0, 1e5), "a number of cores, such as 4", decides="nothing"),
    "resources.gpus": Key(0.0,
        "GPUs; 0.5 puts two runs on one, each with that share of its memory.",
        (0.0, 1e3), "a number of GPUs, such as 1, or a share of one, such as 0.5",
        decides="nothing"),
    "resources.tpu": Key("",
        "A whole TPU slice, by the name that Ray gives its first host, such as TPU-v4-8-head; "
        "empty is none.",
        decides="nothing"),
    "resources.retries": Key(3,
        "Number of times that a run is restarted after its process or node died; no exception is "
        "retried.",
        (0, 10**6), "a number of times, such as 3", decides="nothing"),

    # ----------------------------------------------------------------------------------------- eval
    "eval.every": Key("1 epoch", "Time from one evaluation to the next.", duration=True),
    "eval.batch_size": Key(500,
        "Examples that are evaluated at once; the result does not depend on it.",
        (1, 2**31 - 1), "a positive number of examples, such as 500", decides="bits"),
    "eval.train_examples": Key(0,
        "Examples of the training set in a clean evaluation; `0` is all.",
        (0, 2**31 - 1), "a number of examples, or 0 for all"),
    "eval.select": Key("final",
        "The evaluation that counts: the `final` one, or the `best` on the validation split, which "
        "is then recorded beside the final one.",
        names=("final", "best")),
    "eval.statistics": Key("running",
        "What evaluation normalises by: `running` statistics, or `precise` ones, measured again "
        "over training data.",
        names=("running", "precise")),
    "eval.precise_batches": Key(0,
        "Batches that precise statistics are measured over; `0` is none.",
        (0, 10**6), "a number of batches, such as 32, or 0 for none"),
    "eval.tune": Key((),
        "Keys to tune, such as optim.learning_rate: for each network, a report uses the values "
        "with the lowest validation error, so set `data.validation`, too.",
        expected="a tuple of keys", decides="nothing"),
    "eval.probes": Key("",
        "Probes to record at every evaluation, with commas between them, such as "
        "gradients,responses; empty is none.",
        decides="nothing",
        table="resjax.probes.table:PROBES", form="name,name"),
    "eval.probe_examples": Key(512,
        "First images of a split that probes are computed on.",
        (1, 2**31 - 1), "a positive number of examples, such as 512", decides="nothing"),
})  # fmt: skip
"""All keys by their dotted names, in the order of the reference."""
