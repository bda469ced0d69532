"""Data sets that TFDS prepared as ArrayRecord files, read without TensorFlow and offline."""

import bisect
import dataclasses
import difflib
import functools
import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resjax.config import ConfigError
from resjax.config.paths import local
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source

FORMAT = "array_record"

OWN_TEST = {"imagenet2012": ("validation",)}  # the labels of its test split are not published

METADATA = (".json", ".txt")
"""Suffixes of the files beside the records: the metadata of a set, and names of its classes."""

_NAME = re.compile(r"(?:tfds:)?([a-zA-Z]\w*)(?:/(\w[\w.-]*))?(?::(\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Name(NamedTuple):
    """The name of a set: NAME or NAME/CONFIG, either with :VERSION.

    An empty config is the set's own one, an empty version the newest.
    """

    name: str
    config: str = ""
    version: str = ""

    def __str__(self) -> str:
        config, version = self.config and f"/{self.config}", self.version and f":{self.version}"
        return f"{self.name}{config}{version}"


def parse_name(text: str) -> Name:
    """Parses a name, such as `cifar10`, `tfds:cifar10` or `tfds:cifar10_1/v4:1.1.0`.

    Raises:
      ConfigError: if it is no name of a set.
    """
    match = _NAME.fullmatch(text)
    if not match:
        raise ConfigError(
            f"{text!r} is not a set of TFDS; write NAME, NAME/CONFIG or NAME/CONFIG:VERSION, "
            "such as cifar10_1/v4:1.1.0"
        )
    return Name(*(group or "" for group in match.groups()))


def default_data_dir() -> Path:
    """The directory of TFDS for all sets: $TFDS_DATA_DIR, or ~/tensorflow_datasets.

    Raises:
      ConfigError: if that is not a POSIX directory.
    """
    text = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return local(text, "TFDS_DATA_DIR=")


@dataclasses.dataclass(frozen=True)
class Records:
    """Examples of a split, each read when it is asked for. Files are opened by the first read.

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


def tfds_source(name: str, data_dir: Path | None, splits: Splits) -> Source:
    """The source for a set that `resjax prepare` or TFDS itself prepared.

    By default `train` is trained on, and `test` is tested on, or `validation` where there is no
    `test`; for ImageNet, `validation`. The files of these splits are opened once, and must be
    whole.

    Args:
      name: a name such as `cifar10`, `imagenet2012`, `tfds:mnist` or `tfds:cifar10_1/v4:1.1.0`.
      data_dir: the directory of all sets; None is that of TFDS.
      splits: the slices of the splits to read.

    Raises:
      ConfigError: if it is not prepared, not as ArrayRecord or not whole, or no set of images with
        one label each.
    """
    wanted, data_dir = parse_name(name), data_dir or default_data_dir()
    directory = find(wanted, data_dir)
    if directory is None:
        raise ConfigError(_missing(wanted, data_dir))
    command = prepare_command(wanted, data_dir)
    info = open_prepared(directory, command).info
    image, label = _keys(info)
    lengths = {key: split.num_examples for key, split in info.splits.items()}
    own_test = {"own_test": OWN_TEST[wanted.name]} if wanted.name in OWN_TEST else {}
    slices = slices_of(splits, list(lengths), **own_test)
    ranges = resolve(slices, lengths)
    for split in {part.name for part in slices.values()}:
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


# -------------------------------------------------------------------------------------- directories


def find(wanted: Name, data_dir: Path) -> Path | None:
    """The directory of a set, of its newest version unless one is named; None if there is none.

    Raises:
      ConfigError: if none of its several configs is the default, and none is named.
    """
    root = data_dir / wanted.name
    root /= wanted.config or ("" if _versions(root) else _own_config(root))
    versions = [wanted.version] if wanted.version else _versions(root)
    return root / versions[-1] if versions and (root / versions[-1]).is_dir() else None


def _versions(root: Path) -> list[str]:
    """The versions in a directory, in order. TFDS gives other names to incomplete ones."""
    found = [path.name for path in _directories(root) if _VERSION.fullmatch(path.name)]
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))


def _own_config(root: Path) -> str:
    """The default config of a set: the one that TFDS noted, or the only one."""
    configs = [path.name for path in _directories(root) if _versions(path)]
    note = root / ".config" / "metadata.json"
    own = json.loads(note.read_text()).get("default_config_name") if note.exists() else None
    if own in configs or not configs:
        return own or ""
    if len(configs) > 1:
        raise ConfigError(f"{root.name} has several configs; name one: {', '.join(configs)}")
    return configs[0]


def _directories(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def prepare_command(wanted: Name, data_dir: Path) -> str:
    """The command that prepares a set."""
    return f"resjax prepare {wanted} --data-dir={data_dir}"


def _missing(wanted: Name, data_dir: Path) -> str:
    import tensorflow_datasets as tfds

    there = [path.name for path in _directories(data_dir)]
    known = tfds.list_builders(with_community_datasets=False) + there
    if wanted.name not in known:
        return unknown(wanted, known)
    return f"{wanted} is not in {data_dir}; run: {prepare_command(wanted, data_dir)}"


def unknown(wanted: Name, known: Sequence[str]) -> str:
    """The message about a set that is unknown, with the nearest of the hundreds of known ones."""
    close = difflib.get_close_matches(wanted.name, known, n=3)
    remedy = f"nearest: {', '.join(close)}" if close else "try cifar10 or imagenet2012"
    return f"TFDS has no set {wanted.name!r}; {remedy}"


# ---------------------------------------------------------------------------------------- contents


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
    """Opens every file of a split, which takes 0.1 ms each.

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
    """The message of an error, as one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
