"""The commands on weights: import, export, evaluate, predict."""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resjax.cli.commands.command import DEFINITIONS, Command
from resjax.cli.commands.experiment import definitions
from resjax.cli.parsing import filled, path, path_or_address, whole
from resjax.cli.terminal.lines import say, shortened, tell
from resjax.cli.terminal.tables import literal, print_table, text_table
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.config.overrides import settings
from resjax.exits import EXIT_DONE, EXIT_FAILED
from resjax.process import enable_cache
from resjax.runs.rundir import refuse_absent

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from resjax.interop.importing import Imported
    from resjax.interop.predicting import Prediction
    from resjax.interop.scoring import ClassScore, Scores

NOTES = """\
FILE is a safetensors file or a PyTorch checkpoint, of which only the tensors
are read. The classes and the preprocessing of images are taken from the
metadata of files that resjax exported, and from the JSON files that
transformers and timm write beside theirs. Otherwise the usual preprocessing is
assumed; change it with --config.data.KEY=VALUE:
  --config.data.resize=232 --config.data.interpolation=bicubic
"""

MOST_CLASSES = 20
"""Maximum number of rows in a table of classes; of more classes, it shows the worst."""


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


def _reading(source: Path | Address, *expected: str) -> AbstractContextManager[Path]:
    """A context with the path of the named weights, or of a local copy of them."""
    if isinstance(source, Path):
        refuse_absent(source, *expected)
    from resjax.buckets.places import reading_file
    from resjax.interop.sidecars import SIDECARS
    from resjax.runs import needed

    return reading_file(source, needed.weights, beside=SIDECARS)


def _import_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=path_or_address, metavar="FILE",
        help="weights file, or gs://, s3://, az://")  # fmt: skip
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
    reading = _reading(options.file, "a file of weights")
    from resjax.interop.class_names import read_class_names
    from resjax.interop.importing import import_weights, refuse_taken, write_run

    refuse_taken(options.out)
    with reading as file:
        names = read_class_names(options.class_names) if options.class_names else ()
        imported = import_weights(file, settings(rest), names, options.weights)
        write_run(options.out, imported, file)
    print_imported(imported, options.file)
    say(f"run: {options.out}")
    return 0


def _export(options: argparse.Namespace, rest: list[str]) -> int:
    with definitions(rest) as overrides, _reading(options.source) as source:
        from resjax.interop.exporting import export, refuse_unfit
        from resjax.interop.importing import read_any

        refuse_unfit(options.out, options.names, options.fold)
        weights = read_any(source, settings(overrides), options.weights).weights
        say(export(weights, options.out, options.names, options.fold))
    return 0


def _once(value: str | None, option: str, keys: dict[str, Any], key: str) -> Any:
    """The value of an option or of its key, which is taken out of the keys.

    Raises:
      ConfigError: if both are given.
    """
    if value is not None and key in keys:
        raise ConfigError(f"{option} and --config.{key} are the same; give one of them")
    return keys.pop(key, value)


def _evaluate(options: argparse.Namespace, rest: list[str]) -> int:
    with definitions(rest) as overrides, _reading(options.source) as source:
        from resjax.interop.importing import read_any
        from resjax.interop.scoring import evaluate

        chosen = settings(overrides)
        name = _once(options.data, "--data", chosen, "data.name")
        split = _once(options.split, "--split", chosen, "data.test")
        imported = read_any(source, chosen, options.weights)
        config = imported.weights.about.config
        trained = name in (None, config.data.name)
        if not trained:
            config.data.name, config.data.test = name, ""
        if split is not None:
            config.data.test = split
        enable_cache()
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
    with definitions(rest) as overrides, _reading(options.source) as source:
        from resjax.interop.importing import read_any
        from resjax.interop.predicting import predict

        imported = read_any(source, settings(overrides), options.weights)
        enable_cache()
        data = imported.weights.about.config.data
        found = predict(imported.weights, data, options.images, options.top)
        if source.is_file():
            print_imported(imported, options.source)
        left_out = print_predictions(found, options.json)
    if left_out:
        tell(f"left out: {left_out:,} of {len(options.images):,} images, which cannot be read")
    return EXIT_FAILED if left_out else EXIT_DONE


def print_imported(imported: "Imported", source: Path | Address) -> None:
    """Prints the network in a file, and what was changed or assumed, to stderr."""
    from resjax.interop.importing import in_words

    about, data = imported.weights.about, imported.weights.about.config.data
    prepared = f"resized to {data.resize} ({data.interpolation}), " if data.size else ""
    height, width, channels = about.image_shape
    classes = f"{len(about.class_names)} classes" if about.class_names else "no head"
    lines = [
        f"{source.name}: {in_words(about.config)}, {classes}; "
        f"{imported.tensors} tensors by names of {imported.naming}",
        f"images: {prepared}{height}x{width}x{channels}, standardised: {data.standardise}",
        *map(shortened, imported.notes),  # with names from the file
    ]
    for line in lines:
        tell(line)


def print_scores(scores: "Scores", data: "ConfigDict") -> None:
    """Prints the mean scores and the table of classes to stdout."""
    split = f" {data.test}" if data.test else ""
    how = "name" if scores.by_name else "position"
    say(f"{data.name}{split}: {scores.examples:,} images, classes matched by {how}")
    if scores.skipped:
        say(f"{scores.skipped:,} more cannot be decoded and are not counted")
    means = text_table(("measure", "value"), words=("measure",))
    means.show_header = False
    means.add_row("top-1", f"{100 * scores.top1:.2f} %")
    if scores.top5 is not None:
        means.add_row("top-5", f"{100 * scores.top5:.2f} %")
    means.add_row("loss", f"{scores.loss:.4f}")
    means.add_row("calibration error", f"{100 * scores.calibration_error:.2f} %")
    print_table(means)
    print()
    shown = sorted(scores.classes, key=_accuracy)[:MOST_CLASSES]
    if len(scores.classes) > len(shown):
        say(f"the {len(shown)} worst of {len(scores.classes)} classes:")
    else:
        shown = scores.classes
    headings = ("class", "images", "top-1 %", "mostly mistaken for")
    table = text_table(headings, words=("class", "mostly mistaken for"))
    for each in shown:
        table.add_row(
            literal(each.name),
            f"{each.examples:,}",
            f"{100 * _accuracy(each):.2f}",
            literal(each.mistaken_for or ""),
        )
    print_table(table)


def print_predictions(predictions: "Iterable[Prediction]", as_json: bool) -> int:
    """Prints the most probable classes of every image to stdout, as soon as they are known.

    Returns:
      The number of images that could not be read, about each of which a line goes to stderr.
    """
    left_out = 0
    for prediction in predictions:
        if prediction.error:
            tell(shortened(prediction.error))
            left_out += 1
            continue
        if as_json:
            classes = [{"name": name, "probability": p} for name, p in prediction.classes]
            print(json.dumps({"image": str(prediction.image), "classes": classes}), flush=True)
            continue
        say(str(prediction.image))
        table = text_table(("probability", "class"), words=("class",))
        table.show_header = False
        for name, probability in prediction.classes:
            table.add_row(f"{100 * probability:6.2f} %", literal(name))
        print_table(table)
    return left_out


def _accuracy(score: "ClassScore") -> float:
    return 1 - score.errors / score.examples


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
