"""`resjax describe`: the parts and the cost of a network, without training it."""

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment, split_files
from resjax.cli.parsing import filled, path, pixels, whole
from resjax.cli.terminal.lines import say, tell
from resjax.cli.terminal.tables import print_table, text_table
from resjax.config import ConfigError, default_config, flatten
from resjax.config.networks import KNOWN_NAMES, keys_of
from resjax.config.overrides import override
from resjax.config.text import several, space

if TYPE_CHECKING:
    from resjax.models.summary import Description
    from resjax.training.roofline import Estimate


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", type=filled, metavar="NETWORK", help="name of a network, e.g. resnet50")
    add("--classes", type=whole, metavar="N", help="number of classes")
    add("--size", type=pixels, metavar="PIXELS", help="height and width of the images")
    add("--memory", action="store_true",
        help="show the memory of a step of train.batch_size images")  # fmt: skip
    add("--device", type=filled, metavar="NAME",
        help="estimate step time on a100, h100, h200, v3-8, v4-8, v5e-8")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--diagram", type=path, metavar="FILE", help="draw a diagram to FILE.svg, .png and .pdf")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    name, config, overridden, image_shape, classes = _network(options.name, rest)
    if options.size is not None:
        image_shape = (options.size, options.size, image_shape[-1])
    from resjax.models.build import build_model
    from resjax.models.summary import describe
    from resjax.runs.rundir import make_directory

    model = build_model(config, options.classes or classes)
    try:
        description = describe(model, image_shape)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    estimates, memory = {}, {}
    if options.device:
        both = options.name and "model.dtype" not in overridden
        dtypes = ("bfloat16", "float32") if both else (config.model.dtype,)
        estimates = _estimates(options.device, dtypes, config, model.classes, image_shape)
    if options.diagram:
        make_directory(options.diagram.parent)
    if options.memory:
        memory = _memory(config, model.classes, image_shape)
    flat = flatten(config)
    changed = [key for key in overridden if key.startswith(("model.", "norm."))]
    title = ", ".join([name, *(f"{key}={flat[key]}" for key in changed)])
    if options.json:
        fields = dataclasses.asdict(description) | ({"training_memory": memory} if memory else {})
        if estimates:
            fields["estimates"] = {
                dtype: dataclasses.asdict(own) for dtype, own in estimates.items()
            }
        print(json.dumps({"name": name, **fields}, indent=2))
    else:
        _print_description(title, description)
        if estimates:
            _print_estimates(config.train.batch_size, estimates)
        if memory:
            _print_memory(config.train.batch_size, memory)
    if options.diagram:
        from resjax.report.diagram import draw_to

        for path in draw_to(options.diagram, model, image_shape, title):
            tell(f"diagram: {path}")
    return 0


def _network(
    name: str | None, words: list[str]
) -> tuple[str, ConfigDict, list[str], tuple[int, ...], int]:
    """The network that is named, or that of an experiment file, with the overrides of its config.

    Returns its name, its config, the overridden keys, the image shape and the number of classes.
    """
    files, overrides = split_files(words)
    if (name is None) == (not files):
        raise ConfigError("describe takes either a name such as resnet50 or --config=FILE")
    if name is None:
        name, _, config, overridden = read_experiment(words)
        from resjax.training.plan import make_plan

        plan = make_plan(config)
        return name, config, overridden, plan.image_shape, len(plan.source.class_names)
    config = default_config()
    config.model.update(keys_of(name))
    overridden = override(config, overrides)
    for key in overridden:
        if key.startswith("data."):
            raise ConfigError(
                f"{key} has no effect on {name}, a network without data; leave it out, or use "
                "--size and --classes"
            )
    from resjax.models.networks import FAMILIES

    family = FAMILIES[config.model.name]
    return name, config, overridden, family.image_shape, family.classes


def _memory(config: ConfigDict, classes: int, image_shape: tuple[int, ...]) -> dict[str, int]:
    """Bytes of a training step, whose activations are kept, or computed again for the gradient."""
    from resjax.training.benchmark import training_memory

    return {
        what: training_memory(config, classes, image_shape, config.train.batch_size, remat)
        for what, remat in (("kept", False), ("computed_again", True))
    }


def _estimates(
    device: str,
    dtypes: Iterable[str],
    config: ConfigDict,
    classes: int,
    image_shape: tuple[int, ...],
) -> dict[str, "Estimate"]:
    """Estimates of the time of a training step on a device, by dtype."""
    from resjax.training.benchmark import on_made_up_images
    from resjax.training.plan import make_plan
    from resjax.training.roofline import estimate

    found = {}
    for dtype in dtypes:
        made_up = on_made_up_images(config, classes, image_shape, config.train.batch_size)
        made_up.model.dtype = dtype
        found[dtype] = estimate(make_plan(made_up), device)
    return found


def _print_description(name: str, description: "Description") -> None:
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


def _print_memory(batch_size: int, memory: Mapping[str, int]) -> None:
    """Prints the memory that a training step needs besides the state, to stdout."""
    kept, again = (space(memory[what]) for what in ("kept", "computed_again"))
    say(
        f"temporary memory of a training step of {batch_size} images: {kept}, "
        f"with model.remat=True {again}",
    )


def _print_estimates(batch_size: int, estimates: Mapping[str, "Estimate"]) -> None:
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
        "Not measured: for ResNet-50 the estimate is within a factor of 2 of known speeds. "
        "Input and communication between chips are not counted.",
    )


def _names() -> str:
    names = textwrap.fill(", ".join(KNOWN_NAMES), 76, break_on_hyphens=False)
    return f"names:\n{textwrap.indent(names, '  ')}\n"


DESCRIBE = Command(
    summary="show the layers, parameters and multiply-adds of a network",
    usage="NETWORK|--config=FILE[:ARG] [options]",
    run=_run,
    arguments=_arguments,
    experiment=EXPERIMENT,
    overrides=True,
    notes=_names,
    examples=(
        "resjax describe resnet50 --config.model.shortcut=identity --diagram=net.svg",
        "resjax describe resnet50 --config.train.batch_size=1024 --device=v4-8",
        "resjax describe --config=mine.py --config.model.depth=56 --memory",
    ),
)
