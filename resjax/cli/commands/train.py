"""`resjax train`: the training of one network."""

import argparse
import sys
from pathlib import Path

from resjax.cli.commands import running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.terminal.lines import tell
from resjax.config.naming import run_id
from resjax.ops import native


def _arguments(parser: argparse.ArgumentParser) -> None:
    running.add_workdir(parser, "runs/EXPERIMENT/RUN")
    parser.add_argument("--retry", action="store_true", help="go on with it if it has failed, too")
    running.add_platform(parser)
    running.add_hosts(parser)


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    native.start_building()  # while JAX is imported and the run is looked at
    from resjax.cli.terminal.plans import print_plan
    from resjax.sweeps.local import check
    from resjax.training import hosts
    from resjax.training.plans import Plans

    name, _, config, _ = read_experiment(rest)
    running.join(options, config)
    workdir = options.workdir or Path("runs", name, run_id(config))
    directory = Path(hosts.on_first(lambda: running.directory_of(workdir, options.scratch)))
    runs = {directory: config}
    plans = Plans()
    check(runs, plans)
    if hosts.is_first():
        print_plan(plans.of(config))
    code = running.execute(runs, options.retry, plans)
    if hosts.is_first():
        tell(f"run: {workdir}", sys.stdout)
    return code


TRAIN = Command(
    summary="train and evaluate one network",
    usage="--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    notes=running.UNFINISHED,
    goes_on=True,
    examples=(
        "resjax train --config=experiments/degradation.py --config.model.depth=32",
        "resjax train --config=mine.py --config.train.duration='30 epochs'",
    ),
)
