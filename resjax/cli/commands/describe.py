"""`resjax describe`: the parts and the cost of a network, without training it."""

import argparse
import dataclasses
import json
import textwrap
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment
from resjax.cli.parsing import filled, images, path, pixels, whole
from resjax.cli.terminal.lines import tell
from resjax.config import ConfigError
from resjax.config.networks import KNOWN_NAMES, keys_of
from resjax.config.validation import validate

if TYPE_CHECKING:
    from resjax.training.roofline import Estimate


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", type=filled, metavar="NETWORK", help="name of a network, e.g. resnet50")
    add("--shortcut", type=filled, metavar="KIND", help="shortcut (default: that of the network)")
    add("--order", type=filled, metavar="ORDER",
        help="order in a block (default: that of the network)")  # fmt: skip
    add("--stride-in", choices=("3x3", "1x1"), help="layer of a bottleneck that has the stride")
    add("--classes", type=whole, metavar="N", help="number of classes")
    add("--size", type=pixels, metavar="PIXELS", help="height and width of the images")
    add("--memory", type=images, metavar="BATCH",
        help="show the memory of a training step on BATCH images")  # fmt: skip
    add("--device", type=filled, metavar="NAME",
        help="estimate step time on a100, h100, v3-8, v4-8, v5e-8")  # fmt: skip
    add("--batch", type=images, metavar="N",
        help="batch size of that step (default: train.batch_size)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--diagram", type=path, metavar="FILE", help="draw a diagram to FILE.svg, .png and .pdf")


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    if (options.name is None) == (not rest):
        raise ConfigError("describe takes either a name such as resnet50 or --config=FILE")
    if options.batch and not options.device:
        raise ConfigError(
            f"--batch={options.batch} has no effect without --device, which estimates times; add it"
        )
    name, config, image_shape, classes = _network(options.name, rest)
    title = name
    for key in ("shortcut", "order", "stride_in"):
        if (value := getattr(options, key)) is not None:
            config.model[key] = value
            title += f", {key}={value}"
    if options.size is not None:
        image_shape = (options.size, options.size, image_shape[-1])
    validate(config)
    from resjax.models.build import build_model
    from resjax.models.summary import describe
    from resjax.runs.rundir import make_directory

    model = build_model(config, options.classes or classes)
    try:
        description = describe(model, image_shape)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    estimates = _estimates(options, config, model.classes, image_shape) if options.device else {}
    if options.diagram:
        make_directory(options.diagram.parent)
    memory = _memory(options, config, model.classes, image_shape) if options.memory else {}
    if options.json:
        fields = dataclasses.asdict(description) | ({"training_memory": memory} if memory else {})
        if estimates:
            fields["estimates"] = {
                dtype: dataclasses.asdict(own) for dtype, own in estimates.items()
            }
        print(json.dumps({"name": name, **fields}, indent=2))
    else:
        from resjax.cli.terminal.plans import print_description, print_estimates, print_memory

        print_description(title, description)
        if estimates:
            print_estimates(options.batch or config.train.batch_size, estimates)
        if memory:
            print_memory(options.memory, memory)
    if options.diagram:
        from resjax.report.diagram import draw_to

        for path in draw_to(options.diagram, model, image_shape, title):
            tell(f"diagram: {path}")
    return 0


def _network(name: str | None, rest: list[str]) -> tuple[str, ConfigDict, tuple[int, ...], int]:
    """The name, config, image shape and number of classes of a named network or an experiment."""
    if name is not None:
        keys_of(name)  # refuses an unknown one before JAX is loaded
        from resjax.models.build import preset

        return name, *preset(name)
    name, _, config, _ = read_experiment(rest)
    from resjax.training.plan import make_plan

    plan = make_plan(config)
    return name, config, plan.image_shape, len(plan.source.class_names)


def _memory(
    options: argparse.Namespace, config: ConfigDict, classes: int, image_shape: tuple[int, ...]
) -> dict[str, int]:
    """Bytes of a training step, whose activations are kept, or computed again for the gradient."""
    from resjax.training.benchmark import training_memory

    return {
        what: training_memory(config, classes, image_shape, options.memory, remat)
        for what, remat in (("kept", False), ("computed_again", True))
    }


def _estimates(
    options: argparse.Namespace, config: ConfigDict, classes: int, image_shape: tuple[int, ...]
) -> dict[str, "Estimate"]:
    """Estimates by dtype: the config's dtype, or bfloat16 and float32 for a network by name."""
    from resjax.training.benchmark import on_made_up_images
    from resjax.training.plan import make_plan
    from resjax.training.roofline import estimate

    batch_size = options.batch or config.train.batch_size
    found = {}
    for dtype in ("bfloat16", "float32") if options.name else (config.model.dtype,):
        made_up = on_made_up_images(config, classes, image_shape, batch_size)
        made_up.model.dtype = dtype
        found[dtype] = estimate(make_plan(made_up), options.device)
    return found


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
        "resjax describe resnet50 --shortcut=identity --diagram=resnet50.svg",
        "resjax describe --config=mine.py --config.model.depth=56",
        "resjax describe resnet50 --device=v4-8 --batch=1024",
    ),
)
