"""`resjax train`: the training of one network."""

import argparse
import functools
from pathlib import Path

from resjax.cli.commands import running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.terminal.lines import say
from resjax.config.naming import run_id
from resjax.exits import EXIT_FAILED
from resjax.ops import native
from resjax.process import enable_cache
from resjax.runs.rundir import directory_in


def _arguments(parser: argparse.ArgumentParser) -> None:
    running.add_workdir(parser, "runs/EXPERIMENT/RUN")
    parser.add_argument("--retry", action="store_true", help="resume the run even if it failed")
    running.add_platform(parser)
    running.add_hosts(parser)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    name, _, config, _ = read_experiment(rest)
    native.start_building()  # while JAX is imported and the run is looked at
    from resjax.cli.terminal.live import Display
    from resjax.cli.terminal.plans import print_plan
    from resjax.runs.crashes import Crashed, crashes_recorded
    from resjax.runs.divergence import Diverged
    from resjax.runs.loop import train_and_evaluate
    from resjax.runs.summary import Outcome
    from resjax.sweeps import local
    from resjax.training import hosts
    from resjax.training.plans import Plans

    running.join(options, config)
    workdir = options.workdir or directory_in(Path("runs", name), run_id(config), config)
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
