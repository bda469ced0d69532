"""Files of a split in the folders of its classes: which are images, and in what order."""

import dataclasses
import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from resjax.config import ConfigError, nearest
from resjax.config.naming import composed
from resjax.data.layout import folders_in, is_left_behind, refuse_equal_names

ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9", "MPO": b"\xff\xd9"}
"""Last bytes of a complete file, by format; files that end so are checked without decoding."""


END_BYTES = 4096
"""Bytes at the end of a file that are searched; cameras write blocks, padded with zeros."""


READERS = 16
"""Number of threads that check files, to hide the latency of network disks."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """The images of a split, in the order in which they are read.

    The folders are those of the classes, by label; their names may be spelt by other characters of
    Unicode than in the training split. `bad` has the images that cannot be read, and `others` the
    files that are not images: {path: what is wrong}.
    """

    root: Path
    folders: tuple[str, ...]
    names: np.ndarray
    labels: np.ndarray
    sizes: np.ndarray
    grey: np.ndarray
    bad: dict[str, str]
    others: dict[str, str]


def scan_split(root: Path, class_names: tuple[str, ...]) -> Scan:
    """Checks all files of a split; the labels are the positions of the classes in `class_names`.

    Raises:
      ConfigError: for a folder that is none of the classes, or cannot be read.
    """
    labels = {composed(name): label for label, name in enumerate(class_names)}
    files, others, folders = [], {}, list(class_names)
    found = folders_in(root)
    refuse_equal_names(root, found)
    for name in found:
        if composed(name) not in labels:
            raise _not_trained_on(root / name, [*labels])
        folders[labels[composed(name)]] = name
        files += [(name, file) for file in sorted(_images(root / name, others))]
    with ThreadPoolExecutor(READERS) as pool:
        checked = pool.map(lambda file: look_at_image(root.joinpath(*file)), files)
        results = dict(zip(files, checked, strict=True))
    bad = {file: fault for file, fault in results.items() if isinstance(fault, str)}
    order = _spread([file for file in files if file not in bad])
    return Scan(
        root=root,
        folders=tuple(folders),
        names=np.array([os.fsencode(name) for _, name in order], np.bytes_),
        labels=np.array([labels[composed(folder)] for folder, _ in order], np.int32),
        sizes=np.array([results[file][0] for file in order], np.int64),
        grey=np.array([results[file][1] for file in order], bool),
        bad={str(root.absolute().joinpath(*file)): fault for file, fault in bad.items()},
        others=others | _beside(root),
    )


def _not_trained_on(folder: Path, class_names: list[str]) -> ConfigError:
    """The error for a folder that is none of the classes."""
    alike = [name for name in class_names if _letters(name) == _letters(folder.name)]
    if alike:
        return ConfigError(
            f"{str(folder)!r} is of a class that is not trained on; its name differs from "
            f"{alike[0]!r} in spaces or case alone: rename one of them"
        )
    return ConfigError(
        f"{folder} is of a class that is not trained on; {nearest(folder.name, class_names)}"
    )


def _letters(name: str) -> str:
    """A name without its spaces and case."""
    return "".join(composed(name).split()).casefold()


def _images(directory: Path, others: dict[str, str]) -> Iterator[str]:
    """Paths within a directory of the files that have the suffix of an image.

    Args:
      directory: the folder of a class; folders in it are searched too, each once, whatever links
        there are.
      others: receives the files that are not taken, {path: what each is instead}.
    """
    from resjax.data.headers import suffixes

    seen, top, known = set(), str(directory.absolute()), suffixes()
    for place, folders, files in os.walk(top, onerror=_unreadable, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            others[place] = "a link to a folder that is read already"
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not is_left_behind(name))
        for name in sorted(files):
            path, suffix = os.path.join(place, name), os.path.splitext(name)[1].lower()
            if suffix in known and not is_left_behind(name):
                yield path[len(top) + 1 :]
            elif suffix in known and not name.startswith("._"):
                others[path] = "hidden"
            elif not is_left_behind(name):
                others[path] = f"with suffix {suffix}" if suffix else "without a suffix"


def _unreadable(error: OSError) -> NoReturn:
    raise ConfigError(f"cannot read {error.filename}: {error.strerror}; make it readable")


def _beside(root: Path) -> dict[str, str]:
    """Images and dangling links beside the class folders, {path: why it is not read}."""
    from resjax.data.headers import suffixes

    found, known = {}, suffixes()
    for path in sorted(root.absolute().iterdir()):
        if is_left_behind(path.name) or path.is_dir():
            continue
        if path.suffix.lower() in known:
            found[str(path)] = "in no class folder"
        elif path.is_symlink() and not path.exists():
            found[str(path)] = _nowhere(path)
    return found


def _nowhere(path: Path) -> str:
    return f"a link that leads nowhere (to {os.readlink(path)})"


def _spread(files: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Orders files, (class folder, name), so that every class is spread evenly.

    Example k of the n in a class, by the hash of its name, comes at (k + 1/2) / n of the whole.
    """
    classes: dict[str, list[tuple[bytes, str]]] = {}
    for folder, name in files:
        digest = hashlib.sha256(os.fsencode(f"{folder}/{name}")).digest()
        classes.setdefault(folder, []).append((digest, name))
    places = [
        ((k + 0.5) / len(members), folder, name)
        for folder, members in classes.items()
        for k, (_, name) in enumerate(sorted(members))
    ]
    return [(folder, name) for _, folder, name in sorted(places)]


def look_at_image(path: Path) -> tuple[int, bool] | str:
    """Checks a file: its size in bytes and whether it is grey, by its header; or its fault."""
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

    from resjax.data.decode import decode
    from resjax.data.headers import (
        MOST_PIXELS,
        TooDeep,
        TooManyPixels,
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
        except TooDeep:
            return "with 32 bits a channel (save it with 8 or 16)"
        except ValueError:
            return "truncated"
    return size, Image.getmodebase(image.mode) == "L"
