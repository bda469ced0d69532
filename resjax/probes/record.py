"""Results of probes: for a given network, at the evaluations of a run, and for a checkpoint."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resjax.config import ConfigError
from resjax.config.naming import run_id
from resjax.data.resident import Batch
from resjax.models.resnet import ResNet
from resjax.models.trace import variable_shapes
from resjax.probes.table import PROBES, chosen
from resjax.runs import checkpoint, disk, rundir, weights
from resjax.runs.checkpoint import Checkpoints
from resjax.training import hosts
from resjax.training.feeds import Feed, make_feed
from resjax.training.losses import Loss
from resjax.training.plan import Plan, make_plan
from resjax.training.programs import program
from resjax.training.state import TrainState, begin_training, create_state

Arrays = dict[str, dict[str, np.ndarray]]
"""Results of probes, {probe: {name: array}}."""


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
        """The results as a dict that JSON can hold."""
        fields = {name: getattr(self, name) for name in ("run", "shortcut", "step", "examples")}
        return fields | {"stages": list(self.stages), "probes": as_lists(self.found)}


def compute_probes(
    names: list[str],
    model: ResNet,
    variables: Any,
    batches: dict[str, Batch],
    begin: Callable[[str], None],
    loss: Loss,
) -> Arrays:
    """Computes probes by name, of the loss that the run trains with.

    `batches` are by split, and `begin(name)` is called before each probe.

    Probes that have no result for the network are left out.
    """
    found = {}
    for name in names:
        begin(name)
        arguments = variables, batches[PROBES[name].split]
        parts = PROBES[name].measure, PROBES[name].of_loss, loss, model
        arrays = program(_measured, parts, arguments)(*arguments)
        if arrays:
            found[name] = jax.device_get(arrays)
    return found


def _measured(
    measure: Callable, of_loss: bool, loss: Loss, model: ResNet, variables: Any, batch: Batch
) -> dict[str, jax.Array]:
    return measure(model, variables, batch, **({"loss": loss} if of_loss else {}))


def refuse_broken_probes(plan: Plan) -> None:
    """Traces the probes of a run that are not of resjax, before anything is trained.

    Raises:
      ConfigError: if one gives anything but {name: array} with a row for each block, or a scalar.
    """
    blocks, examples = sum(plan.model.spec.stages), plan.config.eval.probe_examples
    images = jax.ShapeDtypeStruct((examples, *plan.image_shape), jnp.float32)
    batch = Batch(images, jax.ShapeDtypeStruct((examples,), jnp.int32))
    for name in chosen(plan.config.eval.probes, "eval.probes"):
        if name not in PROBES.files:
            continue
        probe = PROBES[name]
        parts = probe.measure, probe.of_loss, plan.loss, plan.model
        variables = variable_shapes(plan.model, plan.image_shape)
        found = jax.eval_shape(functools.partial(_measured, *parts), variables, batch)
        if not isinstance(found, dict):
            raise ConfigError(
                f"the probe {name} gives {type(found).__name__}; return a dict {{name: array}}"
            )
        for what, array in found.items():
            if probe.by_block and array.shape[:1] not in ((), (blocks,)):
                raise ConfigError(
                    f"{what} of the probe {name} has shape {array.shape}; return a scalar, or a "
                    f"row for each of the {blocks} blocks"
                )


def as_lists(found: Arrays) -> dict[str, dict[str, Any]]:
    """Converts arrays to lists of numbers, with None for numbers that are not finite."""
    return {
        probe: {name: _finite(np.asarray(array).tolist()) for name, array in arrays.items()}
        for probe, arrays in found.items()
    }


class Recorder:
    """Adds a line to `probes.jsonl` at every evaluation of a run whose config names probes.

    A line is written before the run counts its evaluation as done. When a run is resumed, lines of
    later evaluations are removed, as the run repeats these. So each evaluation has one line,
    however often the run is interrupted.

    Args:
      plan: the plan of the run.
      directory: the directory of the run.
      feed: the feed of its images.
      evaluated: number of steps at the last evaluation that the run counts as done.
      between: called before every probe.
    """

    def __init__(
        self,
        plan: Plan,
        directory: Path,
        feed: Feed,
        evaluated: int,
        between: Callable[[], None],
    ):
        self.names = chosen(plan.config.eval.probes, "eval.probes")
        self.path, self.between, self.loss = directory / rundir.PROBES_FILE, between, plan.loss
        if self.names:
            self.batches = _batches(self.names, feed, plan.config.eval.probe_examples)
        if hosts.is_first() and self.path.exists():
            kept = (line for line in self._lines() if line["step"] <= evaluated)
            disk.write_lines(self.path, kept)

    def record(self, model: ResNet, state: TrainState, step: int) -> None:
        """Probes the network that was just evaluated; every host does, and the first one writes."""
        if not self.names:
            return
        variables = jax.device_get(state.evaluated())
        found = compute_probes(
            self.names, model, variables, self.batches, lambda _: self.between(), self.loss
        )
        if hosts.is_first():
            disk.append_line(self.path, {"step": step, **as_lists(found)})

    def _lines(self) -> list[dict[str, Any]]:
        try:
            return disk.read_lines(self.path)
        except ConfigError as error:
            reason = str(error).partition("; ")[0]
            raise ConfigError(f"{reason}; remove it, and the run goes on without it") from None


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
    if imported and (directory / weights.FILE).exists():
        model, state = _imported(directory, plan)
    else:
        model, state = _restored(directory, plan, step)
    feed = make_feed(plan)
    try:
        batches = _batches(names, feed, examples)
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
    """Raises ConfigError if none of the splits to be probed has as many examples as asked for."""
    sizes = {split: len(plan.source.splits[split]) for split in {PROBES[n].split for n in names}}
    if examples and examples > max(sizes.values()):
        there = " and ".join(f"{size} of {split}" for split, size in sorted(sizes.items()))
        raise ConfigError(f"--examples={examples} is more than there are, {there}; use fewer")


def _imported(directory: Path, plan: Plan) -> tuple[ResNet, TrainState]:
    """The network of a file of weights, and a training state with them at step 0."""
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
    if step == 0 and plan.start:
        raise ConfigError(
            f"{directory} starts from the weights of {plan.config.train.init_from}; probe that run"
        )
    path, facts = (None, None) if step == 0 else _checkpoint(directory, plan, step)
    shallow = plan.shallow and not (facts and facts.grown)
    model, config = plan.shallow if shallow else plan.model, plan.config
    state = create_state(
        model, plan.optimizer, config.seed, plan.image_shape, config.train.ema_decay
    )
    if path is None:
        # Before the first step there is nothing to average.
        return model, state.replace(average=None)
    checkpoints = Checkpoints(directory, plan.parallel, config.checkpoint.keep)
    try:
        return model, checkpoints.restore(path, facts, state)
    finally:
        checkpoints.close()


def _checkpoint(directory: Path, plan: Plan, step: int | None) -> tuple[Path, checkpoint.Facts]:
    """The checkpoint of a step, or the newest, with its facts: verified, of this run and data."""
    steps = [path for path in checkpoint.found(directory) if not checkpoint.is_partial(path)]
    there = sorted({int(path.name.partition(".")[0]) for path in steps})
    remedy = f"choose one of: 0 (before training){''.join(f', {step}' for step in there)}"
    if step is None:
        path, facts, complaints = checkpoint.newest(directory)
        if path is None:
            damage = f" ({'; '.join(complaints)})" if complaints else ""
            raise ConfigError(f"{directory} has no checkpoint to probe{damage}; {remedy}")
        if complaints:
            raise ConfigError(
                f"{directory}: {complaints[0]}; --checkpoint={path.name.partition('.')[0]} probes "
                "the newest that is whole"
            )
    else:
        path = next((path for path in steps if path.name.partition(".")[0] == str(step)), None)
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


def _batches(names: list[str], feed: Feed, examples: int) -> dict[str, Batch]:
    """The first images of each split that the probes use, as evaluation sees them, by split."""
    splits = {PROBES[name].split for name in names}
    return {split: jax.device_get(feed.first_examples(split, examples)) for split in splits}


def _finite(values: Any) -> Any:
    if isinstance(values, list):
        return list(map(_finite, values))
    return values if math.isfinite(values) else None
