"""What `resjax prepare` does: TFDS downloads a set once and writes it as ArrayRecord files."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resjax.config import ConfigError
from resjax.data.tfds import (
    FORMAT,
    Name,
    default_data_dir,
    find,
    one_line,
    open_prepared,
    parse_name,
    prepare_command,
    refuse_damaged,
    unknown,
)

MANUAL = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}
"""Archives that TFDS does not download and takes those of which are there."""


class Prepared(NamedTuple):
    """A set on the disk.

    Attributes:
      directory: of its files.
      examples: in each split.
      was_there: whether it was prepared before.
    """

    directory: Path
    examples: dict[str, int]
    was_there: bool


def prepare(name: str, data_dir: Path | None = None, manual_dir: Path | None = None) -> Prepared:
    """Downloads a set and writes it as ArrayRecord, unless that is done.

    The set appears under its name when it is whole, whatever ends this process before. Archives in
    `manual_dir` are used instead of downloads, if their checksums are those that TFDS knows.

    Args:
      name: such as `cifar10` or `cifar10_1/v4`.
      data_dir: where the sets are; None is where TFDS keeps them.
      manual_dir: where archives are that were downloaded by hand.

    Raises:
      ConfigError: if there is no such set, it needs archives that are not there, TensorFlow is
        missing, the download fails, or what is prepared is damaged.
    """
    wanted, data_dir = parse_name(name), data_dir or default_data_dir()
    if directory := find(wanted, data_dir):
        return Prepared(directory, _check(wanted, data_dir, directory), was_there=True)
    if manual_dir is not None and not manual_dir.is_dir():
        raise ConfigError(f"--manual-dir={manual_dir} is no directory; name one with the archives")
    builder = _builder(wanted, data_dir)
    archives = [info.filename for info in (builder.url_infos or {}).values() if info.filename]
    _refuse_missing(builder, manual_dir, archives)
    load_tensorflow(wanted)
    try:
        _download_and_prepare(builder, manual_dir)
    except Exception as error:  # of TFDS, of a download, or of the code of any set
        if find(wanted, data_dir) is None:
            raise ConfigError(_failed(wanted, error, archives)) from error
    directory = Path(builder.data_dir)
    return Prepared(directory, _check(wanted, data_dir, directory), was_there=False)


def load_tensorflow(wanted: Name) -> None:
    """TensorFlow, which TFDS prepares sets with; it leaves the accelerators to others.

    Raises:
      ConfigError: if it is missing.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise ConfigError(
            f"preparing {wanted} needs TensorFlow; run: pip install 'resjax[prepare]'"
        )
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _builder(wanted: Name, data_dir: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(str(wanted), data_dir=data_dir, file_format=FORMAT)
    except tfds.core.DatasetNotFoundError:
        known = tfds.list_builders(with_community_datasets=False)
        raise ConfigError(unknown(wanted, known)) from None
    except (AssertionError, ValueError) as error:
        raise ConfigError(f"{wanted} cannot be prepared: {one_line(error)}") from None


def _refuse_missing(builder: Any, manual_dir: Path | None, archives: Sequence[str]) -> None:
    """Archives must be where they are said to be, before anything is downloaded or left out."""
    if needed := MANUAL.get(builder.name):
        missing = [name for name in needed if not (manual_dir and (manual_dir / name).exists())]
        if missing:
            raise ConfigError(
                f"{builder.name} is not downloaded; put {' and '.join(needed)} into a directory "
                f"and name it with --manual-dir ({' and '.join(missing)} not found)"
            )
        for url, info in builder.url_infos.items():
            name = url.rpartition("/")[2]
            if name in needed and (size := (manual_dir / name).stat().st_size) != info.size:
                raise ConfigError(
                    f"{manual_dir / name} has {size} of {int(info.size)} bytes; download it again"
                )
    elif manual_dir and archives and not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        if any((manual_dir / name).exists() for name in archives):
            return
        raise ConfigError(
            f"--manual-dir={manual_dir} has no {' or '.join(archives)}; put it there, or leave out "
            "--manual-dir to download it"
        )


def _download_and_prepare(builder: Any, manual_dir: Path | None) -> None:
    import tensorflow_datasets as tfds

    config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    builder.download_and_prepare(download_config=config, file_format=FORMAT)


def _failed(wanted: Name, error: Exception, archives: Sequence[str]) -> str:
    by_hand = f", or put {' and '.join(archives)} into a directory and name it with --manual-dir"
    remedy = f"run it again{by_hand if 0 < len(archives) < 4 else ''}"
    return f"{wanted} cannot be prepared ({type(error).__name__}: {one_line(error)}); {remedy}"


def _check(wanted: Name, data_dir: Path, directory: Path) -> dict[str, int]:
    """Examples in each split of a set, if all its files are whole."""
    remedy = f"delete {directory} and run: {prepare_command(wanted, data_dir)}"
    splits = open_prepared(directory, remedy).info.splits
    for split in splits.values():
        refuse_damaged(split, remedy)
    return {name: split.num_examples for name, split in splits.items()}
