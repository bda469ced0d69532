"""Output about weights: the file they were read from, their scores, their predictions."""

import json
import sys
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table

from resjax.cli.terminal.lines import say, shortened
from resjax.cli.terminal.tables import literal
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
    console = Console(file=sys.stderr, highlight=False, markup=False)
    for line in lines:
        say(console, line)


def print_scores(scores: Scores, data: ConfigDict) -> None:
    """Prints the mean scores and the table of classes to stdout."""
    console = Console(highlight=False, markup=False)
    split = f" {data.test}" if data.test else ""
    how = "name" if scores.by_name else "position"
    say(console, f"{data.name}{split}: {scores.examples:,} images, classes matched by {how}")
    if scores.skipped:
        console.print(f"{scores.skipped:,} more cannot be decoded and are not counted")
    means = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    means.add_column()
    means.add_column(justify="right")
    means.add_row("top-1", f"{100 * scores.top1:.2f} %")
    if scores.top5 is not None:
        means.add_row("top-5", f"{100 * scores.top5:.2f} %")
    means.add_row("loss", f"{scores.loss:.4f}")
    means.add_row("calibration error", f"{100 * scores.calibration_error:.2f} %")
    console.print(means)
    console.print()
    shown = sorted(scores.classes, key=_accuracy)[:MOST_CLASSES]
    if len(scores.classes) > len(shown):
        console.print(f"the {len(shown)} worst of {len(scores.classes)} classes:")
    else:
        shown = scores.classes
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("class", overflow="ellipsis", no_wrap=True)
    for heading in ("images", "top-1 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("mostly mistaken for", overflow="ellipsis", no_wrap=True)
    for each in shown:
        table.add_row(
            literal(each.name),
            f"{each.examples:,}",
            f"{100 * _accuracy(each):.2f}",
            literal(each.mistaken_for or ""),
        )
    console.print(table)


def print_predictions(predictions: list[Prediction], as_json: bool) -> None:
    """Prints the most probable classes of every image to stdout."""
    console = Console(highlight=False, markup=False)
    for prediction in predictions:
        if as_json:
            classes = [{"name": name, "probability": p} for name, p in prediction.classes]
            print(json.dumps({"image": str(prediction.image), "classes": classes}))
            continue
        say(console, str(prediction.image))
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="ellipsis", no_wrap=True)
        for name, probability in prediction.classes:
            table.add_row(f"{100 * probability:6.2f} %", literal(name))
        console.print(table)


def _accuracy(score: ClassScore) -> float:
    return 1 - score.errors / score.examples
