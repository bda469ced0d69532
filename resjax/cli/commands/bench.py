"""`resjax bench`: the time that a network takes to compile and train."""

import argparse
import functools

from resjax.cli.commands import running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.parsing import path, seconds, wholes


def _arguments(parser: argparse.ArgumentParser) -> None:
    running.add_platform(parser)
    add = parser.add_argument
    add("--depths", type=wholes, metavar="N,...", help="depths to measure (default: model.depth)")
    add("--seconds", type=seconds, default=5.0, metavar="S",
        help="seconds to measure each depth (default: 5)")  # fmt: skip
    add("--trace", type=path, metavar="DIR", help="write a profile for Perfetto or TensorBoard")
    add("--json", action="store_true", help="print one JSON object per line")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    _, _, config, _ = read_experiment(rest)
    import jax

    from resjax.cli.terminal.plans import Measurements
    from resjax.runs.rundir import make_directory
    from resjax.training import hosts
    from resjax.training.benchmark import measure_training
    from resjax.training.plan import make_plan

    hosts.require_platform(options.platform)
    configs = []
    for depth in options.depths or [config.model.depth]:
        configs.append(config.copy_and_resolve_references())
        configs[-1].model.depth = depth
        make_plan(configs[-1])
    if options.trace:
        make_directory(options.trace)
    # Programs that another process compiled must not be found.
    jax.config.update("jax_enable_compilation_cache", False)
    with Measurements(as_json=options.json) as table:
        for config in configs:
            depth = config.model.depth
            trace = options.trace and options.trace / f"depth-{depth}"
            tell = functools.partial(table.tell, depth)
            table.add(measure_training(config, options.seconds, trace, tell))
    return 0


BENCH = Command(
    summary="measure compilation time and training speed",
    usage="--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    examples=("resjax bench --config=experiments/speed.py:cifar-resnet20 --depths=20,56,110",),
)
