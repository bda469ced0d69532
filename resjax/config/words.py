"""Names that other programs use, and the keys and values that they correspond to."""

from resjax.config.networks import named, of_cifar

WORDS: dict[str, str] = {
    "epochs": "train.duration='30 epochs'",
    "num_epochs": "train.duration='30 epochs'",
    "steps": "train.duration='64000 steps'",
    "num_steps": "train.duration='64000 steps'",
    "max_steps": "train.duration='64000 steps'",
    "iterations": "train.duration='64000 steps'",
    "lr": "optim.learning_rate",
    "b1": "optim.beta1",
    "beta_1": "optim.beta1",
    "adam_beta1": "optim.beta1",
    "b2": "optim.beta2",
    "beta_2": "optim.beta2",
    "adam_beta2": "optim.beta2",
    "adam_epsilon": "optim.epsilon",
    "clip_grad": "optim.clip_norm",
    "grad_clip": "optim.clip_norm",
    "grad_clip_norm": "optim.clip_norm",
    "max_grad_norm": "optim.clip_norm",
    "gradient_clip_val": "optim.clip_norm",
    "base_lr": "optim.learning_rate",
    "wd": "optim.weight_decay",
    "opt": "optim.name",
    "optimizer": "optim.name",
    "sched": "optim.schedule",
    "scheduler": "optim.schedule",
    "lr_schedule": "optim.schedule",
    "lr_steps": "optim.milestones",
    "lr_gamma": "optim.factor",
    "warmup_epochs": "optim.warmup='5 epochs'",
    "warmup_steps": "optim.warmup='500 steps'",
    "bs": "train.batch_size",
    "batch": "train.batch_size",
    "batchsize": "train.batch_size",
    "accum_steps": "train.micro_batches",
    "grad_accum_steps": "train.micro_batches",
    "ema": "train.ema_decay",
    "model_ema_decay": "train.ema_decay",
    "pretrained": "train.init_from",
    "finetune": "train.init_from",
    "arch": "model.name",
    "architecture": "model.name",
    "network": "model.name",
    "layers": "model.depth",
    "num_layers": "model.depth",
    "skip": "model.shortcut",
    "residual": "model.shortcut",
    "drop_path": "model.stochastic_depth",
    "drop_path_rate": "model.stochastic_depth",
    "act": "model.activation",
    "precision": "model.dtype",
    "amp": "model.dtype=bfloat16",
    "bf16": "model.dtype=bfloat16",
    "gradient_checkpointing": "model.remat",
    "grad_checkpointing": "model.remat",
    "norm": "norm.kind",
    "norm_layer": "norm.kind",
    "bn_momentum": "norm.momentum",
    "bn_eps": "norm.epsilon",
    "eps": "norm.epsilon",
    "optim.eps": "optim.epsilon",
    "dataset": "data.name",
    "data_path": "data.name=folder:PATH",
    "img_size": "data.size",
    "image_size": "data.size",
    "input_size": "data.size",
    "hflip": "data.flip",
    "mixup_alpha": "data.mixup",
    "cutmix_alpha": "data.cutmix",
    "num_workers": "data.workers",
    "random_seed": "seed",
    "manual_seed": "seed",
    "val_every": "eval.every",
    "eval_interval": "eval.every",
}
"""Keys of resjax by the names that they have in other programs, as options and in configs."""


NAMES: dict[str, dict[str, str]] = {
    "model.shortcut": {
        "residual": "identity, projection or projection_all",
        "resnet": "identity, projection or projection_all",
        "skip": "identity, projection or projection_all",
        "a": "identity", "b": "projection", "c": "projection_all", "conv": "projection",
    },
    "model.activation": {"swish": "silu", "leakyrelu": "leaky_relu"},
    "model.dtype": {
        "bf16": "bfloat16", "fp32": "float32", "f32": "float32", "float": "float32",
        "fp64": "float64", "double": "float64", "fp16": "bfloat16", "float16": "bfloat16",
        "half": "bfloat16",
    },
    "norm.kind": {"bn": "batch", "batchnorm": "batch", "batch_norm": "batch", "no": "none",
        "gn": "group", "groupnorm": "group", "ln": "layer", "layernorm": "layer",
        "frn": "filter_response"},
    "data.name": {"imagenet": "imagenet2012", "mnist": "tfds:mnist"},
    "data.standardise": {"mean_std": "channel"},
    "optim.name": dict.fromkeys(
        ("rmsprop", "adagrad", "lamb", "lion", "muon"),
        "adamw, the nearest; an experiment file may add others to OPTIMIZERS",
    ) | {
        "nadam": "adam, with optim.nesterov=True", "nadamw": "adamw, with optim.nesterov=True",
        "momentum": "sgd, with optim.momentum",
    } | dict.fromkeys(("nesterov", "nag"), "sgd, with optim.nesterov=True") | {
    },
    "optim.schedule": {
        "multistep": "step", "multisteplr": "step", "steplr": "step", "piecewise": "step",
        "cosineannealinglr": "cosine", "cosine_annealing": "cosine", "none": "constant",
    },
    "train.parallel": {"ddp": "jit", "dp": "pmap"},
    "eval.select": {"last": "final"},
}  # fmt: skip
"""Values of keys by the names that they have in other programs, {key: {name there: name here}}."""


def meaning(name: str, key: str) -> str:
    """Translates a name that other programs give to a key into ours; empty if it is none of theirs.

    >>> meaning("bf16", "model.dtype"), meaning("plain18", "model.name")
    ('bfloat16', 'model.name=imagenet, model.depth=18, model.shortcut=none')
    """
    if key == "model.name":  # other programs give names of whole networks to it
        keys = named(name) or named(of_cifar(name) or "")
        return ", ".join(f"model.{key}={value}" for key, value in keys.items())
    return NAMES.get(key, {}).get(name.lower(), "")
