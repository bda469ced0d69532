"""PyTorch checkpoints, read without PyTorch and without running code from them.

A checkpoint is a pickle that says how its tensors lie in storages, and the bytes of those beside
it. Of the names in a pickle only the few that make tensors are known here. PyTorch's own reader
either refuses a file for a path beside its tensors, or imports and calls whatever it names.

Nor can a file fill the memory or take forever: what it says is bounded by how long it is.
"""

import collections
import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from resjax.config import ConfigError, unreadable_file
from resjax.interop.rebuilding import KNOWN, STORAGES, Storage, Tensor, Unread, put, sizes_of

ZIPPED, PICKLED = b"PK\x03\x04", b"\x80"
"""The first bytes of a file of PyTorch 1.6 and later, and of an earlier one."""

MAGIC = 0x1950A86A20F9469CFC6C
"""The first object in a file of PyTorch before 1.6."""


STORED_IN = ("torch", "torch.cuda", "torch.storage")

MOST_UNPACKED = 10
"""Maximum ratio of unpacked to packed size of an archive; `torch.save` does not compress."""

DEEPEST, MOST_TABLES = 16, 10_000
"""Maximum depth of nested mappings, and number of mappings of tensors, read from a file."""

MALICE = ("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "pty", "runpy", "importlib")
"""Modules that no honest checkpoint uses."""

MALICIOUS = ("eval", "exec", "compile", "__import__")
"""Functions of `builtins` that no honest checkpoint uses."""


class Checkpoint(NamedTuple):
    """The objects that were read, with leaves of class `Tensor`, and the names of the others."""

    content: Any
    unread: tuple[str, ...]


@contextlib.contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Opens a file written by `torch.save`; its tensors can be read while it is open.

    Raises:
      ConfigError: for a file of another kind, one that is cut off, or one that names what no
        checkpoint does.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            zipped = file.read(4) == ZIPPED
            file.seek(0)
            checkpoint = _zipped(stack, file, path) if zipped else _pickled(file, path)
        except ConfigError:
            raise
        except Exception as error:  # a file that is cut off or foreign can raise anything
            raise unreadable_file(path, error) from None
        yield checkpoint


def _zipped(stack: contextlib.ExitStack, file: BinaryIO, path: Path) -> Checkpoint:
    archive = stack.enter_context(zipfile.ZipFile(file))
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise ConfigError(
            f"{path} is a program of TorchScript, which is not run here; write its tensors: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        )
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ConfigError(
            f"{path} is an archive of {', '.join(map(repr, names[:3])) or 'nothing'}, and no "
            "checkpoint of PyTorch; write one by torch.save(network.state_dict(), 'weights.pth')"
        )
    size, unpacked = os.fstat(file.fileno()).st_size, sum(e.file_size for e in archive.infolist())
    if unpacked > MOST_UNPACKED * size:
        raise ValueError(f"an archive of {size} bytes that unpacks to {unpacked}")
    root = pickles[0].removesuffix("data.pkl")
    big = f"{root}byteorder" in names and archive.read(f"{root}byteorder") == b"big"

    def storage(dtype: np.dtype, key: str, count: int) -> Storage:
        entry, dtype = archive.getinfo(f"{root}data/{key}"), dtype.newbyteorder(">" if big else "<")
        if entry.file_size != count * dtype.itemsize:
            raise ValueError(f"{entry.filename} has {entry.file_size} bytes")
        return Storage(dtype, count, lambda: np.frombuffer(archive.read(entry), dtype))

    with archive.open(pickles[0]) as opened:
        return _unpickled(opened, storage, path)


def _pickled(file: BinaryIO, path: Path) -> Checkpoint:
    found: dict[str, tuple[np.dtype, int]] = {}
    offsets: dict[str, int] = {}
    data = np.memmap(path, np.uint8, "r")

    def storage(dtype: np.dtype, key: str, count: int) -> Storage:
        found[key] = dtype, count
        return Storage(dtype, count, lambda: np.frombuffer(data, dtype, count, offsets[key]))

    if _unpickled(file, storage, path).content != MAGIC:
        raise ConfigError(
            f"{path} is refused: it is a pickle that torch.save did not write; write one by "
            "torch.save(network.state_dict(), 'weights.pth')"
        )
    _, _, checkpoint, keys = (_unpickled(file, storage, path) for _ in range(4))
    place = file.tell()
    for key in keys.content:
        dtype, count = found[key]
        offsets[key] = place + 8  # past their number
        place = offsets[key] + count * dtype.itemsize
    if place > len(data) or offsets.keys() != found.keys():
        raise ValueError("it is cut off")
    return checkpoint


def _unpickled(file: Any, storage: Callable[..., Storage], path: Path) -> Checkpoint:
    unpickler = _Unpickler(file, storage, path)
    return Checkpoint(unpickler.load(), tuple(unpickler.unread))


class _Unpickler(pickle._Unpickler):
    """Makes tensors, mappings, lists and numbers; everything else becomes `Unread`.

    Nothing is imported: what may be called is in `KNOWN` or does nothing. The unpickler that is
    written in C cannot be kept from filling the memory for a file of ten bytes, from hashing a key
    forever, or from setting attributes of what is in `KNOWN`.
    """

    def __init__(self, file: Any, storage: Callable[..., Storage], path: Path):
        super().__init__(file, errors="replace")
        self.storage, self.path = storage, path
        self.unread: dict[str, type[Unread]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module in STORED_IN and name in STORAGES:
            return np.dtype(STORAGES[name])
        label = f"{module}.{name}"
        if label in KNOWN:
            return KNOWN[label]
        if module.split(".")[0] in MALICE or (
            module in ("builtins", "__builtin__") and name in MALICIOUS
        ):
            raise ConfigError(
                f"{self.path} is refused: it is a pickle that wants to run {label!r}; ask for a "
                ".safetensors file"
            )
        return self.unread.setdefault(label, type("Unread", (Unread,), {"label": label}))

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, _, count, *view = pid
        if view and view[0] is not None:
            raise ValueError("a storage that is a part of another")
        if not isinstance(dtype, np.dtype):
            raise ValueError("a storage of numbers that NumPy has not")
        if not isinstance(key, str):
            raise ValueError("a storage without a name")
        return self.storage(dtype, key, *sizes_of([count]))

    def _put_one(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        put(self.stack[-1], [key, value])

    def _put_many(self) -> None:
        items = self.pop_mark()
        put(self.stack[-1], items)

    def _make_dict(self) -> None:
        self.append(put({}, self.pop_mark()))

    def _make_set(self) -> None:
        self.append(Unread())  # its elements would be hashed

    def _make_frozen_set(self) -> None:
        self.pop_mark()
        self._make_set()

    def _pass_over_bytes(self) -> None:
        self.read(int.from_bytes(self.read(8), "little"))
        self.append(Unread())

    def _pass_over_state(self) -> None:
        self.stack.pop()

    def _refuse(self) -> None:
        raise ValueError("an object that is not in the file")

    dispatch: ClassVar = pickle._Unpickler.dispatch | {
        pickle.SETITEM[0]: _put_one,
        pickle.SETITEMS[0]: _put_many,
        pickle.DICT[0]: _make_dict,
        pickle.EMPTY_SET[0]: _make_set,
        pickle.FROZENSET[0]: _make_frozen_set,
        pickle.BYTEARRAY8[0]: _pass_over_bytes,
        pickle.BUILD[0]: _pass_over_state,
        **dict.fromkeys((pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0]), _refuse),
        **dict.fromkeys((pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]), _refuse),
    }


_HOLDS = (dict, list, tuple)  # of which `Tensor` is one


def tables_in(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yields every mapping of names to tensors in nested mappings and lists, by its dotted place.

    The outermost come first. Mappings deeper than `DEEPEST`, and those after the first
    `MOST_TABLES`, are left out.
    """
    found, seen = 0, set()
    waiting: collections.deque[tuple[tuple[str, ...], Any]] = collections.deque([((), content)])
    while waiting and found < MOST_TABLES:
        place, one = waiting.popleft()
        if not isinstance(one, _HOLDS) or id(one) in seen:
            continue
        seen.add(id(one))
        items = one.items() if isinstance(one, dict) else enumerate(one)
        inside = [(str(key), value) for key, value in items if isinstance(value, _HOLDS)]
        if tensors := {key: value for key, value in inside if isinstance(value, Tensor)}:
            yield ".".join(place), tensors
            found += 1
        if len(place) < DEEPEST:
            rest = [each for each in inside if not isinstance(each[1], Tensor)]
            waiting.extend(((*place, key), value) for key, value in rest)
