"""Sources in directories that have a folder of image files for each class."""

import collections
import dataclasses
import hashlib
import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from resjax.config import ConfigError, Notice, choose, nearest
from resjax.config.naming import composed
from resjax.data.slices import OWN_TEST, Splits, resolve, slices_of
from resjax.data.source import Source

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "valid",
    "val": "val",
}
"""Names of folders with splits, in lower case, and the names of the splits in slices."""

OWN_SPLIT = {"train": "train[:80%]", "test": "train[80%:]"}
"""Slices to train and test on where there is no folder to test on. Every slice has its share of
each class, in the order of the hashes of the names: adding an image changes no other's place."""

LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that operating systems and archives leave beside those of classes."""

ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
"""Last bytes of a whole file by format; a file that ends so need not be decoded to be checked."""

END_BYTES = 4096
"""Bytes at the end of a file that are searched; zeros may pad it, as cameras write in blocks."""

READERS = 16
"""Number of threads that check files, which hides the latency of network disks."""


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
    """Files of images, each read when it is asked for.

    The files of each class are spread evenly over the whole, in the order of a hash of their names:
    any slice has about the same share of every class.

    Attributes:
      root: directory of the class folders.
      folders: names of the class folders, by label.
      names: paths of the files within their class folders, `[n]` bytes.
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
        """The bytes of the file, and the label, of an example."""
        with open(self.name(number), "rb") as file:
            return file.read(), int(self.labels[number])

    def name(self, number: int) -> str:
        """The path of an example."""
        folder = self.folders[self.labels[number]]
        return os.path.join(self.root, folder, os.fsdecode(self.names[number]))


def folder(path: Path, splits: Splits, on_bad: str) -> Source:
    """The images in PATH/train/CLASS with PATH/test, validation, valid or val; or in PATH/CLASS.

    The latter are all in the split `train`. Without a split to test on, a fifth of each class is
    tested on, and a warning says so. Labels are the positions of the classes in alphabetical order.
    Folders within a class folder belong to the class. Files with the suffix of an image are images,
    apart from hidden files; a warning counts the other files, and names the class that loses the
    largest share.

    Every image file of a split that is read is checked: its header, and whether it ends as a whole
    file does, which takes 0.1 ms; if it does not, or is neither JPEG nor PNG, it is decoded. That
    finds links that lead nowhere, and empty, truncated, foreign and too large files; damaged pixels
    of a JPEG or PNG are found only when it is decoded.

    Args:
      path: the directory.
      splits: the slices of the splits to read.
      on_bad: what to do about files that are no whole images: "refuse", or "skip" with a warning.

    Raises:
      ConfigError: for a directory without classes, a class without images, and images that cannot
        be read.
    """
    tell = choose(ON_BAD, on_bad, "data.on_bad")
    roots = _roots(path, splits.test_only)
    splits = _with_test(path, roots, splits)
    slices = slices_of(splits, list(roots))
    class_names = tuple(_folders(roots[slices["train"].name]))
    _refuse_equal(roots[slices["train"].name], class_names)
    used = {part.name for part in slices.values()}
    scans = {name: _scan(roots[name], class_names) for name in roots if name in used}
    if any(scan.bad for scan in scans.values()):
        tell(path, scans.values())
    for scan in scans.values():
        _refuse_empty(scan)
    if any(scan.bad or scan.others for scan in scans.values()):
        _warn(path, scans.values())
    channels = 1 if all(scan.grey.all() for scan in scans.values()) else 3
    ranges = resolve(slices, {name: len(scan.labels) for name, scan in scans.items()})
    parts = {
        key: _part(scans[slices[key].name], taken, class_names, channels)
        for key, taken in ranges.items()
    }
    if not splits.test_only:
        _warn_of_classes(path, parts["train"])
    found = {name: scan.bad for name, scan in scans.items()}
    # A split that several slices share has its files listed once.
    left_out = {key: found.pop(part.name, {}) for key, part in slices.items()}
    return Source(class_names=class_names, left_out=left_out, **parts)


def _refuse(path: Path, scans: "Iterable[_Scan]") -> NoReturn:
    bad = {name: reason for scan in scans for name, reason in scan.bad.items()}
    files = len(bad) + sum(len(scan.labels) for scan in scans)
    raise ConfigError(
        f"{len(bad)} of {files} images in {path} cannot be read{_told(bad)}; repair or remove "
        "them, or leave them out with data.on_bad=skip"
    )


def _skip(path: Path, scans: "Iterable[_Scan]") -> None:
    """Does nothing: `_warn` counts bad files among all that are left out."""


ON_BAD = {"refuse": _refuse, "skip": _skip}


def _warn(path: Path, scans: "Iterable[_Scan]") -> None:
    """Warns in one line of files that are left out, and of the class that loses most of its own."""
    out, taken, lost = {}, {}, collections.Counter()
    for scan in scans:
        root = scan.root.absolute()
        folders = [str(root / name) for name in scan.folders]
        counts = np.bincount(scan.labels, minlength=len(folders)).tolist()
        taken |= dict(zip(folders, counts, strict=True))
        for name, why in (scan.bad | scan.others).items():
            out[name] = why
            lost[str(root / Path(name).relative_to(root).parts[0])] += 1
    files = len(out) + sum(taken.values())
    share = {name: taken[name] / (taken[name] + lost[name]) for name in lost if name in taken}
    told = f"{len(out)} of {files} files in {path} are left out{_told(out)}"
    if share:
        least = min(share, key=share.__getitem__)
        told += f"; of the {taken[least] + lost[least]} in {least} {taken[least]} remain"
    warnings.warn(told, Notice, stacklevel=3)


def _warn_of_classes(path: Path, train: Folder) -> None:
    """Warns of classes without an image to train on, or if there is only one class."""
    class_names = train.folders
    if len(class_names) == 1:
        warnings.warn(
            f"{path} has one class, {class_names[0]}, which every network takes every image for; "
            "put the images of another in a folder beside it",
            Notice,
            stacklevel=3,
        )
    counts = np.bincount(train.labels, minlength=len(class_names))
    unseen = [class_names[label] for label in np.flatnonzero(counts == 0)]
    if unseen:
        warnings.warn(
            f"{len(unseen)} of {len(class_names)} classes in {path} have no image to train on, the "
            f"first is {unseen[0]}; give them more, or train on a larger slice by data.train",
            Notice,
            stacklevel=3,
        )


def _told(files: Mapping[str, str]) -> str:
    """The end of a message about files: their number by reason, and the first of them."""
    counts = collections.Counter(reason.partition(" (")[0] for reason in files.values())
    name, reason = next(iter(files.items()))
    return (
        f" ({', '.join(f'{count} {what}' for what, count in counts.most_common())}); "
        f"the first is {name} ({reason})"
    )


# -------------------------------------------------------------------------------------- directories


def _roots(path: Path, test_only: bool) -> Mapping[str, Path]:
    """The directory with the class folders of each split; one is `train`, unless `test_only`.

    A folder `train` without folders in it is a class, of trains. A folder with the name of a split
    is no split if its only folder is none of the classes, such as one of unlabelled images.
    """
    if not path.is_dir():
        raise ConfigError(
            f"{path} is not a directory; name one with a folder of images for each class"
        )
    found: dict[str, list[str]] = {}
    for name in _folders(path):
        if name.lower() in SPLIT_NAMES and _folders(path / name):
            found.setdefault(SPLIT_NAMES[name.lower()], []).append(name)
    roots = {}
    for split, names in found.items():
        if len(names) > 1 and split not in names:
            raise ConfigError(f"{path} has {' and '.join(names)}; rename one of them to {split}")
        roots[split] = path / (split if split in names else names[0])
    if "train" in roots:
        classes = _folders(roots["train"])
        return {
            split: root
            for split, root in roots.items()
            if len(classes) == 1 or len(inside := _folders(root)) > 1 or inside[0] in classes
        }
    if test_only and roots:
        return roots
    _refuse_other_layouts(path)
    return {"train": path}


def _refuse_other_layouts(path: Path) -> None:
    """Raises ConfigError for a directory that cannot have a folder for each class."""
    classes = _folders(path)
    if not classes:
        raise ConfigError(
            f"{path} has no class folders; put images in {path}/CLASS or {path}/train/CLASS"
        )
    inside = _folders(path / classes[0])
    if len(classes) == 1 and inside:
        raise ConfigError(
            f"{path} has one folder, which has folders; name that: folder:{path / classes[0]}"
        )
    shared = set(inside).intersection(*(_folders(path / name) for name in classes if inside))
    if len(shared) > 1:
        raise ConfigError(
            f"all folders of {path} have folders {', '.join(sorted(shared)[:2])}; if these are "
            f"the classes, rename {' and '.join(classes[:2])} to train and test"
        )


def _with_test(path: Path, roots: Mapping[str, Path], splits: Splits) -> Splits:
    """The splits that were asked for, or `OWN_SPLIT` if there is nothing else to test on."""
    evaluated = splits.test_only and not splits.trained
    if splits.test or splits.train or evaluated or {*roots} & {*OWN_TEST}:
        return splits
    if not splits.test_only:
        beside = [] if path in roots.values() else _folders(path)
        unread = {name for name in beside if name.lower() in SPLIT_NAMES} - {
            root.name for root in roots.values()
        }
        where = f" ({' and '.join(sorted(unread))} without any)" if unread else ""
        warnings.warn(
            f"{path} has no folders of classes to test on{where}: a fifth of each class of "
            f"{roots['train']} is, as data.train={OWN_SPLIT['train']!r} and "
            f"data.test={OWN_SPLIT['test']!r} say",
            Notice,
            stacklevel=3,
        )
    return splits._replace(**OWN_SPLIT)


def _folders(root: Path) -> list[str]:
    """Names of the folders in a directory, in order; none if it is not a directory."""
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not _left_behind(entry.name)
            # Of a link that leads to itself, `is_dir` of the entry would raise.
            and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
        )


@dataclasses.dataclass(frozen=True)
class _Scan:
    """The files of a split that are images, in the order in which they are read.

    The folders are those of the classes, by label; their names may be spelt by other characters of
    Unicode than in the training split. `bad` has the images that cannot be read, and `others` the
    files that are no images: {path: what is wrong}.
    """

    root: Path
    folders: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    grey: np.ndarray
    bad: dict[str, str]
    others: dict[str, str]


def _scan(root: Path, class_names: tuple[str, ...]) -> _Scan:
    labels = {composed(name): label for label, name in enumerate(class_names)}
    files, others, folders = [], {}, list(class_names)
    found = _folders(root)
    _refuse_equal(root, found)
    for name in found:
        if composed(name) not in labels:
            raise ConfigError(
                f"{root / name} is of a class that is not trained on; {nearest(name, [*labels])}"
            )
        folders[labels[composed(name)]] = name
        files += [(name, file) for file in sorted(_images(root / name, others))]
    with ThreadPoolExecutor(READERS) as pool:
        seen = list(pool.map(lambda file: look_at_image(root.joinpath(*file)), files, chunksize=64))
    good = [number for number, result in enumerate(seen) if not isinstance(result, str)]
    bad = {
        str(root.absolute().joinpath(*file)): result
        for file, result in zip(files, seen, strict=True)
        if isinstance(result, str)
    }
    order = [good[number] for number in _spread([files[number] for number in good])]
    return _Scan(
        root,
        tuple(folders),
        np.array([os.fsencode(files[number][1]) for number in order], np.bytes_),
        np.array([labels[composed(files[number][0])] for number in order], np.int32),
        np.array([seen[number][0] for number in order], np.int64),
        np.array([seen[number][1] for number in order], bool),
        bad,
        others | _beside(root),
    )


def _images(directory: Path, others: dict[str, str]) -> Iterator[str]:
    """Paths within a directory of the files that have the suffix of an image.

    Args:
      directory: the folder of a class; folders in it are searched too, each once, whatever links
        there are.
      others: receives the files that are not taken, {path: what each is instead}.
    """
    from resjax.data.decode import suffixes

    seen, top = set(), str(directory.absolute())
    for place, folders, files in os.walk(top, onerror=_unreadable, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            others[place] = "a link to a folder that is read already"
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _left_behind(name))
        for name in sorted(files):
            path, suffix = os.path.join(place, name), os.path.splitext(name)[1].lower()
            if suffix in suffixes() and not _left_behind(name):
                yield path[len(top) + 1 :]
            elif suffix in suffixes() and not name.startswith("._"):
                others[path] = "hidden"
            elif not _left_behind(name):
                others[path] = f"with suffix {suffix}" if suffix else "without a suffix"


def _unreadable(error: OSError) -> NoReturn:
    raise ConfigError(f"cannot read {error.filename}: {error.strerror}; make it readable")


def _left_behind(name: str) -> bool:
    """Tells whether a file or folder is hidden, or made by an operating system or archive."""
    return name[0] == "." or name in LEFT_BEHIND or name.lower() in ("thumbs.db", "desktop.ini")


def _beside(root: Path) -> dict[str, str]:
    """Images and dangling links beside the class folders, {path: why it is not read}."""
    from resjax.data.decode import suffixes

    found = {}
    for path in sorted(root.absolute().iterdir()):
        if _left_behind(path.name) or path.is_dir():
            continue
        if path.suffix.lower() in suffixes():
            found[str(path)] = "in no class folder"
        elif path.is_symlink() and not path.exists():
            found[str(path)] = _nowhere(path)
    return found


def _nowhere(path: Path) -> str:
    return f"a link that leads nowhere (to {os.readlink(path)})"


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


def _refuse_equal(root: Path, names: Iterable[str]) -> None:
    """Raises ConfigError for two folders whose names differ only in their Unicode spelling."""
    seen: dict[str, str] = {}
    for name in names:
        if composed(name) in seen:
            raise ConfigError(
                f"{root} has two folders {composed(name)}, which Unicode spells in two ways "
                f"({seen[composed(name)]!a} and {name!a}); put them together"
            )
        seen[composed(name)] = name


def _refuse_empty(scan: _Scan) -> None:
    """Raises ConfigError for a class folder without an image that can be read."""
    left = {scan.folders[label] for label in np.unique(scan.labels)}
    for name in _folders(scan.root):
        if name not in left:
            inside = f"{scan.root.absolute() / name}{os.sep}"
            rest = scan.bad | scan.others
            rest = {file: why for file, why in rest.items() if file.startswith(inside)}
            raise ConfigError(
                f"class folder {scan.root / name} has no image that can be read"
                f"{_told(rest) if rest else ''}; fill or remove it"
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
    return Folder(root, scan.folders, names, labels, channels, digest.hexdigest())


# -------------------------------------------------------------------------------------------- files


def look_at_image(path: Path) -> tuple[int, bool] | str:
    """Checks a file: its bytes and whether it is grey, by its header; or else what is wrong."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "not a file"  # to open a pipe would wait
        with open(path, "rb") as file:
            return _look(file)
    except FileNotFoundError:
        return _nowhere(path)
    except OSError as error:
        return error.strerror or type(error).__name__


def _look(file: BinaryIO) -> tuple[int, bool] | str:
    from PIL import Image

    from resjax.data.decode import (
        MOST_PIXELS,
        TooManyPixels,
        decode,
        open_image,
        refuse_too_many_pixels,
    )

    size = file.seek(0, os.SEEK_END)
    if not size:
        return "empty"
    file.seek(0)
    try:
        image = open_image(file)
        refuse_too_many_pixels(image.height, image.width)
    except TooManyPixels:
        return f"more than {MOST_PIXELS} pixels"
    except ValueError:
        return "not an image"
    # The header is read by now; it may hold a smaller image, with an end of its own.
    file.seek(max(size - END_BYTES, file.tell()))
    end = ENDS.get(image.format)
    if end is None or not file.read().rstrip(b"\0").endswith(end):
        file.seek(0)
        try:
            decode(file.read(), 3)
        except ValueError:
            return "truncated"
    return size, Image.getmodebase(image.mode) == "L"
