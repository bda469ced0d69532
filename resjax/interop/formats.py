"""Formats of weights: safetensors, and checkpoints of PyTorch, read without running code."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from resjax.config import ConfigError
from resjax.interop.pickles import PICKLED, ZIPPED, Checkpoint, open_checkpoint, tables_in
from resjax.interop.rebuilding import Tensor
from resjax.runs.weights import about_in, begins_as_safetensors, open_tensors

SAFETENSORS = ".safetensors"

SUFFIXES = (SAFETENSORS, ".bin", ".pt", ".pth", ".ckpt")
"""Suffixes that files of weights usually have."""

FOREIGN = {
    b"version https://git-lfs": "is a pointer of Git LFS: git lfs pull fetches the file itself",
    b"<!DOCTYPE": "is a web page, and no file of weights; fetch it again",
    b"<html": "is a web page, and no file of weights; fetch it again",
    b"\x1f\x8b": "is packed by gzip; unpack it",
    b"\x89HDF": "is an HDF5 file; convert it to safetensors",
}
"""First bytes of files that people often have instead, and the remedies."""

ARCHITECTURE = ("arch", "architecture", "model_name")
"""Keys under which training scripts store the network's name beside its tensors."""


class Content(NamedTuple):
    """The content of a file, whatever its format.

    Attributes:
      tables: {place: {name: tensor}}, of every mapping of names to tensors; "" is the outermost.
      keys: keys of the outermost mapping.
      metadata: metadata of a .safetensors file; a pickle has none.
      architecture: name that the file gives the network; empty if it gives none.
      notes: lines to be printed about what was passed over.
    """

    tables: Mapping[str, Mapping[str, Tensor]]
    keys: tuple[str, ...]
    metadata: Mapping[str, str]
    architecture: str
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_content(path: Path) -> Iterator[Content]:
    """Opens a file of weights; its first bytes say what it is, and not its suffix.

    Raises:
      ConfigError: if it is neither a safetensors file nor a checkpoint of PyTorch, or cut off.
    """
    start = _start(path)
    if _is_safetensors(path, start):
        with open_tensors(path) as file:
            metadata = file.metadata() or {}
            table = {name: _lazily(file, name) for name in file.keys()}  # noqa: SIM118
            yield Content({"": table}, tuple(table), metadata, _architecture(metadata))
    elif start.startswith((ZIPPED, PICKLED)):
        with open_checkpoint(path) as checkpoint:
            yield _content_of(checkpoint, path)
    else:
        remedy = next((said for begins, said in FOREIGN.items() if start.startswith(begins)), "")
        remedy = remedy or (
            "is neither a safetensors file nor a checkpoint of PyTorch; convert it to safetensors"
            if start
            else "is empty; fetch it again"
        )
        raise ConfigError(f"{path} {remedy}")


def _content_of(checkpoint: Checkpoint, path: Path) -> Content:
    content, unread = checkpoint
    if not isinstance(content, dict | list | tuple):
        kind = getattr(content, "label", type(content).__name__)
        raise ConfigError(
            f"{path} holds a {kind}, and no tensors by name; write them by "
            "torch.save(network.state_dict(), 'weights.pth')"
        )
    outermost = content if isinstance(content, dict) else {}
    options = outermost.get("hyper_parameters")
    return Content(
        tables=dict(tables_in(content)),
        keys=tuple(map(str, outermost)),
        metadata={},
        architecture=_architecture(outermost)
        or _architecture(options if isinstance(options, dict) else {}),
        notes=(f"no tensors, and not read: {listed(unread)}",) if unread else (),
    )


_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64",
           "I64": "int64"}  # fmt: skip


def _lazily(file: Any, name: str) -> Tensor:
    part = file.get_slice(name)
    kind = _DTYPES.get(part.get_dtype(), part.get_dtype())
    return Tensor(tuple(part.get_shape()), kind, lambda: file.get_tensor(name))


def refuse_directory(path: Path) -> None:
    """Raises ConfigError for a directory of weights files, such as a download; names one."""
    found = sorted(file for file in path.glob("*") if file.suffix in SUFFIXES)
    if found:
        raise ConfigError(f"{path} is a directory; name the file of weights in it, as {found[0]}")


def _start(path: Path) -> bytes:
    refuse_directory(path)
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; name a file of weights")
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Tells whether a file begins like safetensors, or has its suffix and no other start."""
    if begins_as_safetensors(start):
        return True
    known = start.startswith((ZIPPED, PICKLED, *FOREIGN))
    return path.suffix.lower() == SAFETENSORS and not known


def _architecture(about: Mapping[str, Any]) -> str:
    return next((str(about[key]) for key in ARCHITECTURE if isinstance(about.get(key), str)), "")


def is_own(path: Path) -> bool:
    """Tells whether a path is a file of weights that resjax wrote."""
    if not _is_safetensors(path, _start(path)):
        return False
    with open_tensors(path) as file:
        return about_in(file.metadata() or {})


def listed(names: tuple[str, ...]) -> str:
    """The first three names, and the number of the others."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
