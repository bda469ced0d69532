"""Data sets that TFDS prepared as ArrayRecord files, read without TensorFlow and offline."""

import bisect
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resjax.buckets.places import Copy, Here, reading
from resjax.config import ConfigError, message_of
from resjax.config.addresses import Address
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source
from resjax.data.tfds_names import (
    Name,
    default_data_dir,
    find,
    missing,
    parse_name,
    prepare_command,
)

FORMAT = "array_record"

OWN_TEST = {"imagenet2012": ("validation",)}  # the labels of its test split are not published

METADATA = (".json", ".txt")
"""Suffixes of files beside the records: the metadata of a set, and its class names."""


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples of a split, each read on demand; the first read opens the files.

    Attributes:
      directory: the directory of the files and metadata.
      split: the name of the split.
      start, stop: number in the split of the first example, and of the one after the last.
      image, label: names of the features.
      classes: number of classes.
      channels: 1 for grey images, else 3.
      fingerprint: SHA-256 of the metadata, and of the names and sizes of the files.
      command: the command that prepares the set anew if a file is damaged.
    """

    directory: str
    split: str
    start: int
    stop: int
    image: str
    label: str
    classes: int
    channels: int
    fingerprint: str
    command: str

    def __len__(self) -> int:
        return self.stop - self.start

    def read(self, number: int) -> tuple[bytes, int]:
        """The encoded image and the label of an example.

        Raises:
          ConfigError: if its record is damaged, or its label is none of the classes.
        """
        try:
            example = self._records[range(self.start, self.stop)[number]]
        except RuntimeError as error:
            raise ConfigError(
                f"{self._file(self.start + number)} is damaged ({one_line(error)}); delete "
                f"{self.directory} and run: {self.command}"
            ) from None
        label = int(example[self.label])
        if not 0 <= label < self.classes:
            raise ConfigError(
                f"{self.name(number)} has label {label}, which is none of the {self.classes} "
                "classes; read a split with labels"
            )
        return example[self.image], label

    def name(self, number: int) -> str:
        """The number of an example in its whole split, and the directory of the set."""
        return f"example {self.start + number} of split {self.split!r} in {self.directory}"

    @functools.cached_property
    def _records(self) -> Sequence[Any]:
        import tensorflow_datasets as tfds

        decoders = {self.image: tfds.decode.SkipDecoding()}
        builder = open_prepared(Path(self.directory), self.command)
        return builder.as_data_source(self.split, decoders=decoders)

    def _file(self, number: int) -> str:
        split = self._records.dataset_info.splits[self.split]
        ends = list(itertools.accumulate(split.shard_lengths))
        return str(split.filepaths[bisect.bisect_right(ends, number)])

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def tfds_source(name: str, data_dir: Path | Address | None, splits: Splits) -> Source:
    """The source for a set that `resjax prepare` or TFDS itself prepared.

    By default `train` is trained on, and `test` is tested on, or `validation` where there is no
    `test`; for ImageNet, `validation`. The files of these splits are opened once, and must be
    whole.

    Args:
      name: a name such as `cifar10`, `imagenet2012`, `tfds:mnist` or `tfds:cifar10_1/v4:1.1.0`.
      data_dir: the directory of all sets, or its address; None is that of TFDS. Of a bucket the
        metadata and the files of the splits that are read are copied to the user's cache.
      splits: the slices of the splits to read.

    Raises:
      ConfigError: if it is not prepared, not as ArrayRecord or not whole, or no set of images with
        one label each.
    """
    wanted, data_dir = parse_name(name), data_dir or default_data_dir()
    where = data_dir / wanted.name
    with reading(where, choose_metadata) as there:
        return _source(wanted, data_dir, there, splits)


def choose_metadata(names: list[str]) -> list[str]:
    """Chooses the files that are not records."""
    return [name for name in names if name.endswith(METADATA)]


def _source(wanted: Name, data_dir: Path | Address, there: Here | Copy, splits: Splits) -> Source:
    """The source for a set whose metadata is in a local directory."""
    directory = find(wanted, there.directory.parent)
    if directory is None:
        raise ConfigError(missing(wanted, data_dir))
    command = prepare_command(wanted, data_dir)
    info = open_prepared(directory, command).info
    image, label = _keys(info)
    lengths = {key: split.num_examples for key, split in info.splits.items()}
    own_test = {"own_test": OWN_TEST[wanted.name]} if wanted.name in OWN_TEST else {}
    slices = slices_of(splits, list(lengths), **own_test)
    ranges = resolve(slices, lengths)
    used = {part.name for part in slices.values()}
    records = {str(path) for split in used for path in info.splits[split].filepaths}
    there.refresh(
        lambda names: [
            name
            for name in names
            if name.endswith(METADATA) or str(there.directory / name) in records
        ]
    )
    for split in used:
        refuse_damaged(info.splits[split], directory, command)
    parts = {}
    for key, taken in ranges.items():
        parts[key] = Records(
            directory=str(directory.absolute()),
            split=slices[key].name,
            start=taken.start,
            stop=taken.stop,
            image=image,
            label=label,
            classes=info.features[label].num_classes,
            channels=1 if info.features[image].shape[-1] == 1 else 3,
            fingerprint=_fingerprint(info, directory, slices[key].name, taken),
            command=command,
        )
    return Source(class_names=tuple(info.features[label].names), **parts)


def open_prepared(directory: Path, command: str) -> Any:
    """Opens a prepared set, as a builder of TFDS that reads its ArrayRecord files.

    Raises:
      ConfigError: if its metadata cannot be read, or it has no such files.
    """
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(directory)
    except Exception as error:  # whatever its parsers raise
        raise ConfigError(
            f"{directory} has no metadata of TFDS that can be read ({one_line(error)}); "
            f"delete it and run: {command}"
        ) from None
    formats = sorted(known.value for known in builder.info.available_file_formats())
    if FORMAT not in formats:
        how = "to convert it, " if "tfrecord" in formats else f"delete {directory} and "
        raise ConfigError(
            f"{directory} is prepared as {', '.join(formats)}, not as {FORMAT}; {how}run: {command}"
        )
    # A converted set has both formats, of which the first one is its own.
    builder.info.set_file_format(FORMAT, override=True, override_if_initialized=True)
    return builder


def refuse_damaged(split: Any, directory: Path, command: str) -> None:
    """Opens every file of a split, which takes 0.1 ms each, to find damaged ones.

    Raises:
      ConfigError: if one is missing or truncated, or has another number of records than it should.
    """
    from array_record.python.array_record_module import ArrayRecordReader

    remedy = f"delete {directory} and run: {command}"
    for file, records in zip(split.filepaths, split.shard_lengths, strict=True):
        if not file.exists():
            raise ConfigError(f"{file} is missing; {remedy}")
        try:
            reader = ArrayRecordReader(str(file), options="readahead_buffer_size:0")
            found = reader.num_records()
            reader.close()
        except RuntimeError:
            found = 0
        if found != records:
            raise ConfigError(
                f"{file} is damaged: {found} of its {records} records are found; {remedy}"
            )


def _keys(info: Any) -> tuple[str, str]:
    """Names of the features that are the image and its label.

    They are the two `supervised_keys` of the set, or the only features of their kind.
    """
    import tensorflow_datasets as tfds

    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if not isinstance(info.features, tfds.features.FeaturesDict):
        raise ConfigError(f"{info.full_name} has no named features; read a set of labelled images")
    found = [[key for key, of in info.features.items() if type(of) is kind] for kind in kinds]
    if info.supervised_keys and len(info.supervised_keys) == 2:
        pairs = zip(info.supervised_keys, found, strict=True)
        found = [[key] if key in keys else keys for key, keys in pairs]
    images, labels = found
    if len(images) != 1 or len(labels) != 1:
        raise ConfigError(
            f"{info.full_name} has images: {', '.join(images) or 'none'}; class labels: "
            f"{', '.join(labels) or 'none'}; read a set with one of each"
        )
    if info.features[images[0]].np_dtype != "uint8":
        raise ConfigError(
            f"{info.full_name} has images of {info.features[images[0]].np_dtype}; read a set of "
            "images with 8 bits a channel"
        )
    return images[0], labels[0]


def _fingerprint(info: Any, directory: Path, split: str, taken: range) -> str:
    digest = hashlib.sha256(f"{info.full_name}\0{split}\0{taken}\n".encode())
    files = info.splits[split]
    for file, records in zip(files.filepaths, files.shard_lengths, strict=True):
        digest.update(f"{file.name}\0{file.stat().length}\0{records}\n".encode())
    for file in sorted(path for path in directory.iterdir() if path.suffix in METADATA):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def one_line(error: Exception) -> str:
    """The start of the message of an error, in one line, or its type if it has none."""
    return message_of(error)[:300] or type(error).__name__
