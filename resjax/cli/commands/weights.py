"""The commands on weights: import, export, evaluate, predict."""

import argparse
import dataclasses
import json
from contextlib import AbstractContextManager
from pathlib import Path

from ml_collections import ConfigDict

from resjax.cli.commands.command import DEFINITIONS, Command
from resjax.cli.commands.experiment import definitions
from resjax.cli.parsing import filled, path, path_or_address, whole
from resjax.cli.terminal.lines import say
from resjax.config import ConfigError
from resjax.config.overrides import override
from resjax.process import enable_cache
from resjax.runs.rundir import refuse_absent

NOTES = """\
FILE is a safetensors file or a PyTorch checkpoint, of which only the tensors
are read. The classes and the preprocessing of images are taken from the
metadata of files that resjax exported, and from the JSON files that
transformers and timm write beside theirs. Otherwise the usual preprocessing is
assumed; change it with --config.data.KEY=VALUE:
  --config.data.resize=232 --config.data.interpolation=bicubic
"""


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=path_or_address, metavar="DIR|FILE",
        help="run directory or weights file, or gs://, s3://, az://",
    )  # fmt: skip
    _add_choice(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", default="", metavar="NAME",
        help="network in a file with several; ema: moving average",
    )  # fmt: skip


def _reading(options: argparse.Namespace) -> AbstractContextManager[Path]:
    """A context with the path of the named weights, or of a local copy of them."""
    if isinstance(options.source, Path):
        refuse_absent(options.source)
    from resjax.buckets.places import reading_file
    from resjax.interop.sidecars import SIDECARS
    from resjax.runs import needed

    return reading_file(options.source, needed.weights, beside=SIDECARS)


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=path, metavar="FILE", help="weights file")
    add("--out", type=path, required=True, metavar="DIR", help="directory of the new run")
    add("--class-names", type=path, metavar="FILE", help="class names, one per line")
    _add_choice(parser)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    add = parser.add_argument
    add("--out", type=path, required=True, metavar="FILE",
        help=".safetensors, or .stablehlo for a portable function")  # fmt: skip
    add("--names", type=filled, metavar="NAMES",
        help="for .safetensors: naming scheme of the tensors; see below")  # fmt: skip
    add("--fold", action="store_true", help="for .stablehlo: fold normalisations into layers")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    add = parser.add_argument
    add("--data", type=filled, metavar="NAME", help="data set (default: that of the run)")
    add("--split", type=filled, metavar="SLICE",
        help="e.g. test or train[:1000] (default: data.test)")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    add = parser.add_argument
    add("images", type=path, nargs="+", metavar="IMAGE", help="image files")
    add("--top", type=whole, default=5, metavar="N", help="number of classes to show (default: 5)")
    add("--json", action="store_true", help="print one JSON object per image")


def _import(options: argparse.Namespace, rest: list[str]) -> int:
    refuse_absent(options.file, "a file of weights")
    from resjax.cli.terminal.weights import print_imported
    from resjax.interop.class_names import read_class_names
    from resjax.interop.importing import import_file, refuse_taken, write_run

    refuse_taken(options.out)
    names = read_class_names(options.class_names) if options.class_names else ()
    imported = import_file(
        options.file, lambda config: override(config, rest), names, options.weights
    )
    write_run(options.out, imported, options.file)
    print_imported(imported, options.file)
    say(f"run: {options.out}")
    return 0


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    with definitions(rest) as overrides, _reading(options) as source:
        from resjax.interop.exporting import export, refuse_unfit
        from resjax.interop.importing import read_any

        refuse_unfit(options.out, options.names, options.fold)
        weights = read_any(
            source, lambda config: override(config, overrides), options.weights
        ).weights
        say(export(weights, options.out, options.names, options.fold))
    return 0


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    own = []

    def chosen(config: ConfigDict) -> list[str]:
        own.append(config.data.name)
        if options.data and options.data != config.data.name:
            config.data.name, config.data.test = options.data, ""
        config.data.test = options.split or config.data.test
        return override(config, overrides)

    with definitions(rest) as overrides, _reading(options) as source:
        from resjax.cli.terminal.weights import print_imported, print_scores
        from resjax.interop.importing import read_any
        from resjax.interop.scoring import evaluate

        imported = read_any(source, chosen, options.weights)
        config = imported.weights.about.config
        enable_cache()
        trained = config.data.name in own
        scores = evaluate(imported.weights, config.data, config.eval.batch_size, trained)
    if source.is_file():
        print_imported(imported, options.source)
    if options.json:
        print(json.dumps(dataclasses.asdict(scores), indent=2))
    else:
        print_scores(scores, config.data)
    return 0


def _predict(options: argparse.Namespace, rest: list[str]) -> int:
    for image in options.images:
        refuse_absent(image, "an image")
        if image.is_dir():
            raise ConfigError(f"{image} is a directory; name images in it, such as {image}/*.png")
    with definitions(rest) as overrides, _reading(options) as source:
        from resjax.cli.terminal.weights import print_imported, print_predictions
        from resjax.interop.importing import read_any
        from resjax.interop.predicting import predict

        imported = read_any(source, lambda config: override(config, overrides), options.weights)
        enable_cache()
        data = imported.weights.about.config.data
        found = predict(imported.weights, data, options.images, options.top)
    if source.is_file():
        print_imported(imported, options.source)
    print_predictions(found, options.json)
    return 0


IMPORT = Command(
    summary="convert weights of another framework to a run",
    usage="FILE --out=DIR [options]",
    run=_import,
    arguments=_import_arguments,
    overrides=True,
    notes="Weights of torchvision, timm, transformers and akamaster are recognised.\n" + NOTES,
    examples=("resjax import resnet50.safetensors --out=runs/resnet50",),
)

EXPORT = Command(
    summary="convert the weights of a run for another framework",
    usage="DIR|FILE --out=FILE [options]",
    run=_export,
    arguments=_export_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes="NAMES is torchvision, timm, timm-v2, timm-v2d, transformers, akamaster or\n"
    "transformers-backbone. The preprocessing of images is written to the metadata\n"
    "of the file. A .stablehlo file is a function of batches of any size, and can be\n"
    "written for every network.\n",
    examples=(
        "resjax export runs/resnet50 --out=back.safetensors --names=torchvision",
        "resjax export runs/resnet50 --out=resnet50.stablehlo --fold",
    ),
)

EVALUATE = Command(
    summary="evaluate a network on a data set",
    usage="DIR|FILE [options]",
    run=_evaluate,
    arguments=_evaluate_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes=NOTES,
    examples=("resjax evaluate resnet50.safetensors --data=folder:photos --split=train",),
)

PREDICT = Command(
    summary="classify images",
    usage="DIR|FILE IMAGE ... [options]",
    run=_predict,
    arguments=_predict_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes="Images are resized and cropped to the size that the network takes, and\n"
    "converted to grey or colour. For a network trained on digits, they show a light\n"
    "digit on a dark background, as the data set does.\n\n" + NOTES,
    examples=("resjax predict runs/resnet50 cat.jpg dog.jpg",),
)
