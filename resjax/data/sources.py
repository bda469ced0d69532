"""The sources of images, by name."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from resjax.buckets.places import reading, reading_file
from resjax.config import ConfigError, notify
from resjax.config.keys import KEYS
from resjax.config.paths import place
from resjax.config.tables import Table
from resjax.data.cifar import choose_cifar, cifar_source
from resjax.data.digits import digits
from resjax.data.fake import FAKE_EXAMPLES, fake
from resjax.data.folder import folder
from resjax.data.parquet import parquet_source, warn_of_row_groups
from resjax.data.parquet_files import choose_parquet
from resjax.data.resident import decode_split, refuse_too_many_bytes
from resjax.data.shapes import DIFFICULTY, EXAMPLES, shapes
from resjax.data.slices import Splits, slice_source
from resjax.data.source import Source, Split, with_channels


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of source, for names that begin alike: NAME or NAME:ARGUMENT.

    Attributes:
      form: the form of the name, for error messages.
      pattern: the pattern that the whole name matches.
      make: makes the source from a `DataRequest` and the groups of the pattern; those that are not
        in the name are None.
      white: the value of white in the images of the source, which is 255 in image files.
    """

    form: str
    pattern: str
    make: Callable[..., Source]
    white: float = 255.0


class DataRequest(NamedTuple):
    """The settings of a config that determine how a source is made.

    Attributes:
      directory: the directory or address of prepared data; empty is the default.
      splits: slices of its splits.
      on_bad: what to do about images that cannot be read.
      feed: value of the key `data.feed`.
      size: side of the crops that streamed images become; 0 is images as they are.
      resident_bytes: the maximum bytes of images on a device.
      exif: whether images in files are turned upright as their EXIF metadata say.
      channels: number of channels that images are converted to, 1 or 3; 0 leaves them as they are.
    """

    directory: str = ""
    splits: Splits = Splits()
    on_bad: str = "refuse"
    feed: str = "auto"
    size: int = 0
    resident_bytes: int = 2**31
    exif: bool = False
    channels: int = 0


EVERYTHING = DataRequest()


def requested(data: ConfigDict, splits: Splits) -> DataRequest:
    """The request that corresponds to the section `data` of a config."""
    return DataRequest(
        directory=data.dir,
        splits=splits,
        on_bad=data.on_bad,
        feed=data.feed,
        size=data.size,
        resident_bytes=data.resident_bytes,
        exif=data.exif,
        channels=data.channels,
    )


def sliced(make: Callable[..., Source]) -> Callable[..., Source]:
    """Wraps a function that makes a whole source in memory, so that the source is sliced."""
    return lambda request, *arguments: slice_source(_source_of(make, *arguments), request.splits)


def _source_of(make: Callable[..., Source], *arguments: Any) -> Source:
    """Calls what makes a source; ConfigError if it makes something else."""
    made = make(*arguments)
    if not isinstance(made, Source):
        raise ConfigError(f"{make.__name__} gives {type(made).__name__}; return a Source")
    return made


def _prepared(request: DataRequest, name: str) -> Source:
    from resjax.data.tfds import tfds_source

    directory = place(request.directory, "data.dir=") if request.directory else None
    return tfds_source(name, directory, request.splits)


def _in_folders(request: DataRequest, path: str) -> Source:
    with reading(place(path, "data.name=folder:")) as there:
        return folder(there.directory, request.splits, request.on_bad)


def _in_cifar_files(request: DataRequest, path: str) -> Source:
    with reading_file(place(path, "data.name=cifar:"), choose_cifar) as there:
        return slice_source(cifar_source(there), request.splits)


def _in_parquet_files(request: DataRequest, path: str, label: str | None) -> Source:
    with reading_file(place(path, "data.name=parquet:"), choose_parquet) as there:
        source = parquet_source(there, label or "", request.splits)
    if request.size and not request.splits.test_only:
        warn_of_row_groups(path, source.train)
    return source


_NUMBER = "([1-9][0-9]{0,8})"

SOURCES = Table(
    "data.name",
    {
        "digits": Kind("digits", "digits", sliced(digits), white=16.0),
        "shapes": Kind(
            "shapes, shapes:DIFFICULTY from 0 to 1, or shapes:DIFFICULTY:EXAMPLES",
            f"shapes(?::(0(?:[.][0-9]+)?|1(?:[.]0+)?)(?::{_NUMBER})?)?",
            sliced(
                lambda difficulty, examples: shapes(
                    float(difficulty or DIFFICULTY), int(examples or EXAMPLES)
                )
            ),
        ),
        "fake": Kind(
            "fake:HxWxC:CLASSES or fake:HxWxC:CLASSES:EXAMPLES, such as fake:32x32x3:10",
            f"fake:{_NUMBER}x{_NUMBER}x{_NUMBER}:{_NUMBER}(?::{_NUMBER})?",
            sliced(
                lambda h, w, c, classes, examples: fake(
                    (int(h), int(w), int(c)), int(classes), int(examples or FAKE_EXAMPLES)
                )
            ),
        ),
        "cifar10": Kind("cifar10", "(cifar10)", _prepared),
        "cifar100": Kind("cifar100", "(cifar100)", _prepared),
        "imagenet2012": Kind("imagenet2012", "(imagenet2012)", _prepared),
        "tfds": Kind(
            "tfds:NAME, a set of images in TensorFlow Datasets, such as tfds:food101",
            "tfds:(.+)",
            _prepared,
        ),
        "cifar": Kind(
            "cifar:PATH, CIFAR-10 or CIFAR-100 as their authors publish them, such as "
            "cifar:cifar-10-python.tar.gz",
            "cifar:(.+)",
            _in_cifar_files,
        ),
        "parquet": Kind(
            "parquet:PATH or parquet:PATH:LABEL, a file or directory of Parquet with images, as on "
            "Hugging Face, and the column of the labels if there are several",
            r"parquet:(.+?)(?::(\w+))?",
            _in_parquet_files,
        ),
        "folder": Kind(
            "folder:PATH, a directory, here or in a bucket, with a folder of images for each class",
            "folder:(.+)",
            _in_folders,
        ),
    },
    entry="a Kind of source",
    fits=lambda entry: isinstance(entry, Kind),
)


def load(name: str, request: DataRequest = EVERYTHING) -> Source:
    """The source with a name such as "digits" or "fake:32x32x3:10".

    Raises:
      ConfigError: if there is no source with this name, or it cannot meet the request.
    """
    [kind_name] = KEYS["data.name"].names_in(name)
    kind = SOURCES.choose(kind_name)
    match = re.fullmatch(kind.pattern, name)
    if not match:
        raise ConfigError(f"data.name={name!r} is not {kind.form}")
    source = _source_of(kind.make, request, *match.groups())
    _refuse_malformed(name, source)
    _warn_of_white(name, source, kind.white)
    source = with_channels(source, request.channels)
    if request.splits.test_only:
        source = dataclasses.replace(source, train=source.test)  # held in memory once
    return _as_fed(name, source, request)


def _refuse_malformed(name: str, source: Source) -> None:
    """Raises ConfigError for splits in memory that are not images with labels of the classes."""
    for key, split in source.splits.items():
        if not isinstance(split, Split):
            continue
        images, labels, classes = split.images, split.labels, len(source.class_names)
        if images.ndim != 4 or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            remedies = {
                "grey images get their channel by images[..., None]": images.ndim == 3,
                "labels.ravel() makes them [n]": labels.shape == (len(images), 1),
                "labels.argmax(-1) makes numbers of one-hot labels": (
                    labels.ndim == 2 and labels.shape[1] > 1
                ),
                "labels.astype(np.int32) makes them numbers": labels.dtype.kind not in "iu",
            }
            raise ConfigError(
                f"data.name={name}: the split {key} has images {images.shape} and labels "
                f"{labels.shape} {labels.dtype}; they are [n, H, W, C], and [n] of int32"
                + "".join(f"; {remedy}" for remedy, helps in remedies.items() if helps)
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            raise ConfigError(
                f"data.name={name}: the split {key} has labels from {labels.min()} to "
                f"{labels.max()}, and there are {classes} class names; name all of them"
            )


def _warn_of_white(name: str, source: Source, white: float) -> None:
    """Warns if no pixel to train on is above 1, and white is said to be 255."""
    if not isinstance(source.train, Split) or white != Kind.white:
        return
    brightest = source.train.images.max(initial=0)
    if 0 < brightest <= 1:
        notify(
            f"data.name={name}: no pixel is above {brightest:g}, and white is {white:g} in the "
            "files that predict reads; give Kind(..., white=1.0), or images from 0 to 255"
        )


def _as_fed(name: str, source: Source, request: DataRequest) -> Source:
    """The source in the form it is fed in: splits in memory if resident, encoded otherwise."""
    in_memory = isinstance(source.train, Split)
    if request.feed not in ("auto", "streaming" if request.size and not in_memory else "resident"):
        raise ConfigError(
            f"data.feed={request.feed} does not fit data.name={name} with data.size={request.size};"
            + (
                f" {name} is in memory, use resident"
                if in_memory
                else " streamed images are made of one size, such as data.size=224, and resident "
                "ones are as they are, with data.size=0"
            )
        )
    if in_memory and request.size:
        raise ConfigError(
            f"data.size={request.size} has no effect on {name}, whose images are as they are; "
            "set it to 0"
        )
    if not in_memory and not request.size:
        source = _decoded(source, request)
    refuse_too_many_bytes(source.image_bytes, request.resident_bytes)
    return source


def _decoded(source: Source, request: DataRequest) -> Source:
    limits = request.resident_bytes, request.on_bad, request.exif
    once = {id(split): split for split in source.splits.values()}
    decoded = {number: decode_split(split, *limits) for number, split in once.items()}
    splits, left_out = {}, {}
    for key, split in source.splits.items():
        splits[key], bad = decoded[id(split)]
        left_out[key] = {**source.left_out.get(key, {}), **bad}
    return dataclasses.replace(source, left_out=left_out, **splits)
