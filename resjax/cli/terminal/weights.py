"""Output about weights: the file they were read from, their scores, their predictions."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from resjax.cli.terminal.lines import say, shortened, tell
from resjax.cli.terminal.tables import literal, print_table, text_table
from resjax.interop.importing import Imported, in_words
from resjax.interop.predicting import Prediction
from resjax.interop.scoring import ClassScore, Scores

MOST_CLASSES = 20
"""Maximum number of rows in a table of classes; of more classes, it shows the worst."""


def print_imported(imported: Imported, source: Path) -> None:
    """Prints the network in a file, and what was changed or assumed, to stderr."""
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


def print_scores(scores: Scores, data: ConfigDict) -> None:
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


def print_predictions(predictions: list[Prediction], as_json: bool) -> None:
    """Prints the most probable classes of every image to stdout."""
    for prediction in predictions:
        if as_json:
            classes = [{"name": name, "probability": p} for name, p in prediction.classes]
            print(json.dumps({"image": str(prediction.image), "classes": classes}))
            continue
        say(str(prediction.image))
        table = text_table(("probability", "class"), words=("class",))
        table.show_header = False
        for name, probability in prediction.classes:
            table.add_row(f"{100 * probability:6.2f} %", literal(name))
        print_table(table)


def _accuracy(score: ClassScore) -> float:
    return 1 - score.errors / score.examples
