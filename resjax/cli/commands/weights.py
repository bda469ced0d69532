"""The commands on weights: import, export, evaluate, predict."""

import argparse
import dataclasses
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from ml_collections import ConfigDict

from resjax.cli.commands.command import DEFINITIONS, Command
from resjax.cli.commands.experiment import definitions
from resjax.cli.parsing import filled, path, path_or_address, whole
from resjax.cli.terminal.lines import tell
from resjax.config.overrides import override
from resjax.process import enable_cache
from resjax.runs.rundir import refuse_absent

NOTES = """\
files: safetensors, or checkpoints of PyTorch whatever their suffix, of which
only the tensors are read. What resjax exported says in its metadata its
classes and how images are prepared, and JSON files beside one do, as
transformers and timm write them; otherwise this is assumed as usual, and
changed with --config.data.KEY=VALUE:
  --config.data.resize=232 --config.data.interpolation=bicubic
"""


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=path_or_address, metavar="DIR|FILE",
        help="a run, or a file of weights; also gs://BUCKET/PATH",
    )  # fmt: skip
    _add_choice(parser)


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", default="", metavar="NAME",
        help="which of several networks in a file; ema is the average",
    )  # fmt: skip


def _reading(options: argparse.Namespace) -> AbstractContextManager[Path]:
    """A context with the path of the weights that are named, or that of a copy."""
    if isinstance(options.source, Path):
        refuse_absent(options.source)
    from resjax.buckets.places import reading_file
    from resjax.interop.beside import FILES
    from resjax.runs import needed

    return reading_file(options.source, needed.weights, beside=FILES)


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=path, metavar="FILE", help="a file of weights")
    parser.add_argument(
        "--out", type=path, required=True, metavar="DIR", help="directory of the run"
    )
    parser.add_argument(
        "--class-names", type=path, metavar="FILE", help="names of the classes, one a line"
    )
    _add_choice(parser)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument(
        "--out", type=path, required=True, metavar="FILE",
        help=".safetensors, or .stablehlo: a compiled function",
    )  # fmt: skip
    parser.add_argument(
        "--names", type=filled, metavar="NAMES", help="whose names the tensors get; see below"
    )
    parser.add_argument(
        "--fold", action="store_true", help="put normalisations into the layers before"
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument(
        "--data", type=filled, metavar="NAME", help="images to take (default: the run's)"
    )
    parser.add_argument(
        "--split", type=filled, metavar="SLICE", help="as test or train[:1000] (default: data.test)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("images", type=path, nargs="+", metavar="IMAGE", help="files of images")
    parser.add_argument(
        "--top", type=whole, default=5, metavar="N", help="classes to tell (default: 5)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _import(options: argparse.Namespace, rest: list[str]) -> int:
    refuse_absent(options.file, "a file of weights")
    from resjax.cli.terminal.weights import print_imported
    from resjax.interop.importing import import_file, read_names, write_run

    names = read_names(options.class_names) if options.class_names else ()
    imported = import_file(
        options.file, lambda config: override(config, rest), names, options.weights
    )
    write_run(options.out, imported, options.file)
    print_imported(imported, options.file)
    tell(f"run: {options.out}", sys.stdout)
    return 0


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    with definitions(rest) as overrides, _reading(options) as source:
        from resjax.interop.exporting import export
        from resjax.interop.importing import read_any

        weights = read_any(
            source, lambda config: override(config, overrides), options.weights
        ).weights
        tell(export(weights, options.out, options.names, options.fold), sys.stdout)
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
    summary="make a run of weights of another framework",
    usage="FILE --out=DIR [options]",
    run=_import,
    arguments=_import_arguments,
    overrides=True,
    notes="Files of torchvision, timm, transformers and akamaster are recognised.\n" + NOTES,
    examples=("resjax import resnet50.safetensors --out=runs/resnet50",),
)

EXPORT = Command(
    summary="write the weights of a run for another framework",
    usage="DIR|FILE --out=FILE [options]",
    run=_export,
    arguments=_export_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes="NAMES: torchvision, timm, timm-v2, timm-v2d, transformers or akamaster. The\n"
    "metadata of the file say how images are prepared. A .stablehlo file is a\n"
    "function of batches of any size, and can be written of every network.\n",
    examples=(
        "resjax export runs/resnet50 --out=back.safetensors --names=torchvision",
        "resjax export runs/resnet50 --out=resnet50.stablehlo --fold",
    ),
)

EVALUATE = Command(
    summary="tell errors, loss and calibration of a network",
    usage="DIR|FILE [options]",
    run=_evaluate,
    arguments=_evaluate_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes=NOTES,
    examples=("resjax evaluate resnet50.safetensors --data=folder:photos --split=train",),
)

PREDICT = Command(
    summary="tell what a network takes images for",
    usage="DIR|FILE IMAGE ... [options]",
    run=_predict,
    arguments=_predict_arguments,
    experiment=DEFINITIONS,
    overrides=True,
    notes=NOTES,
    examples=("resjax predict runs/resnet50 cat.jpg dog.jpg",),
)
