"""`resjax describe`: the parts and the cost of a network, without training it."""

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ml_collections import ConfigDict

from resjax.cli.commands.command import EXPERIMENT, Command
from resjax.cli.commands.experiment import read_experiment, split_files
from resjax.cli.parsing import filled, path, pixels, whole
from resjax.cli.terminal.lines import tell
from resjax.config import ConfigError, default_config, flatten
from resjax.config.networks import KNOWN_NAMES, keys_of
from resjax.config.overrides import override

if TYPE_CHECKING:
    from resjax.training.roofline import Estimate


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", nargs="?", type=filled, metavar="NETWORK", help="name of a network, e.g. resnet50")
    add("--classes", type=whole, metavar="N", help="number of classes")
    add("--size", type=pixels, metavar="PIXELS", help="height and width of the images")
    add("--memory", action="store_true",
        help="show the memory of a step of train.batch_size images")  # fmt: skip
    add("--device", type=filled, metavar="NAME",
        help="estimate step time on a100, h100, v3-8, v4-8, v5e-8")  # fmt: skip
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
        from resjax.cli.terminal.plans import print_description, print_estimates, print_memory

        print_description(title, description)
        if estimates:
            print_estimates(config.train.batch_size, estimates)
        if memory:
            print_memory(config.train.batch_size, memory)
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
