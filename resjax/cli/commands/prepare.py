"""`resjax prepare`: the download of a set of images from TensorFlow Datasets."""

import argparse
import sys

from resjax.cli.commands.command import Command
from resjax.cli.parsing import filled, path
from resjax.cli.terminal.lines import tell
from resjax.config.overrides import refuse

NOTES = """\
TFDS writes the set as ArrayRecord files, which needs TensorFlow:
pip install 'resjax[prepare]'. Training reads it without. A set that is not
whole, after an interruption, is never read. TFRecord files of a set that is
there already are converted, without a download. Without $TFDS_DATA_DIR, sets
are in ~/tensorflow_datasets.

without a network, put the archive that TFDS would download into --manual-dir:
  cifar10       cifar-10-binary.tar.gz
  cifar100      cifar-100-binary.tar.gz
  imagenet2012  ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, which it
                never downloads
Their names are these, and they must be those that TFDS knows, to the checksum
or size.
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", type=filled, metavar="NAME", help="NAME, NAME/CONFIG or NAME/CONFIG:VERSION"
    )
    parser.add_argument(
        "--data-dir", type=path, metavar="DIR",
        help="of all sets (default: $TFDS_DATA_DIR; see below)",
    )  # fmt: skip
    parser.add_argument(
        "--manual-dir", type=path, metavar="DIR", help="archives to take instead of downloads"
    )


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    from resjax.data.prepare import prepare_set

    refuse(rest)
    found = prepare_set(options.name, options.data_dir, options.manual_dir)
    splits = ", ".join(f"{name} {examples}" for name, examples in found.examples.items())
    tell(f"{found.done}: {found.directory} ({splits})", sys.stdout)
    return 0


PREPARE = Command(
    summary="download a set of images once, for training to read",
    usage="NAME [options]",
    run=_run,
    arguments=_arguments,
    notes=NOTES,
    examples=("resjax prepare cifar10", "resjax prepare cifar10 --manual-dir=$HOME/Downloads"),
)
