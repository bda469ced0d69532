"""Images in Parquet files, as Hugging Face distributes sets of images."""

import bisect
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from resjax.config import ConfigError, message_of
from resjax.data.headers import open_image
from resjax.data.layout import SPLIT_NAMES, is_left_behind, warn_of_classes
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source

SHARD = re.compile(r"(.+?)[-_.]\d+(?:-of-\d+)?(?:-[0-9a-f]+)?")
"""The name of a file that is one of several, such as train-00000-of-00005."""

LOOKED_AT = 100
"""Images of a split whose headers say whether it is grey; to look at all would read them all."""

END = 8
"""Bytes of a file after its metadata."""


class Columns(NamedTuple):
    """The columns of an image and of its label, and the names of the classes; empty if unknown."""

    image: str
    label: str
    class_names: tuple[str, ...]


class RowGroup(NamedTuple):
    """Consecutive rows that a file stores together.

    Attributes:
      file: the path of the file.
      number: the number of the group in the file.
      start: the number of its first row in the split.
    """

    file: str
    number: int
    start: int


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Rows of Parquet files, each read on demand, with all images of its group.

    Attributes:
      groups: the groups of the split, in order.
      start: the number in the split of the first example.
      image: the column of the images.
      labels: `[n]` int32.
      channels: 1 if the images are grey, else 3.
      fingerprint: SHA-256 of the names and metadata of the files, and of the labels.
    """

    groups: tuple[RowGroup, ...]
    start: int
    image: str
    labels: np.ndarray
    channels: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded image and the label of an example.

        Raises:
          ConfigError: if its file is damaged, or does not have the image itself.
        """
        group, row = self._place(number)
        data = self._images(group.file, group.number)[row].as_py()
        if data is None:
            raise ConfigError(
                f"{self.name(number)} has no bytes of an image, perhaps its path alone; write the "
                "set with them, such as by Dataset.to_parquet"
            )
        return data, int(self.labels[number])

    def name(self, number: int) -> str:
        """The number of an example in its split, and its file."""
        group, row = self._place(number)
        return f"row {group.start + row} of the split, in {group.file}"

    def _place(self, number: int) -> tuple[RowGroup, int]:
        """The group of an example, and its row in the group."""
        row = range(self.start, self.start + len(self))[number]
        group = self.groups[bisect.bisect(self.groups, row, key=lambda group: group.start) - 1]
        return group, row - group.start

    @functools.cached_property
    def _images(self) -> Callable[[str, int], Any]:
        """A function of a file and a group that keeps the images of the latest."""
        return functools.lru_cache(1)(functools.partial(_read, self.image))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def choose_parquet(names: list[str]) -> list[str]:
    """Chooses the Parquet files."""
    return [name for name in names if name.endswith(".parquet")]


def parquet_source(path: Path, label: str, splits: Splits) -> Source:
    """The rows of Parquet files that have an encoded image and the number of its class.

    A file belongs to the split that its name begins with, such as train-00000-of-00002.parquet, or
    that its directory is named after, such as train/0000.parquet. Rows are in the order of the
    files. Splits whose labels are not published, which are negative numbers, are left out.

    Args:
      path: a file, or a directory with the files of one set.
      label: the column of the labels; empty is the only one.
      splits: the slices of the splits to read.

    Raises:
      ConfigError: for a path without such files or with those of several sets, columns that are not
        an image and a label, and files that cannot be read.
    """
    files = _files_by_split(path)
    columns = _columns(next(iter(files.values()))[0], label)
    found = {split: _labels(paths, columns) for split, paths in files.items()}
    labels = {split: numbers for split, numbers in found.items() if (numbers >= 0).all()}
    if not labels:
        raise ConfigError(f"{path} has no split with a label for each image; name one that has")
    most = max(int(numbers.max(initial=0)) for numbers in labels.values())
    class_names = columns.class_names or tuple(map(str, range(most + 1)))
    if most >= len(class_names):
        raise ConfigError(
            f"{path} has label {most}, and names of {len(class_names)} classes; read a set with "
            "labels from 0"
        )
    slices = slices_of(splits, list(labels))
    ranges = resolve(slices, {split: len(numbers) for split, numbers in labels.items()})
    groups = {part.name: _groups(files[part.name]) for part in slices.values()}
    grey = all(_is_grey(of_split, columns.image) for of_split in groups.values())
    parts = {}
    for key, taken in ranges.items():
        split = slices[key].name
        numbers = labels[split][taken.start : taken.stop]
        parts[key] = Rows(
            groups=groups[split],
            start=taken.start,
            image=columns.image,
            labels=numbers,
            channels=1 if grey else 3,
            fingerprint=_fingerprint(files[split], taken, numbers),
        )
    if not splits.test_only:
        warn_of_classes(path, class_names, parts["train"].labels)
    return Source(class_names=class_names, **parts)


def _files_by_split(path: Path) -> dict[str, list[str]]:
    """The files of each split, by their names.

    Raises:
      ConfigError: if there are none, or those of several sets.
    """
    if path.is_file():
        return {"train": [str(path.absolute())]}
    found: dict[Path, dict[str, list[str]]] = {}
    for file in sorted(path.absolute().rglob("*.parquet")):
        if not any(map(is_left_behind, file.relative_to(path.absolute()).parts)):
            above, split = _set_and_split(file)
            found.setdefault(above, {}).setdefault(split, []).append(str(file))
    if not found:
        raise ConfigError(
            f"{path} has no Parquet files; name a file, or the directory of a set from Hugging "
            "Face, such as data.name=parquet:data/cifar10"
        )
    if len(found) > 1:
        raise ConfigError(
            f"{path} has several sets of Parquet files; name one of their directories: "
            + ", ".join(map(str, found))
        )
    [splits] = found.values()
    return splits if len(splits) > 1 else {"train": next(iter(splits.values()))}


def _set_and_split(file: Path) -> tuple[Path, str]:
    """The directory of the set that a file belongs to, and the name of the split."""
    shard = SHARD.fullmatch(file.stem)
    if file.stem.isdecimal():
        above, name = file.parent.parent, file.parent.name
    else:
        above, name = file.parent, shard[1] if shard else file.stem
    return above, SPLIT_NAMES.get(name.lower(), name)


def _columns(file: str, label: str) -> Columns:
    """Finds the columns by what `datasets` writes about them, or else by their types.

    Raises:
      ConfigError: if there are none or several; of labels, if none of them is named `label`.
    """
    import pyarrow as pa

    with _opened(file) as opened:
        schema = opened.schema_arrow
    about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    images, labels = (
        [name for name, feature in features.items() if feature.get("_type") == kind]
        for kind in ("Image", "ClassLabel")
    )
    images = images or [field.name for field in schema if _holds_images(field.type)]
    labels = labels or [field.name for field in schema if pa.types.is_integer(field.type)]
    labels = [name for name in labels if name == (label or "label")] or labels
    if len(images) != 1 or len(labels) != 1 or label not in ("", *labels):
        raise ConfigError(
            f"{file} has columns of images: {', '.join(images) or 'none'}; of labels: "
            f"{', '.join(labels) or 'none'}; read a set with one of each, or choose the labels by "
            "data.name=parquet:PATH:LABEL"
        )
    inside = ".bytes" if pa.types.is_struct(schema.field(images[0]).type) else ""
    class_names = features.get(labels[0], {}).get("names", ())
    return Columns(images[0] + inside, labels[0], tuple(class_names))


def _holds_images(kind: Any) -> bool:
    """Tells whether a type is bytes, or has a field of them as that of images in `datasets`."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _labels(files: Sequence[str], columns: Columns) -> np.ndarray:
    """The labels of a split; those that are missing are -1."""
    parts = [_read(columns.label, file).fill_null(-1).to_numpy() for file in files]
    return np.concatenate(parts).astype(np.int32)


def _groups(files: Sequence[str]) -> tuple[RowGroup, ...]:
    groups, start = [], 0
    for file in files:
        with _opened(file) as opened:
            sizes = [opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)]
        for number, size in enumerate(sizes):
            if size:
                groups.append(RowGroup(file, number, start))
                start += size
    return tuple(groups)


def _is_grey(groups: Sequence[RowGroup], image: str) -> bool:
    """Tells whether the first images of a split are grey; those that cannot be read may be."""
    first = _read(image, groups[0].file, groups[0].number)[:LOOKED_AT]
    modes = set()
    for data in first.to_pylist():
        with contextlib.suppress(ValueError):
            modes.add(Image.getmodebase(open_image(io.BytesIO(data or b"")).mode))
    return modes == {"L"}


def _fingerprint(files: Sequence[str], taken: range, labels: np.ndarray) -> str:
    digest = hashlib.sha256(f"{taken}\n".encode())
    digest.update(labels.tobytes())
    for file in map(Path, files):
        with _opened(str(file)) as opened:
            footer = opened.metadata.serialized_size + END
        digest.update(f"{file.name}\0{file.stat().st_size}\n".encode())
        with file.open("rb") as bytes_of:
            bytes_of.seek(-footer, os.SEEK_END)
            digest.update(bytes_of.read())
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(file: str) -> Iterator[Any]:
    """Opens a file; ConfigError if it cannot be opened or read."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file, memory_map=True) as opened:
            yield opened
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(
            f"{file} cannot be read ({message_of(error)[:120]}); fetch it again"
        ) from None


def _read(column: str, file: str, group: int | None = None) -> Any:
    """A column of a file or of one of its groups; of a field in a column that field alone."""
    with _opened(file) as opened:
        if group is None:
            table = opened.read([column], use_threads=False)
        else:
            table = opened.read_row_group(group, [column], use_threads=False)
    if not table.num_columns:
        raise ConfigError(
            f"{file} has no column {column}, unlike other files of its set; fetch it again"
        )
    return table.flatten().column(0)
