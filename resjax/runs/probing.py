"""Probing of a finished run: the network of a checkpoint, or imported weights."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from resjax.config import ConfigError
from resjax.config.naming import run_id
from resjax.models.resnet import ResNet
from resjax.probes.measure import Arrays, as_lists, compute_probes, probed_batches
from resjax.probes.table import PROBES
from resjax.runs import checkpoint, files, rundir, weights
from resjax.runs.checkpoint import Checkpoints
from resjax.training.feeds import make_feed
from resjax.training.plan import Plan, make_plan
from resjax.training.state import TrainState, begin_training, create_state


@dataclasses.dataclass(frozen=True)
class Probed:
    """The results of probes for a network.

    Attributes:
      run: the name of the run.
      shortcut: the value of `model.shortcut`.
      step: training steps that the network had taken.
      stages: number of blocks in each stage.
      examples: number of images, at most, that a probe was computed on.
      found: the results, without probes that have none for the network.
    """

    run: str
    shortcut: str
    step: int
    stages: tuple[int, ...]
    examples: int
    found: Arrays

    def recorded(self) -> dict[str, Any]:
        """The results as a dict for `probes.json`."""
        fields = {name: getattr(self, name) for name in ("run", "shortcut", "step", "examples")}
        return fields | {"stages": list(self.stages), "probes": as_lists(self.found)}


def probe_run(
    directory: Path,
    names: list[str] | None = None,
    step: int | None = None,
    examples: int | None = None,
    data: str | None = None,
    tell: Callable[[str], None] = lambda name: None,
) -> Probed:
    """Probes the network of a run in one of its checkpoints, on one device.

    A directory of imported weights has no checkpoint; there, the weights are probed.

    Args:
      directory: the directory of the run.
      names: the names of the probes; all by default.
      step: the step of the checkpoint, or 0 for the network before its first step, which the seed
        decides; by default the newest checkpoint.
      examples: number of images; by default that of the run's config.
      data: the `data.name` to probe imported weights on; by default that of their config.
      tell: called with the name of each probe when it begins.

    Raises:
      ConfigError: if there is no such run or checkpoint, it is damaged, or the data have changed.
    """
    rundir.refuse_no_run(directory)
    config = rundir.rebuild_config(directory)
    config.train.devices, config.train.parallel = 1, "jit"
    imported = step is None and not checkpoint.found(directory)
    if data is not None:
        if not imported:
            raise ConfigError(
                f"--data={data} is for weights that were imported; {directory} is probed on the "
                "data that it was trained on"
            )
        own = dict.fromkeys(("data.train", "data.validation", "data.test"), "")
        config.update_from_flattened_dict({"data.name": data, **own})
    plan, names = make_plan(config), names or list(PROBES)
    _refuse_more_than_there_are(examples, names, plan)
    examples = examples or config.eval.probe_examples
    if imported and (directory / files.WEIGHTS).exists():
        model, state = _imported(directory, plan)
    else:
        model, state = _restored(directory, plan, step)
    feed = make_feed(plan)
    try:
        batches = probed_batches(names, feed, examples)
    finally:
        feed.close()
    found = compute_probes(
        names, model, jax.device_get(state.evaluated()), batches, tell, plan.loss
    )
    return Probed(
        run=run_id(config),
        shortcut=config.model.shortcut,
        step=int(state.step),
        stages=model.spec.stages,
        examples=examples,
        found=found,
    )


def _refuse_more_than_there_are(examples: int | None, names: list[str], plan: Plan) -> None:
    """Raises ConfigError if no probed split has the requested number of examples."""
    sizes = {split: len(plan.source.splits[split]) for split in {PROBES[n].split for n in names}}
    if examples and examples > max(sizes.values()):
        there = " and ".join(f"{size} of {split}" for split, size in sorted(sizes.items()))
        raise ConfigError(f"--examples={examples} is more than there are, {there}; use fewer")


def _imported(directory: Path, plan: Plan) -> tuple[ResNet, TrainState]:
    """The network in a weights file, and a training state with its weights at step 0."""
    read = weights.read_weights(directory)
    classes = len(read.about.class_names)
    if classes != plan.model.classes:
        raise ConfigError(
            f"{directory} tells {classes} classes apart, and {plan.config.data.name} has "
            f"{plan.model.classes}; choose data of its classes by --data=folder:PATH or another"
        )
    dtype = jnp.promote_types(plan.model.dtype, jnp.float32)
    return plan.model, begin_training(read.variables, plan.optimizer, dtype, ema_decay=0.0)


def _restored(directory: Path, plan: Plan, step: int | None) -> tuple[ResNet, TrainState]:
    """The network of a checkpoint, and its training state."""
    if step == 0 and plan.config.train.init_from:
        raise ConfigError(
            f"{directory} starts from the weights of {plan.config.train.init_from}; probe that run"
        )
    found = None if step == 0 else _checkpoint(directory, plan, step)
    grown = found is not None and found[1].grown
    model, config = (not grown and plan.shallow) or plan.model, plan.config
    state = create_state(
        model, plan.optimizer, config.seed, plan.image_shape, config.train.ema_decay
    )
    if found is None:
        # Before the first step there is nothing to average.
        return model, state.replace(average=None)
    checkpoints = Checkpoints(directory, plan.parallel, config.checkpoint.keep)
    try:
        return model, checkpoints.restore(*found, state)
    finally:
        checkpoints.close()


def _checkpoint(directory: Path, plan: Plan, step: int | None) -> tuple[Path, checkpoint.Facts]:
    """The checkpoint of a step, or the newest, and its facts; verified to be of this run."""
    steps = checkpoint.completed(directory)
    there = sorted({checkpoint.step_of(path) for path in steps})
    remedy = f"choose one of: 0 (before training){''.join(f', {step}' for step in there)}"
    if step is None:
        path, facts, complaints = checkpoint.newest(directory)
        if path is None or facts is None:
            damage = f" ({'; '.join(complaints)})" if complaints else ""
            raise ConfigError(f"{directory} has no checkpoint to probe{damage}; {remedy}")
        if complaints:
            raise ConfigError(
                f"{directory}: {complaints[0]}; --checkpoint={checkpoint.step_of(path)} probes the "
                "newest that is whole"
            )
    else:
        path = next((path for path in steps if checkpoint.step_of(path) == step), None)
        if path is None:
            raise ConfigError(f"{directory} has no checkpoint of step {step}; {remedy}")
        facts = checkpoint.verified(path)
    if facts.run != run_id(plan.config):
        raise ConfigError(f"{path} is of another run, {facts.run}; probe the directory of that")
    if facts.data["fingerprint"] != plan.source.fingerprint:
        raise ConfigError(
            f"the data of {plan.config.data.name} have changed since {directory} was begun; bring "
            "back those"
        )
    return path, facts
