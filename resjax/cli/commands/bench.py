"""`resjax bench`: the time that a network takes to compile and train."""

import argparse
import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Self

from resjax.cli.commands import running
from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.parsing import path, seconds, wholes
from resjax.cli.terminal.lines import say, tell
from resjax.cli.terminal.tables import print_table, text_table
from resjax.config.text import several

if TYPE_CHECKING:
    from resjax.training.benchmark import Measurement


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


class Measurements:
    """Output of speeds: a table at the end, or a line of JSON after each measurement.

    It is a context manager, and prints to stderr what is being measured.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.measured: list[Measurement] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.measured and not self.as_json:
            self._print()

    def tell(self, depth: int, doing: str) -> None:
        tell(f"{doing} {depth} layers")

    def add(self, measurement: "Measurement") -> None:
        self.measured.append(measurement)
        if self.as_json:
            fields = dataclasses.asdict(measurement)
            print(json.dumps(fields | {"share_of_peak": measurement.share_of_peak}), flush=True)

    def _print(self) -> None:
        table = text_table((
            "depth", "parameters", "compile\ns", "step\nms", "step ms, 10 %\nto 90 % quantile",
            "images\nper s", "memory\nMB", "GFLOP/s", "of\npeak",
        ))  # fmt: skip
        for each in self.measured:
            low, high = each.step_ms_spread
            table.add_row(
                str(each.depth),
                f"{each.params:,}",
                f"{each.compile_seconds:.1f}",
                f"{each.step_ms:.1f}",
                f"{low:.1f} to {high:.1f}",
                f"{each.images_per_second:,.0f}",
                f"{each.peak_memory_bytes / 1e6:,.0f}",
                f"{each.flops_per_second / 1e9:,.0f}",
                f"{100 * each.share_of_peak:.0f} %",
            )
        one = self.measured[0]
        say(
            f"batches of {one.batch_size} on {several(one.devices, 'device')} ({one.device}); "
            f"peak is a matrix product, {one.peak_flops_per_second / 1e9:,.0f} GFLOP/s",
        )
        print_table(table)


BENCH = Command(
    summary="measure compilation time and training speed",
    usage="--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    examples=("resjax bench --config=experiments/speed.py:cifar-resnet20 --depths=20,56,110",),
)
