"""Output about plans, networks and speeds."""

import dataclasses
import json
from collections.abc import Mapping

from resjax.cli.terminal.lines import say, tell
from resjax.cli.terminal.tables import print_table, text_table
from resjax.config.text import several
from resjax.data.source import Split
from resjax.models.summary import Description
from resjax.training.benchmark import PASSES, Measurement
from resjax.training.plan import Plan
from resjax.training.roofline import Estimate


def print_plan(plan: Plan) -> None:
    """Prints the devices, the network, its data and its initial weights, to stderr."""
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


def _started(plan: Plan) -> list[str]:
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


def _fed(plan: Plan) -> str:
    """The line about the data: the number of training images, and how they reach the device."""
    data, train = plan.config.data, plan.source.train
    images = f"{data.name}: {len(train):,} images of {'x'.join(map(str, plan.image_shape))}"
    if isinstance(train, Split):
        size = sum(split.images.nbytes for split in plan.source.splits.values()) / 2**20
        return f"{images}, resident: {size:,.1f} MiB on every device"
    by = f"{data.workers} processes" if data.workers else "a thread"
    return f"{images}, streamed: decoded by {by}"


def print_description(name: str, description: Description) -> None:
    """Prints the sections of a network as a table, to stdout."""
    headings = ("part", "output", "blocks", "parameters", "batch\nstatistics", "multiply-\nadds",
                "receptive\nfield")  # fmt: skip
    table = text_table(headings, words=("part", "output"))
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
    say(
        f"{name}: {description.layers} weighted layers, {description.projections} projections, "
        f"images of {image}",
    )
    print_table(table)


def print_memory(batch_size: int, memory: Mapping[str, int]) -> None:
    """Prints the memory that a training step needs besides the state, to stdout."""
    kept, again = (_megabytes(memory[what]) for what in ("kept", "computed_again"))
    say(
        f"temporary memory of a training step of {batch_size} images: {kept}, "
        f"with model.remat=True {again}",
    )


def print_estimates(batch_size: int, estimates: Mapping[str, Estimate]) -> None:
    """Prints the estimated time of a training step by dtype, to stdout."""
    device = next(iter(estimates.values())).device
    headings = ("dtype", "step ms", "images/s", "waits for")
    table = text_table(headings, words=("dtype", "waits for"))
    for dtype, own in estimates.items():
        waits = sorted(own.seconds.items(), key=lambda item: -item[1])
        table.add_row(
            dtype,
            f"{1e3 * own.step_seconds:.3g}",
            f"{own.images_per_second:,.0f}",
            ", ".join(f"{what} {took / own.step_seconds:.0%}" for what, took in waits),
        )
    say(
        f"estimate for {device.name}, {several(device.count, 'chip')}, steps of {batch_size} "
        "images, from the arithmetic and the memory traffic of the program",
    )
    print_table(table)
    say(
        "Not measured: for ResNet-50 the estimate is within a factor of 2 of published speeds. "
        "Input and communication between chips are not counted.",
    )


def _megabytes(number: int) -> str:
    """Formats bytes in megabytes, such as "1,700 MB"; with a decimal below 10 MB."""
    return f"{number / 1e6:,.{0 if number >= 10e6 else 1}f} MB"


class Measurements:
    """Output of speeds: a table at the end, or a line of JSON after each measurement.

    It is a context manager, and prints to stderr what is being measured.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json
        self.measured: list[Measurement] = []

    def __enter__(self) -> "Measurements":
        return self

    def __exit__(self, *_: object) -> None:
        if self.measured and not self.as_json:
            self._print()

    def tell(self, depth: int, doing: str) -> None:
        tell(f"{doing} {depth} layers")

    def add(self, measurement: Measurement) -> None:
        self.measured.append(measurement)
        if self.as_json:
            fields = dataclasses.asdict(measurement)
            print(json.dumps(fields | {"share_of_peak": measurement.share_of_peak}), flush=True)

    def _print(self) -> None:
        table = text_table((
            "depth", "parameters", "compile\ns", "step\nms", "10 % to\n90 %", "images\nper s",
            "memory\nMB", "GFLOP/s", "of\npeak",
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
