"""Images in folders: a directory with a folder of JPEG or PNG files for each class."""

import dataclasses
import hashlib
import os
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

from resjax.config import ConfigError, choose, nearest
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source

SUFFIXES = (".jpg", ".jpeg", ".png")

SPLIT_NAMES = ("train", "test", "validation", "val")

ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
"""What the last bytes of a file hold. Inside the pixels of a JPEG the marker cannot occur."""

END_BYTES = 4096
"""Where the end of an image is looked for; some cameras write more after it."""

READERS = 16
"""Files that are looked at together, which hides the latency of network disks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
    """Files of images, each read when it is asked for.

    The files of each class are spread evenly over the whole, in the order of a hash of their names:
    any slice has about the same share of every class.

    Attributes:
      root: directory of the class folders.
      folders: names of the class folders, by label.
      names: of the files, `[n]` bytes.
      labels: `[n]` int32.
      channels: 1 if all images of the source are grey, else 3.
      fingerprint: SHA-256 over the names, sizes and labels of all files, in order.
    """

    root: str
    folders: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray
    channels: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, number: int) -> tuple[bytes, int]:
        """The file and the label of an example."""
        with open(self.name(number), "rb") as file:
            return file.read(), int(self.labels[number])

    def name(self, number: int) -> str:
        """The path of an example."""
        folder = self.folders[self.labels[number]]
        return os.path.join(self.root, folder, os.fsdecode(self.names[number]))


def folder(path: Path, splits: Splits, on_bad: str) -> Source:
    """The images in PATH/train/CLASS with PATH/test, validation or val; or those in PATH/CLASS.

    The latter are all in the split `train`, to be cut with slices. Labels are the positions of the
    classes in alphabetical order. Files of other suffixes, and hidden ones, are no images.

    Every file of a split that is read is looked at: its header, and whether the end is there. That
    finds empty, cut and foreign files in 0.1 ms each; damaged pixels are found when it is decoded.

    Args:
      path: the directory.
      splits: which slices of the splits to read.
      on_bad: what to do about files that are no whole images: "refuse", or "skip" with a warning.

    Raises:
      ConfigError: for a directory without classes, a class without images, and images that cannot
        be read.
    """
    tell = choose(ON_BAD, on_bad, "data.on_bad")
    path = path.expanduser()
    roots = _roots(path, splits.test_only)
    slices = slices_of(splits, list(roots))
    class_names = tuple(_folders(roots[slices["train"].name]))
    used = {part.name for part in slices.values()}
    scans = {name: _scan(roots[name], class_names) for name in roots if name in used}
    if bad := [item for scan in scans.values() for item in scan.bad.items()]:
        tell(bad, sum(len(scan.labels) for scan in scans.values()) + len(bad), path)
    for scan in scans.values():
        _refuse_empty(scan, class_names)
    channels = 1 if all(scan.grey.all() for scan in scans.values()) else 3
    ranges = resolve(slices, {name: len(scan.labels) for name, scan in scans.items()})
    parts = {
        key: _part(scans[slices[key].name], taken, class_names, channels)
        for key, taken in ranges.items()
    }
    found = {name: scan.bad for name, scan in scans.items()}
    # Of a split that is cut in several, they are listed once.
    left_out = {key: found.pop(part.name, {}) for key, part in slices.items()}
    return Source(class_names=class_names, left_out=left_out, **parts)


def _refuse(bad: list[tuple[str, str]], files: int, path: Path) -> None:
    raise ConfigError(
        f"{_count(bad, files, path)}; repair or remove them, or leave them out with "
        "data.on_bad=skip"
    )


def _warn(bad: list[tuple[str, str]], files: int, path: Path) -> None:
    warnings.warn(f"{_count(bad, files, path)}; they are left out", stacklevel=3)


def _count(bad: list[tuple[str, str]], files: int, path: Path) -> str:
    (name, reason), *_ = bad
    return f"{len(bad)} of {files} images in {path} cannot be read; the first is {name} ({reason})"


ON_BAD = {"refuse": _refuse, "skip": _warn}


# -------------------------------------------------------------------------------------- directories


def _roots(path: Path, test_only: bool) -> Mapping[str, Path]:
    """The directory with the class folders of each split, of which one is to train on if need be.

    A folder `train` without folders in it is a class, of trains.
    """
    if not path.is_dir():
        raise ConfigError(
            f"{path} is not a directory; name one with a folder of images for each class"
        )
    roots = {name: path / name for name in SPLIT_NAMES if _folders(path / name)}
    if "train" in roots or (test_only and roots):
        return roots
    if not _folders(path):
        raise ConfigError(
            f"{path} has no class folders; put images in {path}/CLASS or {path}/train/CLASS"
        )
    return {"train": path}


def _folders(root: Path) -> list[str]:
    """Names of the folders in a directory, in order; none if it is not a directory."""
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.name[0] != "." and entry.is_dir())


@dataclasses.dataclass(frozen=True)
class _Scan:
    """The files of a split that are images, in the order in which they are read.

    The others are in `bad`: what is wrong with each, by its path.
    """

    root: Path
    names: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    grey: np.ndarray
    bad: dict[str, str]


def _scan(root: Path, class_names: tuple[str, ...]) -> _Scan:
    labels = {name: label for label, name in enumerate(class_names)}
    files = []
    for name in _folders(root):
        if name not in labels:
            raise ConfigError(
                f"{root / name} is of a class that is not trained on; {nearest(name, [*labels])}"
            )
        files += [(name, file) for file in _images(root / name)]
    with ThreadPoolExecutor(READERS) as pool:
        seen = list(pool.map(lambda file: look(root.joinpath(*file)), files, chunksize=64))
    good = [number for number, result in enumerate(seen) if not isinstance(result, str)]
    bad = {
        str(root.absolute().joinpath(*file)): result
        for file, result in zip(files, seen, strict=True)
        if isinstance(result, str)
    }
    order = [good[number] for number in _spread([files[number] for number in good])]
    return _Scan(
        root,
        np.array([os.fsencode(files[number][1]) for number in order], np.bytes_),
        np.array([labels[files[number][0]] for number in order], np.int32),
        np.array([seen[number][0] for number in order], np.int64),
        np.array([seen[number][1] for number in order], bool),
        bad,
    )


def _images(directory: Path) -> list[str]:
    """Names of the files with the suffix of an image, in order."""
    with os.scandir(directory) as entries:
        names = sorted(
            entry.name
            for entry in entries
            if entry.name[0] != "." and entry.name.lower().endswith(SUFFIXES) and entry.is_file()
        )
    if not names:
        raise ConfigError(
            f"class folder {directory} has no image ({', '.join(SUFFIXES)}); fill or remove it"
        )
    return names


def _spread(files: list[tuple[str, str]]) -> list[int]:
    """An order of (class, name) in which every class is spread evenly.

    Example k of the n in a class, by the hash of its name, comes at (k + 1/2) / n of the whole.
    """
    classes: dict[str, list[tuple[bytes, int]]] = {}
    for number, (name, file) in enumerate(files):
        digest = hashlib.sha256(os.fsencode(f"{name}/{file}")).digest()
        classes.setdefault(name, []).append((digest, number))
    places = []
    for name, members in classes.items():
        for place, (_, number) in enumerate(sorted(members)):
            places.append(((place + 0.5) / len(members), name, number))
    return [number for _, _, number in sorted(places)]


def _refuse_empty(scan: _Scan, class_names: tuple[str, ...]) -> None:
    """Every class folder must have an image that can be read."""
    left = {class_names[label] for label in np.unique(scan.labels)}
    for name in _folders(scan.root):
        if name not in left:
            raise ConfigError(
                f"class folder {scan.root / name} has no image that can be read; fill or remove it"
            )


def _part(scan: _Scan, taken: range, class_names: tuple[str, ...], channels: int) -> Folder:
    index = slice(taken.start, taken.stop)
    names, labels = scan.names[index], scan.labels[index]
    digest = hashlib.sha256()
    for name, label, size in zip(names, labels, scan.sizes[index], strict=True):
        digest.update(
            os.fsencode(class_names[label]) + b"/" + name + f"\0{size}\0{label}\n".encode()
        )
    root = str(scan.root.absolute())
    return Folder(root, class_names, names, labels, channels, digest.hexdigest())


# -------------------------------------------------------------------------------------------- files


def look(path: Path) -> tuple[int, bool] | str:
    """Bytes of an image and whether it is grey, from its header; or what is wrong with the file."""
    try:
        with open(path, "rb") as file:
            return _look(file)
    except OSError as error:
        return error.strerror or type(error).__name__


def _look(file: BinaryIO) -> tuple[int, bool] | str:
    from PIL import Image

    size = file.seek(0, os.SEEK_END)
    if not size:
        return "empty"
    file.seek(0)
    try:
        image = Image.open(file, formats=("JPEG", "PNG"))
    except Exception:  # a decoder may raise anything at bytes that are not its own
        return "neither JPEG nor PNG"
    # The header is read by now; it may hold a smaller image, with an end of its own.
    file.seek(max(size - END_BYTES, file.tell()))
    if ENDS[image.format] not in file.read():
        return "truncated"
    return size, image.mode[0] in "1LI"
