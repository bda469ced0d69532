"""A trained network as one file: its variables, and everything needed to evaluate it.

`weights.safetensors` holds numbers and text and nothing that could be executed. Its tensors are
named by their paths, such as `params/stage2/rest/conv1/kernel`; its metadata say the config and the
classes, and are sealed with the SHA-256 of the tensors, so that a damaged file is not taken for a
whole one, nor for another network.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from resjax.buckets.places import reading_file
from resjax.config import (
    ConfigError,
    config_of,
    flatten,
    message_of,
)
from resjax.config.keys import KEYS
from resjax.config.paths import place
from resjax.files import replacing
from resjax.models.build import build_model
from resjax.models.resnet import ResNet
from resjax.models.trace import variable_shapes
from resjax.runs import disk, files, needed, room, rundir

KINDS = ("params", "batch_stats")

MEAN, DEVIATION = "input/mean", "input/deviation"

METADATA, TENSORS = "resjax", "tensors_sha256"
"""The key of the metadata, and the key of the tensors' digest in it.

There is one key, as safetensors writes several in any order.
"""

Shapes = Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class About:
    """The description of a network, apart from its variables.

    Attributes:
      config: config of its run.
      class_names: a name for each output; empty for a network without a head.
      image_shape: shape `[H, W, C]` of the images that it was trained on.
      batches: number of batches that its running statistics have seen, if that is known.
    """

    config: ConfigDict
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    batches: int | None = None


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained network.

    Attributes:
      about: description of the network.
      variables: {"params", "batch_stats"}, as evaluated.
      mean, deviation: arrays that images are standardised by, `[C]`; the mean may be `[H, W, C]`.
    """

    about: About
    variables: dict[str, Any]
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def tensors(self) -> dict[str, Any]:
        """Its arrays by their paths, as a file has them."""
        return paths(self.variables) | {MEAN: self.mean, DEVIATION: self.deviation}

    @property
    def model(self) -> ResNet:
        """The network that the variables belong to."""
        return build_model(self.about.config, len(self.about.class_names))


class Header(NamedTuple):
    """The header of a weights file: the network, and its tensors' shapes by path."""

    about: About
    shapes: dict[str, tuple[int, ...]]


def paths(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens a tree of variables to {"params/stage1/first/conv1/kernel": leaf, ...}.

    They are in the order of the network, from the stem to the head.
    """
    flat = flatten_dict({kind: variables.get(kind, {}) for kind in KINDS}, sep="/")
    return {path: flat[path] for path in sorted(flat, key=_place)}


def _place(path: str) -> tuple[int, int, str]:
    kind, section, rest = path.split("/", 2)
    places = {"stem": 0, "norm": 1 << 20, "head": 1 << 21}
    stage = section.removeprefix("stage")
    return KINDS.index(kind), int(stage) if stage.isdecimal() else places[section], rest


def write_weights(path: Path, weights: Weights) -> None:
    """Writes a weights file atomically."""
    from safetensors.numpy import save_file

    tensors = {name: _array(leaf) for name, leaf in weights.tensors.items()}
    config = flatten(weights.about.config)
    about = dataclasses.asdict(weights.about) | {"config": config}
    about |= {rundir.ADDED_KEYS: added} if (added := KEYS.added(config)) else {}
    metadata = {METADATA: json.dumps(disk.sealed(about | {TENSORS: _digest(tensors)}))}
    write_whole(path, lambda partial: save_file(tensors, partial, metadata))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Calls `write` with a temporary name, and renames the file when it is on the disk."""
    with replacing(path) as partial:
        partial.touch()
        usual = partial.stat().st_mode
        with room.refused(path, "it did not fit"):
            write(partial)
        partial.chmod(usual)  # safetensors lets nobody else read
        with partial.open("rb") as file:
            os.fsync(file.fileno())


def read_weights(path: Path | str) -> Weights:
    """Reads the weights in a file or a run directory, local or in a bucket.

    Raises:
      ConfigError: if there are none, or they are damaged.
    """
    with reading_file(place(path), needed.weights) as there:
        return _read(locate(there))


def _read(path: Path) -> Weights:
    about, shapes = read_header(path)
    tensors = read_tensors(path)
    mean, deviation = tensors.pop(MEAN), tensors.pop(DEVIATION)
    leaves = {name: tensors[name].reshape(shapes[name]) for name in tensors}
    return Weights(about, {kind: {} for kind in KINDS} | unflatten(leaves), mean, deviation)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads and verifies the tensors of a weights file, whatever network it says that they are of.

    Raises:
      ConfigError: if there are none, or they are damaged.
    """
    path = locate(path)
    with _open_own(path) as file:
        metadata = file.metadata() or {}
        said = _said(path, metadata)
        try:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except TypeError as error:
            raise ConfigError(f"{path} is damaged: {message_of(error)}") from None
    # Early versions had a digest of the tensors alone, the earliest beside the rest.
    digest = said.get(TENSORS) or metadata.get(disk.DIGEST) or said.get(disk.DIGEST)
    if _digest(tensors) != digest:
        raise ConfigError(f"{path} is damaged: its tensors do not have the SHA-256 that it states")
    return tensors


def read_header(path: Path) -> Header:
    """Reads the description of the network and the shapes of its tensors, but not the tensors.

    Raises:
      ConfigError: if there are none, or the file is cut off.
    """
    path = locate(path)
    with _open_own(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        about = _about(path, file.metadata() or {})
    shapes = {name: shapes[name] for name in shapes if name.split("/")[0] in KINDS}
    return Header(about, shapes | dict.fromkeys(_scalars(about, shapes), ()))


def _scalars(about: About, shapes: Shapes) -> list[str]:
    """Names of the numbers among the tensors, which early versions wrote with the shape `[1]`."""
    ones = [name for name in shapes if shapes[name] == (1,)]
    if not ones:
        return []
    model = build_model(about.config, len(about.class_names))
    ours = paths(variable_shapes(model, about.image_shape))
    return [name for name in ones if name in ours and ours[name].shape == ()]


def unflatten(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Rebuilds the tree with these leaves; the inverse of `paths`."""
    return unflatten_dict(dict(tensors), sep="/")


def locate(path: Path) -> Path:
    """The weights file that a path names: itself, or that of a run.

    Raises:
      ConfigError: if there is none.
    """
    rundir.refuse_absent(path)
    if path.is_dir() and not (path / files.WEIGHTS).is_file():
        rundir.refuse_no_run(path)
        raise ConfigError(
            f"{path} has no {files.WEIGHTS}; its run has not ended, or is of a version that did "
            "not write it"
        )
    return path / files.WEIGHTS if path.is_dir() else path


def open_tensors(path: Path) -> Any:
    """Opens a safetensors file, to be used in a `with` statement.

    Raises:
      ConfigError: if it is not a safetensors file, or cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="numpy")
    except SafetensorError as error:
        raise ConfigError(
            f"{path} is not a whole safetensors file ({message_of(error)}); fetch it again"
        ) from None


def begins_as_safetensors(start: bytes) -> bool:
    """Tells from its first 9 bytes, a length and a brace, whether a file is of safetensors."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32


def _open_own(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if not begins_as_safetensors(start) and path.name != files.WEIGHTS:
        raise ConfigError(
            f"{path} is no weights file of resjax; make a run of it by resjax import {path} "
            "--out=DIR"
        )
    return open_tensors(path)


def about_in(metadata: Mapping[str, str]) -> bool:
    """Tells whether the metadata of a file say that resjax wrote it."""
    return METADATA in metadata


def _about(path: Path, metadata: Mapping[str, str]) -> About:
    fields = _said(path, metadata)
    with _refusing(path, metadata):
        height, width, channels = map(int, fields["image_shape"])
        return About(
            config_of(fields["config"], fields.get(rundir.ADDED_KEYS, {})),
            tuple(map(str, fields["class_names"])),
            (height, width, channels),
            fields["batches"],
        )


def _said(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Reads the description of a network in the metadata of its file."""
    with _refusing(path, metadata):
        fields = json.loads(metadata[METADATA])
        return disk.opened(metadata[METADATA]) if TENSORS in fields else fields


@contextlib.contextmanager
def _refusing(path: Path, metadata: Mapping[str, str]) -> Iterator[None]:
    """Refuses a file whose metadata do not describe a network as resjax does."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        if about_in(metadata):
            raise ConfigError(
                f"{path} is damaged: its description of the network is not what was written "
                f"({message_of(error)}); fetch it again, or have its run write it again"
            ) from None
        raise ConfigError(
            f"{path} was not written by resjax; make a run of it by resjax import {path} "
            "--out=DIR, or read it by resjax.import_weights"
        ) from None


def _array(leaf: Any) -> np.ndarray:
    # np.ascontiguousarray would give a number the shape [1].
    return np.asarray(jax.device_get(leaf), order="C")


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name}\0{tensors[name].dtype}{tensors[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
