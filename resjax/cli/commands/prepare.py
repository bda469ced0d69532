"""`resjax prepare`: the download of a set of images from TensorFlow Datasets."""

import argparse

from resjax.cli.commands.command import Command
from resjax.cli.parsing import filled, path
from resjax.cli.terminal.lines import say

NOTES = """\
TensorFlow Datasets (TFDS) writes the data set as ArrayRecord files. This needs
TensorFlow, pip install -e '.[prepare]'; training does not. An incomplete data
set, left by an interruption, is never read. If TFRecord files of the data set
exist, they are converted and nothing is downloaded. Data sets are kept in
$TFDS_DATA_DIR, or ~/tensorflow_datasets if that is not set.

Without internet access, put the archives that TFDS would download into
--manual-dir:
  cifar10       cifar-10-binary.tar.gz
  cifar100      cifar-100-binary.tar.gz
  imagenet2012  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which
                TFDS never downloads itself
The names must be exactly these, and the checksum or size as TFDS knows it.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("name", type=filled, metavar="NAME",
        help="data set: NAME, NAME/CONFIG or NAME/CONFIG:VERSION")  # fmt: skip
    add("--data-dir", type=path, metavar="DIR",
        help="where data sets are kept (default: $TFDS_DATA_DIR)")  # fmt: skip
    add("--manual-dir", type=path, metavar="DIR",
        help="archives to use instead of downloads; see below")  # fmt: skip


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.data.prepare import prepare_set

    found = prepare_set(options.name, options.data_dir, options.manual_dir)
    splits = ", ".join(f"{name} {examples}" for name, examples in found.examples.items())
    say(f"{found.done}: {found.directory} ({splits})")
    return 0


PREPARE = Command(
    summary="download and prepare a data set",
    usage="NAME [options]",
    run=_run,
    arguments=_arguments,
    notes=NOTES,
    examples=("resjax prepare cifar10", "resjax prepare cifar10 --manual-dir=$HOME/Downloads"),
)
