"""CIFAR-10 and CIFAR-100 in the files of their authors (Krizhevsky 2009), without TensorFlow.

Each set is published twice, as pickles of Python and as bytes, in an archive with one directory.
`torchvision` downloads the former.
"""

import io
import pickle
import tarfile
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resjax.config import ConfigError, unreadable_file
from resjax.data.layout import refuse_archive
from resjax.data.source import Source, Split

SIZE, CHANNELS = 32, 3
BYTES = CHANNELS * SIZE * SIZE
"""Bytes of an image: all of red, then green, then blue, row by row."""


class Examples(NamedTuple):
    """Images `[n, BYTES]` uint8 and labels `[n]` as they are in a file."""

    images: np.ndarray
    labels: np.ndarray


class Edition(NamedTuple):
    """One of the forms in which a set is published.

    Attributes:
      name: the name of the set.
      directory: the name of the directory in its archive.
      archive: the name of the archive.
      train: names of the files to train on, in order.
      test: name of the file to test on.
      meta: name of the file with the names of the classes.
      examples: reads the bytes of a file of examples.
      class_names: reads those of `meta`.
    """

    name: str
    directory: str
    archive: str
    train: tuple[str, ...]
    test: str
    meta: str
    examples: Callable[[bytes], Examples]
    class_names: Callable[[bytes], list[str]]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that are read."""
        return (*self.train, self.test, self.meta)

    def is_in(self, directory: Path) -> bool:
        """Tells whether a directory has all files."""
        return all((directory / name).is_file() for name in self.files)


# --------------------------------------------------------------------------------- the two formats


def _pickled(labels: str) -> Callable[[bytes], Examples]:
    """A reader of pickles, which have several labels for an image."""

    def read(data: bytes) -> Examples:
        table = _Arrays(io.BytesIO(data), encoding="latin1").load()
        return Examples(np.asarray(table["data"], np.uint8), np.asarray(table[labels], np.int32))

    return read


def _pickled_names(key: str) -> Callable[[bytes], list[str]]:
    return lambda data: list(_Arrays(io.BytesIO(data), encoding="latin1").load()[key])


def _binary(labels: int) -> Callable[[bytes], Examples]:
    """A reader of rows of bytes: some labels, of which the last is the finest, and an image."""

    def read(data: bytes) -> Examples:
        rows = np.frombuffer(data, np.uint8).reshape(-1, labels + BYTES)
        return Examples(rows[:, labels:], rows[:, labels - 1].astype(np.int32))

    return read


def _lines(data: bytes) -> list[str]:
    return data.decode().split()


ARRAYS = {
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""Names in a pickle of arrays that Python 2 or 3 wrote, by any protocol; a pickle with any other is
refused. Those of NumPy 1 are in `numpy.core`."""


class _Arrays(pickle.Unpickler):
    """Reads arrays, lists, numbers and texts, and runs no code of the file."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"a pickle that wants to run {module}.{name}")
        return super().find_class(module, name)


# ------------------------------------------------------------------------------------ the editions

EDITIONS = (
    Edition(
        name="CIFAR-10",
        directory="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        examples=_pickled("labels"),
        class_names=_pickled_names("label_names"),
    ),
    Edition(
        name="CIFAR-10",
        directory="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        meta="batches.meta.txt",
        examples=_binary(labels=1),
        class_names=_lines,
    ),
    Edition(
        name="CIFAR-100",
        directory="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        train=("train",),
        test="test",
        meta="meta",
        examples=_pickled("fine_labels"),
        class_names=_pickled_names("fine_label_names"),
    ),
    Edition(
        name="CIFAR-100",
        directory="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        meta="fine_label_names.txt",
        examples=_binary(labels=2),  # of the 20 superclasses, and of the 100 classes
        class_names=_lines,
    ),
)


FILES = frozenset(name for edition in EDITIONS for name in edition.files)
"""Names of the files of all editions."""


def choose_cifar(names: list[str]) -> list[str]:
    """Chooses the files of all editions, in their directories or none, and their archives."""
    above = ("", *(f"{edition.directory}/" for edition in EDITIONS))
    archives = [edition.archive for edition in EDITIONS]
    wanted = {*archives, *(directory + name for directory in above for name in FILES)}
    return [name for name in names if name in wanted]


def cifar_source(path: Path) -> Source:
    """The 50,000 images to train on and 10,000 to test on of CIFAR-10 or CIFAR-100.

    Images `[32, 32, 3]` uint8, in the order of the files. The labels of CIFAR-100 are those of its
    100 classes.

    Args:
      path: an archive, the directory that is in it, or a directory that has one of these.

    Raises:
      ConfigError: if there are no such files, those of both sets, or some that cannot be read.
    """
    place = _place(path)
    try:
        contents = _contents(place)
    except ConfigError:
        raise
    except Exception as error:  # an archive that is cut off can raise anything
        raise unreadable_file(place, error) from None
    edition = _edition(place, contents)
    try:
        train, test = (
            _split([edition.examples(contents[name]) for name in names])
            for names in (edition.train, (edition.test,))
        )
        class_names = tuple(edition.class_names(contents[edition.meta]))
    except Exception as error:  # and so can a file in it
        raise unreadable_file(place, error) from None
    return Source(train, test, class_names)


def _place(path: Path) -> Path:
    """The archive or directory that is at a path, or in the directory there."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist; name {EDITIONS[0].archive}, or its directory")
    if path.is_file():
        return path
    found = {edition.name: path for edition in EDITIONS if edition.is_in(path)}
    if len(found) > 1:
        raise ConfigError(
            f"{path} has the files of {' and '.join(found)}; put each into a directory of its own"
        )
    if found:
        return path
    for edition in EDITIONS:
        for place in (path / edition.directory, path / edition.archive):
            if place.exists():
                found.setdefault(edition.name, place)
    if len(found) > 1:
        raise ConfigError(
            f"{path} has {' and '.join(found)}; name one: "
            + " or ".join(f"data.name=cifar:{place}" for place in found.values())
        )
    return next(iter(found.values()), path)


def _contents(place: Path) -> dict[str, bytes]:
    """The contents of the files of any edition in an archive or directory, by name."""
    if place.is_dir():
        files = [file for file in place.iterdir() if file.name in FILES and file.is_file()]
        return {file.name: file.read_bytes() for file in files}
    if not tarfile.is_tarfile(place):
        refuse_archive(place)
        raise ConfigError(
            f"{place} is no tar archive; name {EDITIONS[0].archive}, or the directory that is in it"
        )
    contents = {}
    with tarfile.open(place) as archive:
        for member in archive:
            name = Path(member.name).name
            if name in FILES and member.isfile():
                contents[name] = archive.extractfile(member).read()
    return contents


def _edition(place: Path, contents: Container[str]) -> Edition:
    """The edition whose files are there."""

    def missing(edition: Edition) -> list[str]:
        return [name for name in edition.files if name not in contents]

    edition = min(EDITIONS, key=lambda edition: len(missing(edition)) / len(edition.files))
    lacks = missing(edition)
    if len(lacks) == len(edition.files):
        raise ConfigError(
            f"{place} has no files of CIFAR; name {EDITIONS[0].archive}, or the directory that is "
            "in it, such as data.name=cifar:data/cifar-10-batches-py"
        )
    if lacks:
        raise ConfigError(
            f"{place} has {edition.name} without {', '.join(lacks)}; fetch {edition.archive} again"
        )
    return edition


def _split(files: list[Examples]) -> Split:
    images, labels = (np.concatenate(parts) for parts in zip(*files, strict=True))
    images = images.reshape(len(labels), CHANNELS, SIZE, SIZE).transpose(0, 2, 3, 1)
    return Split(np.ascontiguousarray(images), labels)
