"""What a person is told of plans, networks, speeds, reports and the state of runs."""

import collections
import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from resjax.config import flatten
from resjax.data.source import Split
from resjax.live import clock, status_rows
from resjax.models.summary import Description
from resjax.probes.record import Probed
from resjax.report.probes import arrays_by_block
from resjax.report.report import Report
from resjax.report.tables import HEADER, rows
from resjax.sweeps.doctor import Finding
from resjax.sweeps.estimate import Work
from resjax.sweeps.ledger import Ledger
from resjax.sweeps.status import ENDED, Status, count
from resjax.training.benchmark import PASSES, Measurement
from resjax.training.plan import Plan
from resjax.training.rundir import DONE


def print_plan(plan: Plan) -> None:
    """What will run and on what, to stderr."""
    config, parallel = plan.config, plan.parallel
    batch, examples = config.train.batch_size, plan.batch_norm_examples
    per_device = batch // parallel.count // config.train.micro_batches
    params, multiply_adds = plan.sizes
    kind = parallel.devices[0].device_kind
    lines = (
        f"{_several(parallel.count, 'device')} ({kind}) on {_several(parallel.hosts, 'host')}: "
        f"batches of {batch}, "
        + (f"{config.train.micro_batches} x " if config.train.micro_batches > 1 else "")
        + f"{per_device} on a device, "
        + ("no batch normalisation" if examples is None else f"BatchNorm over {examples} examples"),
        f"{config.model.shortcut} {config.model.depth}: {params:,} parameters, "
        f"{PASSES * batch * multiply_adds:,} multiply-adds a step (forward and backward)",
        _fed(plan),
        *_started(plan),
    )
    console = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(line)


def _started(plan: Plan) -> list[str]:
    """What the weights are before the first step, if they are not drawn."""
    if plan.start is None:
        return []
    line, classes = f"starts from {plan.start.path}", len(plan.source.class_names)
    if plan.start.shallow is not None:
        grown_from, depth = plan.config.train.grow_from, plan.config.model.depth
        line += f", grown from {grown_from} to {depth} layers by blocks that are the identity"
    if plan.start.classes is not None:
        line += f", with a new head: {plan.start.classes} classes there, {classes} here"
    return [line]


def _fed(plan: Plan) -> str:
    """Where the images are, and how many there are to train on."""
    data, train = plan.config.data, plan.source.train
    images = f"{data.name}: {len(train):,} images of {'x'.join(map(str, plan.image_shape))}"
    if isinstance(train, Split):
        size = sum(split.images.nbytes for split in plan.source.splits.values()) / 2**20
        return f"{images}, resident: {size:,.1f} MiB on every device"
    by = f"{data.workers} processes" if data.workers else "a thread"
    return f"{images}, streamed: decoded by {by}"


def _several(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def print_description(name: str, description: Description) -> None:
    """The sections of a network as a table, to stdout."""
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("part", "output", "blocks", "parameters", "batch\nstatistics",
                    "multiply-\nadds", "receptive\nfield"):  # fmt: skip
        left = heading in ("part", "output")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for section in description.sections:
        table.add_row(
            section.name,
            "x".join(map(str, section.output)),
            str(section.blocks or ""),
            f"{section.params:,}",
            f"{section.batch_stats:,}",
            f"{section.multiply_adds:,}",
            "" if section.receptive_field is None else str(section.receptive_field),
        )
    totals = (description.params, description.batch_stats, description.multiply_adds)
    table.add_row("total", "", "", *(f"{total:,}" for total in totals), "")
    image = "x".join(map(str, description.image_shape))
    console.print(
        f"{name}: {description.layers} weighted layers, {description.projections} projections, "
        f"images of {image}",
        soft_wrap=True,
    )
    _print_whole(console, table)


def print_memory(batch_size: int, memory: Mapping[str, int]) -> None:
    """What a training step needs beside the state, to stdout."""
    console = Console(highlight=False, markup=False)
    kept, again = (f"{memory[what] / 1e6:,.0f} MB" for what in ("kept", "computed_again"))
    console.print(
        f"temporary memory of a training step of {batch_size} images: {kept}, "
        f"with model.remat=True {again}",
        soft_wrap=True,
    )


class Measurements:
    """Speeds as they are measured: a table when all are, or a line of JSON for each at once.

    A context manager; what is being done is told on stderr.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.console = Console(highlight=False, markup=False)
        self.progress = Console(file=sys.stderr, highlight=False, markup=False, soft_wrap=True)
        self.measured: list[Measurement] = []

    def __enter__(self) -> "Measurements":
        return self

    def __exit__(self, *_: object) -> None:
        if self.measured and not self.as_json:
            self._print()

    def tell(self, doing: str) -> None:
        self.progress.print(f"{doing} network {len(self.measured) + 1}")

    def add(self, measurement: Measurement) -> None:
        self.measured.append(measurement)
        if self.as_json:
            fields = dataclasses.asdict(measurement)
            print(json.dumps(fields | {"share_of_peak": measurement.share_of_peak}), flush=True)

    def _print(self) -> None:
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for heading in ("depth", "parameters", "compile\ns", "step\nms", "10 % to\n90 %",
                        "images\nper s", "memory\nMB", "GFLOP/s", "of\npeak"):  # fmt: skip
            table.add_column(heading, justify="right", no_wrap=True)
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
        self.console.print(
            f"batches of {one.batch_size} on {one.device}; peak is a matrix product, "
            f"{one.peak_flops_per_second / 1e9:,.0f} GFLOP/s",
            soft_wrap=True,
        )
        _print_whole(self.console, table)


def print_report(report: Report) -> None:
    """The tables, the verdicts and where the files are, to stdout."""
    console = Console(highlight=False, markup=False)
    whole = not console.is_terminal  # a file keeps a sentence on its line
    for section in report.sections:
        title = section.table.title if len(report.sections) > 1 else None
        table = Table(title=title, box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for name in HEADER:
            left = name == "shortcut"
            table.add_column(
                name.replace(" ", "\n", 1), justify="left" if left else "right", no_wrap=True
            )
        for arm in section.table.arms:
            for row in rows(arm.cells):
                table.add_row(*(value.replace(" ± ", "±") for value in row))
            table.add_row()
        _print_whole(console, table)
        for verdict in section.verdicts:
            style = "bold" if verdict.degrades else None
            console.print(verdict.line, style=style, soft_wrap=whole)
        for line in section.notes:
            console.print(line, soft_wrap=whole)
        console.print()
    for run in report.missing:
        console.print(f"not in the table: {run.name} ({run.state})", soft_wrap=True)
    for section in report.sections:
        for figure in section.figures[:1]:
            console.print(f"figure: {figure.with_suffix('.png')}", soft_wrap=True)
    console.print(f"report: {report.directory / 'index.html'}", soft_wrap=True)


def print_probed(probed: Probed, directory: Path) -> None:
    """First, middle and last block of every array, and where the files are, to stdout."""
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("probe", "array", "first", "middle", "last"):
        left = heading in ("probe", "array")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for probe in probed.found:
        for name, array in arrays_by_block(probed, probe).items():
            values = (array[0], array[len(array) // 2], array[-1])
            table.add_row(probe, name, *map(_few, values))
    console.print(
        f"{probed.run} at step {probed.step}: {sum(probed.stages)} blocks, by the first "
        f"{probed.examples} examples",
        soft_wrap=True,
    )
    _print_whole(console, table)
    console.print(f"arrays and figures: {directory}", soft_wrap=True)


def _few(values: np.ndarray) -> str:
    """A number, or those of the layers of a block."""
    return " ".join(f"{value:.3g}" for value in np.ravel(values))


def print_findings(findings: list[Finding]) -> None:
    """Two lines for every run, and how many there are of each state, to stdout."""
    console = Console(highlight=False, markup=False)
    for found in findings:
        step = "" if found.step is None else f" at step {found.step}"
        age = "" if found.age is None else f", {_ago(found.age)}"
        count = f"{_several(len(found.whole), 'checkpoint')}"
        console.print(
            f"{found.directory.name}: {found.state}{step}{age}, {found.size / 1e6:.1f} MB, {count}",
            style="bold" if found.state != DONE or found.damaged else None,
            soft_wrap=True,
        )
        lines = [*found.damaged, *(f"partial: {path.name}" for path in found.partial)]
        if found.why:
            lines.append(found.why + (f"; {found.advice}" if found.advice else ""))
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)
    states = collections.Counter(found.state for found in findings)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    console.print(f"{_several(len(findings), 'run')}: {counts}", soft_wrap=True)
    if any(found.partial for found in findings):
        console.print("what is partial is never read; --repair removes it", soft_wrap=True)


def print_removed(paths: list[Path]) -> None:
    """What a repair has removed, to stderr."""
    for path in paths:
        print(f"removed: {path}", file=sys.stderr)


def _ago(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return "just now"


def _print_whole(console: Console, table: Table) -> None:
    """Prints a table in the columns it needs, also where there are fewer: no number is cut off."""
    options = console.options.update(max_width=10_000)
    before = console.width
    console.width = max(before, table.__rich_measure__(console, options).maximum)
    console.print(table, crop=False, no_wrap=True)
    console.width = before


NAMED = frozenset({"model.depth", "model.shortcut", "seed"})
"""Keys that the name of a run has."""


def varying(runs: Mapping[Path, ConfigDict]) -> dict[Path, str]:
    """For each run of a grid its settings that most others do not have, nor its name tells."""
    flat = {directory: flatten(config) for directory, config in runs.items()}
    keys = [key for key in next(iter(flat.values())) if key not in NAMED]
    usual = {
        key: collections.Counter(str(settings[key]) for settings in flat.values()).most_common(1)
        for key in keys
    }
    return {
        directory: " ".join(
            f"{key}={settings[key]}" for key in keys if str(settings[key]) != usual[key][0][0]
        )
        for directory, settings in flat.items()
    }


PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def _operations(number: float) -> str:
    """Three digits and a prefix, such as "1.96 T"."""
    power = min(len(PREFIXES) - 1, max(0, math.floor(math.log10(max(number, 1)) / 3)))
    return f"{number / 1000**power:.3g} {PREFIXES[power]}"


def print_statuses(statuses: list[Status], line: str, cost: Ledger) -> None:
    """A row for each run, a line about all and one about what they have cost, to stdout."""
    console = Console(highlight=False, markup=False)
    table = status_rows(statuses)
    _print_whole(console, table)
    for status in statuses:
        if status.why:
            console.print(f"{status.directory.name}: {status.why}", soft_wrap=True)
    console.print(line, soft_wrap=True)
    console.print(
        f"{cost.device_seconds:,.1f} device seconds, {cost.compile_seconds:,.1f} s of compilation; "
        f"{cost.lost_seconds:,.1f} s lost to {_several(cost.interruptions, 'interruption')}",
        soft_wrap=True,
    )


def print_dry_run(
    runs: Mapping[Path, ConfigDict],
    statuses: list[Status],
    work: Mapping[Path, Work],
    seconds: Mapping[Path, float | None],
) -> None:
    """The runs of a grid, what they are and what they will take, to stdout."""
    settings = varying(runs)
    console = Console(highlight=False, markup=False)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("run", "state", "parameters", "multiply-\nadds", "training\nFLOP", "time",
                 *([""] if any(settings.values()) else [])):  # fmt: skip
        left = name in ("run", "state", "")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for status in statuses:
        own, takes = work[status.directory], seconds[status.directory]
        table.add_row(
            status.directory.name,
            status.state,
            f"{own.params:,}",
            f"{own.multiply_adds:,}",
            _operations(2 * own.total),
            "" if takes is None else clock(takes),
            *([settings[status.directory]] if any(settings.values()) else []),
        )
    _print_whole(console, table)
    left = [status.directory for status in statuses if status.state not in ENDED]
    known = [takes for run in left if (takes := seconds[run]) is not None]
    total = f"{_operations(sum(2 * work[run].total for run in left))}FLOP"
    if left and len(known) == len(left):
        total += f", {clock(sum(known))} one after another at the speed of those that are done"
    console.print(
        f"{_several(len(statuses), 'run')}: {count(statuses)}"
        + (f"; {len(left)} to train: {total}" if left else ""),
        soft_wrap=True,
    )
