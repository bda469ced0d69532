"""Directories of images: which folders are splits, and which are classes."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from resjax.config import ConfigError, notify
from resjax.config.naming import composed
from resjax.data.slices import OWN_TEST, Splits

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "valid",
    "val": "val",
}
"""Names of folders that hold splits, in lower case, and the splits' names in slices."""


OWN_SPLIT = {"train": "train[:80%]", "test": "train[80%:]"}
"""Slices to train and test on where there is no folder to test on. Every slice has its share of
each class, in the order of the hashes of the names: adding an image changes no other's place."""


LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that operating systems and archives leave among those of classes."""


ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
"""Suffixes of archives."""


def find_roots(path: Path, test_only: bool) -> Mapping[str, Path]:
    """The directory with the class folders of each split; one is `train`, unless `test_only`.

    A folder `train` without folders in it is a class, of trains. A folder with the name of a split
    is not a split if its only folder is not one of the classes, such as one of unlabelled images.
    """
    refuse_archive(path)
    if not path.is_dir():
        raise ConfigError(
            f"{path} is not a directory; name one with a folder of images for each class"
        )
    if path.resolve() == path.resolve().parent:
        raise ConfigError(
            f"{path} is all of this machine; name a directory with a folder of images for each "
            "class"
        )
    found: dict[str, list[str]] = {}
    for name in folders_in(path):
        if name.lower() in SPLIT_NAMES and folders_in(path / name):
            found.setdefault(SPLIT_NAMES[name.lower()], []).append(name)
    roots = {}
    for split, names in found.items():
        if len(names) > 1 and split not in names:
            raise ConfigError(f"{path} has {' and '.join(names)}; rename one of them to {split}")
        roots[split] = path / (split if split in names else names[0])
    classes = folders_in(roots["train"]) if "train" in roots else []
    _refuse_nested(path, roots)
    if classes:
        return {
            split: root
            for split, root in roots.items()
            if len(classes) == 1 or len(inside := folders_in(root)) > 1 or inside[0] in classes
        }
    if test_only and roots:
        return roots
    _refuse_other_layouts(path)
    return {"train": path}


def _refuse_nested(path: Path, roots: Mapping[str, Path]) -> None:
    """Raises ConfigError for splits with the class folders one level too deep, as train/train."""
    deepest = {root: _below_only_folder(root) for root in roots.values()}
    classes = folders_in(deepest[roots["train"]]) if "train" in roots else []
    moves = {
        deep: root
        for root, deep in deepest.items()
        if deep != root and (root.name == deep.name or {*folders_in(deep)} & {*classes})
    }
    if moves:
        raise ConfigError(
            f"{path} has the folders of the classes one level too deep; {_moved(moves)}"
        )


def _refuse_other_layouts(path: Path) -> None:
    """Raises ConfigError for a directory that cannot have a folder for each class."""
    classes = folders_in(path)
    if not classes:
        empty = all(is_left_behind(entry.name) for entry in path.iterdir())
        raise ConfigError(
            f"{path} has no {'files' if empty else 'class folders'}; put images in {path}/CLASS or "
            f"{path}/train/CLASS{_beside_table(path)}"
        )
    _refuse_splits(path, classes)
    inside = folders_in(path / classes[0])
    if len(classes) == 1 and inside:
        raise ConfigError(
            f"{path} has one folder, which has folders; name that: folder:{path / classes[0]}"
        )
    shared = set(inside).intersection(*(folders_in(path / name) for name in classes if inside))
    if shared and all(map(split_in, shared)):
        first = sorted(shared)[0]
        raise ConfigError(
            f"all folders of {path} have splits in them; put the classes into the splits: move "
            f"{path / classes[0] / first} to {path / split_in(first) / classes[0]}, and so on"
        )
    if len(shared) > 1:
        raise ConfigError(
            f"all folders of {path} have folders {', '.join(sorted(shared)[:2])}; if these are "
            f"the classes, rename {' and '.join(classes[:2])} to train and test"
        )


def _refuse_splits(path: Path, names: Sequence[str]) -> None:
    """Raises ConfigError if all folders have names of splits: those of images, as train, or others.

    To learn to tell one split from another is never what is meant. Several folders with the name of
    one split are classes, such as test_positive and test_negative.
    """
    splits = {name: split_in(name) for name in names}
    kinds = {*splits.values()}
    if "" in kinds or len(kinds) < min(2, len(names)):
        return
    deepest = {_below_only_folder(path / name): path / split for name, split in splits.items()}
    moves = {deep: root for deep, root in deepest.items() if deep != root and folders_in(deep)}
    shown = " and ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"
    raise ConfigError(
        f"{path} has {shown}: these look like splits, not classes; images belong in "
        f"{path}/train/CLASS" + (f": {_moved(moves)}" if moves else _beside_table(path))
    )


def _below_only_folder(root: Path) -> Path:
    """The only folder in a directory if it has folders, such as train/train; or the directory."""
    inside = folders_in(root)
    return root / inside[0] if len(inside) == 1 and folders_in(root / inside[0]) else root


def _moved(moves: Mapping[Path, Path]) -> str:
    """The remedy that moves folders of classes, {from: to}."""
    return "move the folders in " + " and those in ".join(f"{a} to {b}" for a, b in moves.items())


def _beside_table(path: Path) -> str:
    """The end of a message about images without class folders, if there is a CSV of labels."""
    tables = sorted(file.name for file in path.iterdir() if file.suffix.lower() == ".csv")
    if not tables:
        return ""
    return f"; labels in a CSV ({tables[0]}) are not read: sort the images as docs/data.md shows"


def split_in(name: str) -> str:
    """The split of the first word of a name that is one of `SPLIT_NAMES`, or an empty text.

    >>> split_in("val2017"), split_in("seg_train"), split_in("trainer")
    ('val', 'train', '')
    """
    words = re.split("[^a-z]+", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def with_test_split(roots: Mapping[str, Path], splits: Splits) -> Splits:
    """The requested splits, or `OWN_SPLIT` if there is nothing else to test on."""
    evaluated = splits.test_only and not splits.trained
    if splits.test or splits.train or evaluated or {*roots} & {*OWN_TEST}:
        return splits
    return splits._replace(**OWN_SPLIT)


def warn_of_own_split(path: Path, roots: Mapping[str, Path]) -> None:
    """Warns that part of the training images is used for testing, as there are no others."""
    beside = [] if path in roots.values() else folders_in(path)
    unread = {name for name in beside if name.lower() in SPLIT_NAMES} - {
        root.name for root in roots.values()
    }
    classes = {*folders_in(roots["train"])}
    others = (
        name
        for name in beside
        if path / name not in roots.values() and classes & {*folders_in(path / name)}
    )
    where = f" ({' and '.join(sorted(unread))} without any)" if unread else ""
    if other := next(others, ""):
        where = f" ({other} is not the name of a split; rename it to test)"
    notify(
        f"{path} has no folders of classes to test on{where}: a fifth of each class of "
        f"{roots['train']} is, as data.train={OWN_SPLIT['train']!r} and "
        f"data.test={OWN_SPLIT['test']!r} say"
    )


def warn_of_classes(path: Path, class_names: Sequence[str], labels: np.ndarray) -> None:
    """Warns if classes have no image to train on, or if there is only one class.

    Args:
      path: where the images are.
      class_names: the names of the classes.
      labels: the labels `[n]` of the images to train on.
    """
    if len(class_names) == 1:
        notify(
            f"{path} has one class, {class_names[0]}, which every network takes every image for; "
            "put the images of another in a folder beside it"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    unseen = [class_names[label] for label in np.flatnonzero(counts == 0)]
    if unseen:
        notify(
            f"{len(unseen)} of {len(class_names)} classes in {path} have no image to train on, the "
            f"first is {unseen[0]}; give them more, or train on a larger slice by data.train"
        )


def folders_in(root: Path) -> list[str]:
    """Names of the folders in a directory, sorted; none if it is not a directory."""
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return sorted(
            entry.name
            for entry in entries
            if not is_left_behind(entry.name)
            # Of a link that leads to itself, `is_dir` of the entry would raise.
            and (os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
        )


def refuse_archive(path: Path) -> None:
    """Raises ConfigError for a file with the suffix of an archive."""
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        raise ConfigError(f"{path} is an archive; unpack it, and name the directory that is in it")


def is_left_behind(name: str) -> bool:
    """Tells whether a file or folder is hidden, or made by an operating system or archive."""
    return name[0] == "." or name in LEFT_BEHIND or name.lower() in ("thumbs.db", "desktop.ini")


def refuse_equal_names(root: Path, names: Iterable[str]) -> None:
    """Raises ConfigError for two folders whose names differ only in their Unicode spelling."""
    seen: dict[str, str] = {}
    for name in names:
        if composed(name) in seen:
            raise ConfigError(
                f"{root} has two folders {composed(name)}, which Unicode spells in two ways "
                f"({seen[composed(name)]!a} and {name!a}); put them together"
            )
        seen[composed(name)] = name
