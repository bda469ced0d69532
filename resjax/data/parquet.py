"""Images in Parquet files, as Hugging Face distributes sets of images."""

import bisect
import contextlib
import dataclasses
import functools
import hashlib
import io
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from resjax.config import ConfigError, notify
from resjax.data.headers import open_image
from resjax.data.layout import warn_of_classes
from resjax.data.parquet_files import (
    files_by_split,
    find_columns,
    labels_by_split,
    open_parquet,
    read_column,
)
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source

LOOKED_AT = 100
"""Images of a split whose headers say whether it is grey; to look at all would read them all."""

END = 8
"""Bytes of a file after its metadata."""


class RowGroup(NamedTuple):
    """Consecutive rows that a file stores together.

    Attributes:
      file: the path of the file.
      number: the number of the group in the file.
      start: the number of its first row in the split.
      rows: the number of its rows.
    """

    file: str
    number: int
    start: int
    rows: int


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
        """The encoded image, no bytes if it is missing, and the label of an example.

        Raises:
          ConfigError: if its file is damaged.
        """
        group, row = self._place(number)
        data = self._images(group.file, group.number)[row].as_py()
        return data or b"", int(self.labels[number])

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
        return functools.lru_cache(1)(functools.partial(read_column, self.image))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def parquet_source(path: Path, label: str, splits: Splits) -> Source:
    """The rows of Parquet files that have an encoded image and its class, a number or a text.

    A file belongs to the split that its name has, such as train-00000-of-00002.parquet, or that
    its directory is named after, such as train/0000.parquet. Rows are in the order of the files.
    A split whose labels are not published, all of them negative, is left out.

    Args:
      path: a file, or a directory with the files of one set.
      label: the column of the labels; empty is the one that is marked as the class of images, or
        named `label` or `labels`.
      splits: the slices of the splits to read.

    Raises:
      ConfigError: for a path without such files or with those of several sets, columns that are not
        an image and a label, and files that cannot be read.
    """
    files = files_by_split(path)
    columns = find_columns(next(iter(files.values()))[0], label)
    labels, texts = labels_by_split(files, columns.label)
    labels = _published(path, labels)
    most = max(int(numbers.max(initial=0)) for numbers in labels.values())
    class_names = columns.class_names or texts or tuple(map(str, range(most + 1)))
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
        numbers = labels[split][taken.start : taken.stop].astype(np.int32)
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


def warn_of_row_groups(path: str, split: Rows) -> None:
    """Warns that images are read in any order, each with all others of its row group."""
    most = max(group.rows for group in split.groups)
    if most > 1:
        notify(
            f"to read one image of {path} is to read the {most} of its row group; if the device "
            "waits for images, write the set as a folder of images once, as docs/data.md shows"
        )


def _published(path: Path, labels: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The labels of the splits that have some.

    Raises:
      ConfigError: if there are none, or some images of a split have one and others have not.
    """
    lacking = {split: int((numbers < 0).sum()) for split, numbers in labels.items()}
    found = {}
    for split, numbers in labels.items():
        if not lacking[split]:
            found[split] = numbers
        elif lacking[split] < len(numbers):
            raise ConfigError(
                f"{path}: {lacking[split]} of {len(numbers)} images of the split {split} have no "
                "label; remove their rows"
            )
    if not found:
        raise ConfigError(f"{path} has no labels; read a split whose labels are published")
    return found


def _groups(files: Sequence[str]) -> tuple[RowGroup, ...]:
    groups, start = [], 0
    for file in files:
        with open_parquet(file) as opened:
            sizes = [opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)]
        for number, rows in enumerate(sizes):
            if rows:
                groups.append(RowGroup(file, number, start, rows))
                start += rows
    return tuple(groups)


def _is_grey(groups: Sequence[RowGroup], image: str) -> bool:
    """Tells whether the first images of a split that can be read are grey.

    Raises:
      ConfigError: if all of them are missing.
    """
    first = (read_column(image, group.file, group.number)[:LOOKED_AT] for group in groups)
    rows = itertools.islice(itertools.chain.from_iterable(first), LOOKED_AT)
    images = [row.as_py() for row in rows]
    if images and not any(images):
        raise ConfigError(
            f"{groups[0].file} has no bytes of images, perhaps their paths alone; write the set "
            "with them, such as by Dataset.to_parquet"
        )
    modes = set()
    for data in images:
        with contextlib.suppress(ValueError):
            modes.add(Image.getmodebase(open_image(io.BytesIO(data or b"")).mode))
    return modes == {"L"}


def _fingerprint(files: Sequence[str], taken: range, labels: np.ndarray) -> str:
    digest = hashlib.sha256(f"{taken}\n".encode())
    digest.update(labels.tobytes())
    for file in map(Path, files):
        with open_parquet(str(file)) as opened:
            footer = opened.metadata.serialized_size + END
        digest.update(f"{file.name}\0{file.stat().st_size}\n".encode())
        with file.open("rb") as bytes_of:
            bytes_of.seek(-footer, os.SEEK_END)
            digest.update(bytes_of.read())
    return digest.hexdigest()
