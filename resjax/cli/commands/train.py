"""`resjax train`: the training of one network."""

import argparse
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from resjax.cli.commands import running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.terminal.lines import say, tell
from resjax.config.naming import run_id
from resjax.config.text import several, space
from resjax.exits import EXIT_FAILED
from resjax.ops import native
from resjax.process import enable_cache

if TYPE_CHECKING:
    from resjax.training.plan import Plan


def _arguments(parser: argparse.ArgumentParser) -> None:
    running.add_workdir(parser, "runs/EXPERIMENT/RUN")
    parser.add_argument("--retry", action="store_true", help="resume the run even if it failed")
    running.add_platform(parser)
    running.add_hosts(parser)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    name, _, config, _ = read_experiment(rest)
    native.start_building()  # while JAX is imported and the run is looked at
    from resjax.cli.terminal.live import Display
    from resjax.runs.crashes import Crashed, crashes_recorded
    from resjax.runs.divergence import Diverged
    from resjax.runs.loop import train_and_evaluate
    from resjax.runs.plans import Plans
    from resjax.runs.summary import Outcome
    from resjax.sweeps import local
    from resjax.training import hosts

    running.join(options, config)
    workdir = options.workdir or Path("runs", name, run_id(config))
    directory = running.directory_of(workdir, options.scratch, hosts_joined=True)
    runs, plans = {directory: config}, Plans()
    local.check(runs, plans)
    if hosts.is_first():
        print_plan(plans.of(config))
    enable_cache()
    if options.retry:
        hosts.on_first(lambda: local.forget_failures(runs))
    with Display(runs, silent=not hosts.is_first()) as display:
        outcome = local.wait_for(directory, display)
        if outcome is None:
            display.started(directory)
            try:
                with crashes_recorded(runs) as observing:
                    observe = observing(functools.partial(display.progressed, directory))
                    summary = train_and_evaluate(config, directory, observe, plans)
                outcome = Outcome(directory, summary)
            except (Diverged, Crashed) as error:
                outcome = Outcome(directory, None, str(error))
        display.finished(outcome)
    if hosts.is_first():
        say(f"run: {workdir}")
    return EXIT_FAILED if outcome.error else 0


def print_plan(plan: "Plan") -> None:
    """Prints the devices, the network, its data and its initial weights, to stderr."""
    from resjax.training.benchmark import PASSES

    config, parallel = plan.config, plan.parallel
    batch, examples = config.train.batch_size, plan.batch_norm_examples
    per_device = batch // parallel.count // config.train.micro_batches
    params, multiply_adds = plan.sizes
    kind = parallel.devices[0].device_kind
    none = (
        "BatchNorm by the statistics of its weights"
        if config.norm.frozen
        else "no batch normalisation"
    )
    lines = (
        f"{several(parallel.count, 'device')} ({kind}) on {several(parallel.hosts, 'host')}: "
        f"batches of {batch}, "
        + (f"{config.train.micro_batches} x " if config.train.micro_batches > 1 else "")
        + f"{per_device} on a device, "
        + (f"BatchNorm over {examples} examples" if examples else none),
        f"{config.model.shortcut} {config.model.depth}: {params:,} parameters, "
        f"{PASSES * batch * multiply_adds:,} multiply-adds a step (forward and backward)",
        _fed(plan),
        *_started(plan),
    )
    for line in lines:
        tell(line)


def _started(plan: "Plan") -> list[str]:
    """The line about the weights before the first step; none if they are random."""
    if plan.start is None:
        return []
    line, classes = f"starts from {plan.start.name}", len(plan.source.class_names)
    if plan.start.shallow is not None:
        grown_from, depth = plan.config.train.grow_from, plan.config.model.depth
        line += f", grown from {grown_from} to {depth} layers by blocks that are the identity"
    if plan.start.classes is not None:
        there = f"{plan.start.classes} classes" if plan.start.classes else "none"
        line += f", with a new head: {there} there, {classes} here"
    return [line]


def _fed(plan: "Plan") -> str:
    """The line about the data: the number of training images, and how they reach the device."""
    from resjax.data.source import Split

    data, train = plan.config.data, plan.source.train
    images = f"{data.name}: {len(train):,} images of {'x'.join(map(str, plan.image_shape))}"
    if isinstance(train, Split):
        size = sum(split.images.nbytes for split in plan.source.splits.values())
        return f"{images}, resident: {space(size)} on every device"
    by = f"{data.workers} processes" if data.workers else "a thread"
    return f"{images}, streamed: decoded by {by}"


TRAIN = Command(
    summary="train and evaluate one network",
    usage="--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    notes=running.UNFINISHED,
    resumable=True,
    examples=(
        "resjax train --config=experiments/degradation.py --config.model.depth=32",
        "resjax train --config=mine.py --config.train.duration='30 epochs'",
    ),
)
