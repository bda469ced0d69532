"""Parquet files of a set of images: their splits, and their columns of images and labels."""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resjax.config import ConfigError, unreadable_file
from resjax.data.layout import SPLIT_NAMES, is_left_behind, refuse_archive, split_in

SHARD = re.compile(r"(?:(.+?)[-_.])??\d+(?:-of-\d+)?(?:-[0-9a-f]+)?")
"""The name of a file that is one of several, such as train-00000-of-00005, or 0000."""

LABELS = ("label", "labels")
"""Names of the column of labels, in the order in which they are looked for."""


class Columns(NamedTuple):
    """The columns of an image and of its label, and the names of the classes; empty if unknown."""

    image: str
    label: str
    class_names: tuple[str, ...]


def choose_parquet(names: list[str]) -> list[str]:
    """Chooses the Parquet files."""
    return [name for name in names if name.endswith(".parquet")]


def files_by_split(path: Path) -> dict[str, list[str]]:
    """The files of each split, by the names of files and directories.

    Raises:
      ConfigError: if there are none, or those of several sets.
    """
    refuse_archive(path)
    if path.is_file():
        return {"train": [str(path.absolute())]}
    top, found = path.absolute(), dict[Path, dict[str, list[str]]]()
    for file in sorted(top.rglob("*.parquet")):
        if not any(map(is_left_behind, file.relative_to(top).parts)):
            above, split = _set_and_split(file, top)
            found.setdefault(above, {}).setdefault(split, []).append(str(file))
    if not found:
        raise _nothing_found(path)
    if len(found) > 1:
        raise ConfigError(
            f"{path} has several sets of Parquet files; name one of their directories: "
            + ", ".join(map(str, found))
        )
    [splits] = found.values()
    return splits if len(splits) > 1 else {"train": next(iter(splits.values()))}


def _nothing_found(path: Path) -> ConfigError:
    """The error for a path without Parquet files."""
    if next(path.rglob("*.arrow"), None):
        return ConfigError(
            f"{path} has files of Arrow, as save_to_disk writes them, and none of Parquet; load it "
            "by datasets.load_from_disk, and write each split by Dataset.to_parquet"
        )
    if "*" in str(path):
        what = "does not exist, and is not taken for a pattern; name the directory alone"
    else:
        what = "has no Parquet files" if path.exists() else "does not exist"
        what += "; name a file, or the directory of a set from Hugging Face"
    return ConfigError(f"{path} {what}, such as data.name=parquet:data/cifar10")


def _set_and_split(file: Path, top: Path) -> tuple[Path, str]:
    """The directory of the set that a file below another belongs to, and the name of the split."""
    shard = SHARD.fullmatch(file.stem)
    name = (shard[1] or "") if shard else file.stem
    said = split_in(name)
    folder = SPLIT_NAMES.get(file.parent.name.lower(), "") if file.parent != top else ""
    if folder and said in ("", folder):
        return file.parent.parent, folder
    return file.parent, said or name or "train"


def find_columns(file: str, label: str) -> Columns:
    """Finds the columns by what `datasets` writes about them, or else by their types and names.

    Raises:
      ConfigError: if there are none or several, or `label` is none of numbers or texts.
    """
    import pyarrow as pa

    with open_parquet(file) as opened:
        schema = opened.schema_arrow
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    marked = (about.get("info", {}).get("features") or {}).items()
    features = {name: of for name, of in marked if name in schema.names and isinstance(of, dict)}
    images, classes = (
        [name for name, feature in features.items() if feature.get("_type") == kind]
        for kind in ("Image", "ClassLabel")
    )
    values = [field.name for field in schema if _holds_labels(field.type)]
    images = images or [field.name for field in schema if _holds_images(field.type)]
    if label:
        labels = [label] if label in (*classes, *values) else []
    else:
        labels = classes or [name for name in values if name in LABELS]
        labels = [name for name in LABELS if name in labels][:1] or labels
    if len(images) != 1 or len(labels) != 1:
        others = [f"{field.name} ({field.type})" for field in schema if field.name not in images]
        raise ConfigError(
            f"{file} has columns of images: {', '.join(images) or 'none'}; others: "
            f"{', '.join(others) or 'none'}; read a set with one of images and one of labels, "
            "whole numbers from 0 or texts, and choose among several by "
            "data.name=parquet:PATH:LABEL"
        )
    inside = ".bytes" if pa.types.is_struct(schema.field(images[0]).type) else ""
    class_names = features.get(labels[0], {}).get("names") or ()
    return Columns(images[0] + inside, labels[0], tuple(class_names))


def _holds_labels(kind: Any) -> bool:
    """Tells whether a type is a whole number, a text or a truth value, also in a dictionary."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(fits(kind) for fits in (pa.types.is_integer, pa.types.is_boolean, *texts))


def _holds_images(kind: Any) -> bool:
    """Tells whether a type is bytes, or has a field of them as that of images in `datasets`."""
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


@contextlib.contextmanager
def open_parquet(file: str) -> Iterator[Any]:
    """Opens a file; ConfigError if it cannot be opened or read."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file, memory_map=True) as opened:
            yield opened
    except (OSError, pa.ArrowException) as error:
        raise unreadable_file(file, error) from None


def read_column(column: str, file: str, group: int | None = None) -> Any:
    """A column of a file or of one of its groups; of a field in a column that field alone."""
    with open_parquet(file) as opened:
        if group is None:
            table = opened.read([column], use_threads=False)
        else:
            table = opened.read_row_group(group, [column], use_threads=False)
    if not table.num_columns:
        raise ConfigError(
            f"{file} has no column {column}, unlike other files of its set; fetch it again"
        )
    return table.flatten().column(0)


def labels_by_split(
    files: Mapping[str, Sequence[str]], column: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The labels of splits, and the names of the classes if the labels are texts.

    Of texts or truth values, the sorted ones of all splits are the classes, as folders would be.

    Returns:
      Labels `[n]` int64 of each split, in which those that are missing are -1; and the names, none
      if the labels are numbers.
    """
    import pyarrow as pa
    from pyarrow import compute

    parts = {
        split: [_plain(read_column(column, file)) for file in of] for split, of in files.items()
    }
    kinds = {part.type for of_split in parts.values() for part in of_split}
    kind = pa.large_string() if pa.large_string() in kinds else pa.int64()
    values = {
        split: pa.chunked_array([c for part in of for c in part.cast(kind).chunks], kind)
        for split, of in parts.items()
    }
    names: list[str] = []
    if kind != pa.int64():
        found = [compute.unique(of_split).to_pylist() for of_split in values.values()]
        names = sorted({*itertools.chain.from_iterable(found)} - {None, ""})
        among = pa.array(names, kind)
        values = {split: compute.index_in(of, among).cast("int64") for split, of in values.items()}
    return {split: of.fill_null(-1).to_numpy() for split, of in values.items()}, tuple(names)


def _plain(values: Any) -> Any:
    """Labels as int64 if they are whole numbers, or else as texts."""
    import pyarrow as pa

    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.cast("int64" if pa.types.is_integer(values.type) else "large_string")
