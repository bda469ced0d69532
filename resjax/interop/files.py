"""Files of tensors from other frameworks: safetensors, and pickles read without running code."""

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resjax.config import ConfigError, type_and_message
from resjax.interop.pickles import PICKLED, ZIPPED, open_checkpoint, tables_in
from resjax.interop.rebuilding import Tensor
from resjax.interop.recognise import prefixes
from resjax.runs.weights import about_in, open_tensors

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

AVERAGES = ("ema", "average", "averaged", "swa", "shadow", "teacher")
"""Words in the keys of weights that are averages over training steps."""

COUNTER = "n_averaged"
"""The name of the counter that PyTorch's AveragedModel keeps beside the averages."""

PARTS = {
    "_orig": "torch.nn.utils.prune.remove(module, 'weight')",
    "_mask": "torch.nn.utils.prune.remove(module, 'weight')",
    "_g": "torch.nn.utils.remove_weight_norm(module)",
    "_v": "torch.nn.utils.remove_weight_norm(module)",
    ".original0": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    ".original1": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
    ".original": "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight')",
}
"""Suffixes of tensors from which a weight is computed, and the calls that merge them."""

SHARD = re.compile(r"-(\d+)-of-(\d+)\.\w+$|\.index\.json$")
"""Name of a shard of weights that transformers has split, or of the index of its shards."""

CONVERTED = ("float16", "bfloat16", "float64")


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


class FoundNetwork(NamedTuple):
    """The tensors of one network in a file.

    Attributes:
      place: place of their mapping, followed by the prefix.
      prefix: start that all of their names have.
      tensors: {name without the prefix: tensor}.
      others: names in the same mapping that do not have the prefix.
      average: whether it is an average of weights over a training.
    """

    place: str
    prefix: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...]
    average: bool


class Tensors:
    """The tensors of a network by name, each read when it is asked for, as float32.

    Attributes:
      shapes: {name: shape} of the tensors of floats, in the order of the file.
      batches: number of batches that the running statistics have seen; None if it is not said.
      metadata: metadata of a .safetensors file; a pickle has none.
      architecture: name that the file gives the network; empty if it gives none.
      notes: lines to be printed about what differs from the file.
    """

    def __init__(self, tensors: Mapping[str, Tensor], content: Content, what: str, size: int):
        self._tensors, self._what = tensors, what
        self.metadata, self.architecture = content.metadata, content.architecture
        self.notes = list(content.notes)
        self.shapes, counters, converted = {}, [], {}
        for name, tensor in tensors.items():
            if name.endswith(".num_batches_tracked"):
                counters.append(name)
                continue
            kind = tensor.dtype
            if kind not in ("float32", *CONVERTED) or tensor.read is None:
                raise ConfigError(
                    f"{what}: {name!r} is {kind}; resjax reads float32, float16, bfloat16, float64"
                )
            if kind in CONVERTED:
                converted[kind] = converted.get(kind, 0) + 1
            self.shapes[name] = tensor.shape
        if 2 * sum(map(math.prod, self.shapes.values())) > size:
            raise ConfigError(
                f"{what} says that its tensors are larger than itself, with {size} bytes; ask for "
                "a .safetensors file"
            )
        for kind, number in converted.items():
            self.notes.append(f"{number} tensors were {kind} and are converted to float32")
        self.batches = max(map(self._counted, counters), default=None)

    def __getitem__(self, name: str) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is beyond float32 is refused as not finite
            return self._read(name).astype(np.float32, copy=False)

    def _counted(self, name: str) -> int:
        counter = self._read(name)
        try:
            return int(counter.item())
        except (TypeError, ValueError, OverflowError):
            raise ConfigError(f"{self._what}: {name!r} is no number of batches") from None

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._tensors[name].read())
        except Exception as error:  # a file that is damaged can raise anything
            raise ConfigError(
                f"{self._what}: {name!r} cannot be read "
                f"({type_and_message(error)[:120]}); fetch it again"
            ) from None


@contextlib.contextmanager
def open_file(path: Path, choice: str = "") -> Iterator[Tensors]:
    """Opens the tensors of a safetensors file or a PyTorch checkpoint, without running code.

    The first bytes of a file say what it is, and not its suffix.

    Args:
      path: the file.
      choice: network to take of several; empty takes the only one that is not an average.

    Raises:
      ConfigError: if the file is neither, is cut off, or has no such network.
    """
    if (shard := SHARD.search(path.name)) and shard[2] not in ("1", "00001"):
        raise ConfigError(
            f"{path} is one of the files into which the weights of a network were cut; write them "
            "to a single one by network.save_pretrained(DIR, max_shard_size='99GB')"
        )
    with _opened(path) as content:
        network = _choose(content, choice, str(path))
        _refuse_parts(network, str(path))
        tensors = Tensors(network.tensors, content, str(path), path.stat().st_size)
        tensors.notes = [*_said(content, network), *tensors.notes]
        yield tensors


def _refuse_parts(network: FoundNetwork, what: str) -> None:
    """Raises ConfigError for weights that are pruned or normalised on use."""
    for name in network.tensors:
        end = next((end for end in PARTS if name.endswith(f"weight{end}")), None)
        if end:
            raise ConfigError(
                f"{what}: {name!r} is a part of which a weight is computed; have the network hold "
                f"the weight itself before it is saved: {PARTS[end]}"
            )


def is_own(path: Path) -> bool:
    """Tells whether a path is a file of weights that resjax wrote."""
    if not _is_safetensors(path):
        return False
    with open_tensors(path) as file:
        return about_in(file.metadata() or {})


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Content]:
    start = _start(path)
    if _is_safetensors(path):
        with open_tensors(path) as file:
            metadata = file.metadata() or {}
            table = {name: _lazily(file, name) for name in file.keys()}  # noqa: SIM118
            yield Content({"": table}, tuple(table), metadata, _architecture(metadata))
    elif start.startswith((ZIPPED, PICKLED)):
        with open_checkpoint(path) as (content, unread):
            if not isinstance(content, dict | list | tuple):
                kind = getattr(content, "label", type(content).__name__)
                raise ConfigError(
                    f"{path} holds a {kind}, and no tensors by name; write them by "
                    "torch.save(network.state_dict(), 'weights.pth')"
                )
            about = content if isinstance(content, dict) else {}
            nested = about.get("hyper_parameters")
            architecture = _architecture(about) or _architecture(
                nested if isinstance(nested, dict) else {}
            )
            notes = (f"no tensors, and not read: {_listed(unread)}",) if unread else ()
            keys = tuple(map(str, about))
            yield Content(dict(tables_in(content)), keys, {}, architecture, notes)
    else:
        what = next((said for begins, said in FOREIGN.items() if start.startswith(begins)), "")
        what = what or (
            "is neither a safetensors file nor a checkpoint of PyTorch; convert it to safetensors"
            if start
            else "is empty; fetch it again"
        )
        raise ConfigError(f"{path} {what}")


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


def _is_safetensors(path: Path) -> bool:
    """Tells whether a file begins like safetensors, or has its suffix and no other start."""
    start = _start(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return True
    known = start.startswith((ZIPPED, PICKLED, *FOREIGN))
    return path.suffix.lower() == SAFETENSORS and not known


def _architecture(about: Mapping[str, Any]) -> str:
    return next((str(about[key]) for key in ARCHITECTURE if isinstance(about.get(key), str)), "")


def _networks(content: Content) -> list[FoundNetwork]:
    found = []
    for place, table in content.tables.items():
        for prefix in prefixes(table):
            own = {
                name.removeprefix(prefix): tensor
                for name, tensor in table.items()
                if name.startswith(prefix)
            }
            others = tuple(
                name for name in table if not name.startswith(prefix) and name != COUNTER
            )
            where = ".".join(part for part in (place, prefix.rstrip(".")) if part)
            words = where.lower().replace(".", "_").split("_")
            average = COUNTER in table or not set(words).isdisjoint(AVERAGES)
            found.append(FoundNetwork(where, prefix, own, others, average))
    return found


def _choose(content: Content, choice: str, what: str) -> FoundNetwork:
    """Chooses the wanted network of a file."""
    found = _networks(content)
    if not found:
        return _unknown(content, what)
    places = ", ".join(network.place or "the file itself" for network in found)
    if choice:
        wanted = [network for network in found if network.place == choice] or [
            network
            for network in found
            if choice.lower() in network.place.lower() or (choice == "ema" and network.average)
        ]
        remedy = "; name one of them"
    else:
        wanted = [network for network in found if not network.average] or found
        remedy = f"; choose one by --weights={wanted[0].place}" if len(wanted) > 1 else ""
    if len(wanted) != 1:
        asked = f"--weights={choice} is {'several' if wanted else 'none'} of " if choice else ""
        raise ConfigError(f"{what} has {len(found)} networks: {asked}{places}{remedy}")
    return wanted[0]


def _unknown(content: Content, what: str) -> FoundNetwork:
    """Takes all tensors of the largest mapping, so that `recognise` can say what is wrong."""
    if not any(content.tables.values()) and content.keys:
        raise ConfigError(
            f"{what} holds no tensors by name, but {_listed(content.keys)}; write the state_dict "
            "of the network"
        )
    if not content.tables:
        raise ConfigError(f"{what} holds no tensors by name; write the state_dict of the network")
    place, largest = max(content.tables.items(), key=lambda item: len(item[1]))
    return FoundNetwork(place, "", dict(largest), (), False)


def _said(content: Content, network: FoundNetwork) -> list[str]:
    """Lines that say which of the tensors in a file were taken."""
    notes = []
    if network.prefix:
        notes.append(f"the names begin with {network.prefix!r}, which was left out")
    if network.others:
        notes.append(f"beside the network, and left out: {_listed(network.others)}")
    others = [other for other in _networks(content) if other.place != network.place]
    if others:
        average = next((other for other in others if other.average), None)
        word = "ema" if average and not network.average else others[0].place
        kind = "the average" if network.average else "the weights"
        notes.append(
            f"took {kind} in {network.place!r}; --weights={word} takes those in "
            f"{(average or others[0]).place!r}"
        )
    elif network.average:
        notes.append("these are averages of weights over the steps of a training")
    return notes


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(repr, names[:3])) + more
