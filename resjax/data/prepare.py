"""Preparation of data sets: TFDS downloads a set once and writes it as ArrayRecord files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resjax.config import ConfigError
from resjax.config.extras import require
from resjax.config.paths import local
from resjax.data.tfds import FORMAT, one_line, open_prepared, refuse_damaged
from resjax.data.tfds_names import (
    Name,
    default_data_dir,
    find,
    parse_name,
    prepare_command,
    unknown,
)
from resjax.files import replacing

MANUAL = {"imagenet2012": ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")}
"""Archives, by data set, that TFDS does not download; it would continue without missing ones."""


class Prepared(NamedTuple):
    """A data set on disk.

    Attributes:
      directory: the directory of its files.
      examples: number of examples in each split.
      done: what was done: prepared, converted, or already prepared.
    """

    directory: Path
    examples: dict[str, int]
    done: str


def prepare_set(
    name: str, data_dir: Path | None = None, manual_dir: Path | None = None
) -> Prepared:
    """Downloads a data set and writes it as ArrayRecord, unless it exists; converts TFRecord files.

    The set appears under its name only when it is complete, even if this process is killed.
    Archives in `manual_dir` are used instead of downloads, if their checksums are those that TFDS
    knows.

    Args:
      name: a name such as `cifar10` or `cifar10_1/v4`.
      data_dir: the directory of all sets; None is that of TFDS.
      manual_dir: the directory of archives that were downloaded by hand.

    Raises:
      ConfigError: if there is no such set, it needs archives that are not there, TensorFlow is
        missing, the download fails, or what is prepared is damaged.
    """
    wanted, data_dir = parse_name(name), data_dir or default_data_dir(local)
    if name in IN_MEMORY:
        raise ConfigError(f"{name} needs no preparing; train with --config.data.name={name}")
    if directory := find(wanted, data_dir):
        done = "converted" if convert(wanted, directory) else "already prepared"
        return Prepared(directory, _check(wanted, data_dir, directory), done)
    if manual_dir is not None and not manual_dir.is_dir():
        raise ConfigError(
            f"--manual-dir={manual_dir} is not a directory; name one with the archives"
        )
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
    return Prepared(directory, _check(wanted, data_dir, directory), "prepared")


IN_MEMORY = ("digits", "shapes")
"""Sources that come with resjax."""


def load_tensorflow(wanted: Name) -> None:
    """Imports TensorFlow, which TFDS needs to prepare sets, and hides the GPUs from it.

    Raises:
      ConfigError: if it is missing.
    """
    require("prepare", f"preparing {wanted}")
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
    """Raises ConfigError for missing or truncated archives, before anything is downloaded."""
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
    """Number of examples in each split of a set; raises ConfigError if a file is damaged."""
    command = prepare_command(wanted, data_dir)
    splits = open_prepared(directory, command).info.splits
    for split in splits.values():
        refuse_damaged(split, directory, command)
    return {name: split.num_examples for name, split in splits.items()}


# -------------------------------------------------------------------------------------- conversion


def convert(wanted: Name, directory: Path) -> bool:
    """Copies the records of TFRecord files, byte by byte, to ArrayRecord files.

    The new format is noted in the metadata at the end, so an interrupted conversion resumes later.

    Returns:
      Whether there was anything to convert.

    Raises:
      ConfigError: if a TFRecord file is damaged, or TensorFlow is missing.
    """
    path = directory / "dataset_info.json"
    try:
        info = json.loads(path.read_text())
    except (OSError, ValueError):
        return False  # opening the set raises an error that says so
    formats = [info.get("fileFormat"), *info.get("alternativeFileFormats", [])]
    if FORMAT in formats or "tfrecord" not in formats:
        return False
    load_tensorflow(wanted)
    for source, target, records in _files(directory):
        if not target.exists():
            _copy_records(source, target, records)
    info["alternativeFileFormats"] = [*formats[1:], FORMAT]
    with replacing(path) as partial:
        partial.write_text(json.dumps(info, indent=2))
    return True


def _files(directory: Path) -> list[tuple[Path, Path, int]]:
    """The TFRecord files, with the ArrayRecord file for the same examples and their number."""
    import tensorflow_datasets as tfds

    info = tfds.builder_from_directory(directory).info
    paths = []
    for file_format in ("tfrecord", FORMAT):
        info.set_file_format(file_format, override=True, override_if_initialized=True)
        paths.append([Path(file) for split in info.splits.values() for file in split.filepaths])
    records = [records for split in info.splits.values() for records in split.shard_lengths]
    return list(zip(*paths, records, strict=True))


def _copy_records(source: Path, target: Path, records: int) -> None:
    import tensorflow as tf
    from array_record.python.array_record_module import ArrayRecordWriter

    with replacing(target) as partial:
        writer, found = ArrayRecordWriter(str(partial), "group_size:1"), 0
        try:
            for record in tf.data.TFRecordDataset(str(source)).as_numpy_iterator():
                writer.write(record)
                found += 1
        except tf.errors.OpError as error:
            raise ConfigError(f"{source} is damaged ({one_line(error)}); restore it") from None
        finally:
            writer.close()
        if found != records:
            raise ConfigError(f"{source} has {found} of its {records} records; restore it")
