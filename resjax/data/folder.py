"""Sources in directories that have a folder of image files for each class."""

import collections
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from resjax.config import ConfigError, notify
from resjax.config.validation import refuse_value
from resjax.data.layout import (
    find_roots,
    folders_in,
    refuse_equal_names,
    warn_of_classes,
    warn_of_own_split,
    with_test_split,
)
from resjax.data.scan import Scan, scan_split
from resjax.data.slices import Splits, resolve, slices_of
from resjax.data.source import Source


@dataclasses.dataclass(frozen=True, eq=False)
class Folder:
    """Image files, each read on demand.

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
        """The bytes of an example's file, and its label."""
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
      on_bad: what to do about files that are not complete images: "refuse", or "skip" with a
        warning.

    Raises:
      ConfigError: for a directory without classes, a class without images, and images that cannot
        be read.
    """
    refuse_value("data.on_bad", on_bad)
    roots = find_roots(path, splits.test_only)
    asked, splits = splits, with_test_split(roots, splits)
    slices = slices_of(splits, list(roots))
    trained_on = roots[slices["train"].name]
    class_names = tuple(folders_in(trained_on))
    refuse_equal_names(trained_on, class_names)
    used = {part.name for part in slices.values()}
    scans = {name: scan_split(roots[name], class_names) for name in roots if name in used}
    if on_bad == "refuse":
        _refuse_bad(path, scans.values())
    for scan in scans.values():
        _refuse_empty(scan)
    if splits != asked and not splits.test_only:
        warn_of_own_split(path, roots)
    _warn_of_left_out(path, scans.values())
    channels = 1 if all(scan.grey.all() for scan in scans.values()) else 3
    ranges = resolve(slices, {name: len(scan.labels) for name, scan in scans.items()})
    parts = {
        key: _sliced(scans[slices[key].name], taken, class_names, channels)
        for key, taken in ranges.items()
    }
    if not splits.test_only:
        warn_of_classes(path, class_names, parts["train"].labels)
    found = {name: scan.bad for name, scan in scans.items()}
    # A split that several slices share has its files listed once.
    left_out = {key: found.pop(part.name, {}) for key, part in slices.items()}
    return Source(class_names=class_names, left_out=left_out, **parts)


def _refuse_bad(path: Path, scans: Iterable[Scan]) -> None:
    """Raises ConfigError if there are images that cannot be read."""
    bad = {name: reason for scan in scans for name, reason in scan.bad.items()}
    if bad:
        files = len(bad) + sum(len(scan.labels) for scan in scans)
        raise ConfigError(
            f"{len(bad)} of {files} images in {path} cannot be read{_reasons(bad)}; repair or "
            "remove them, or leave them out with data.on_bad=skip"
        )


def _warn_of_left_out(path: Path, scans: Iterable[Scan]) -> None:
    """Warns in one line of files that are left out, and of the class that loses the most."""
    out, kept, lost = {}, {}, collections.Counter()
    for scan in scans:
        root = scan.root.absolute()
        folders = [str(root / name) for name in scan.folders]
        counts = np.bincount(scan.labels, minlength=len(folders)).tolist()
        kept |= dict(zip(folders, counts, strict=True))
        for name, why in (scan.bad | scan.others).items():
            out[name] = why
            lost[str(root / Path(name).relative_to(root).parts[0])] += 1
    if not out:
        return
    files = len(out) + sum(kept.values())
    share = {name: kept[name] / (kept[name] + lost[name]) for name in lost if name in kept}
    message = f"{len(out)} of {files} files in {path} are left out{_reasons(out)}"
    if share:
        least = min(share, key=share.__getitem__)
        message += f"; of the {kept[least] + lost[least]} in {least} {kept[least]} remain"
    notify(message)


def _reasons(files: Mapping[str, str]) -> str:
    """The end of a message about files: their number by reason, and the first one."""
    counts = collections.Counter(reason.partition(" (")[0] for reason in files.values())
    name, reason = next(iter(files.items()))
    return (
        f" ({', '.join(f'{count} {what}' for what, count in counts.most_common())}); "
        f"the first is {name} ({reason})"
    )


def _refuse_empty(scan: Scan) -> None:
    """Raises ConfigError for a class folder without a readable image."""
    left = {scan.folders[label] for label in np.unique(scan.labels)}
    for name in folders_in(scan.root):
        if name not in left:
            inside = f"{scan.root.absolute() / name}{os.sep}"
            rest = scan.bad | scan.others
            rest = {file: why for file, why in rest.items() if file.startswith(inside)}
            raise ConfigError(
                f"class folder {scan.root / name} has no image that can be read"
                f"{_reasons(rest) if rest else ''}; fill or remove it"
            )


def _sliced(scan: Scan, taken: range, class_names: tuple[str, ...], channels: int) -> Folder:
    index = slice(taken.start, taken.stop)
    names, labels = scan.names[index], scan.labels[index]
    digest = hashlib.sha256()
    for name, label, size in zip(names, labels, scan.sizes[index], strict=True):
        digest.update(
            os.fsencode(class_names[label]) + b"/" + name + f"\0{size}\0{label}\n".encode()
        )
    root = str(scan.root.absolute())
    return Folder(root, scan.folders, names, labels, channels, digest.hexdigest())
