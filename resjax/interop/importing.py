"""Import of files from other frameworks, as weights of resjax and as directories of runs."""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from resjax.config import ConfigError, choose, nested, refuse_unknown
from resjax.config.keys import KEYS
from resjax.config.validation import validate
from resjax.data.statistics import STATISTICS, STREAMED_STATISTICS
from resjax.interop.architectures import refuse_other_architecture
from resjax.interop.files import Tensors, open_file
from resjax.interop.formats import is_own, refuse_directory
from resjax.interop.metadata import Metadata, read_metadata
from resjax.interop.names import NAMINGS, Place, places, to_ours
from resjax.interop.recognise import Recognised, recognise
from resjax.interop.sidecars import read_sidecars
from resjax.models.build import build_model
from resjax.models.networks import FAMILIES
from resjax.models.trace import variable_shapes
from resjax.runs import claims, disk, files, rundir
from resjax.runs.matching import broken, refuse_broken, refuse_other_tensors
from resjax.runs.weights import (
    About,
    Shapes,
    Weights,
    about_in,
    paths,
    read_weights,
    unflatten,
    write_weights,
)


@dataclasses.dataclass(frozen=True)
class Imported:
    """Weights read from a file, and facts about it.

    Attributes:
      weights: the weights, as of a network of resjax.
      naming: key of `NAMINGS`, or "resjax".
      tensors: number of tensors that were read.
      notes: lines to be printed about what was changed or assumed.
    """

    weights: Weights
    naming: str
    tensors: int
    notes: tuple[str, ...]


def import_weights(
    path: Path | str,
    settings: Mapping[str, Any] | None = None,
    class_names: tuple[str, ...] = (),
    choice: str = "",
) -> Imported:
    """Reads the weights of a network of torchvision, timm, transformers or akamaster.

    With `imported = import_weights("resnet50.safetensors")` the network is
    `imported.weights.model`, and `imported.notes` says what was assumed about it.

    Args:
      path: a safetensors file or a PyTorch checkpoint; its metadata, if resjax exported it, or else
        `config.json` and `preprocessor_config.json` beside it, as transformers and timm write them,
        say what the tensors do not.
      settings: values of keys of the config in place of what was found or is assumed, such as
        {"model.stride_in": "1x1"}, which no tensor shows.
      class_names: names of the classes in place of those that are said there.
      choice: network to take of several in the file, such as "ema".

    Raises:
      ConfigError: if the file cannot be read, or holds no such network.
    """
    path = Path(path)
    with open_file(path, choice) as tensors:
        if about_in(tensors.metadata):
            raise ConfigError(
                f"{path} is a file of resjax: evaluate, predict, export, train.init_from and "
                "resjax.load_weights take it as it is"
            )
        found = recognise(tensors.shapes, str(path))
        config = found.config
        metadata = read_metadata(tensors.metadata, str(path)) or read_sidecars(path.parent)
        notes = [*tensors.notes, *metadata.notes]
        _set_data(config, found)
        config.update_from_flattened_dict(metadata.settings)
        notes += _architecture(tensors.architecture, metadata, found, path)
        standardise = config.data.standardise
        _set(config, settings or {})
        if config.data.standardise != standardise:
            metadata = dataclasses.replace(metadata, statistics=None)
        image_shape = metadata.image_shape or _image_shape(config, found)
        table = expected(found, config, image_shape)
        refuse_other_tensors(
            tensors.shapes,
            {name: place.shape for name, place in table.items()},
            str(path),
            f"it looks like {found.naming}'s {in_words(config)}, and is not that"
            + _small_stem_remedy(found, tensors.shapes),
        )
        variables = _read(tensors, table, str(path))
    if not metadata.preprocessing:
        notes.append("the file does not say how its images were prepared; the usual is assumed")
    named = metadata.class_names if found.classes else ()
    names = class_names or named or tuple(map(str, range(found.classes)))
    if len(names) != found.classes:
        raise ConfigError(f"{len(names)} class names for {found.classes} classes of {path}")
    mean, deviation = _statistics(config, metadata, found.channels)
    about = About(config, names, image_shape, tensors.batches)
    weights = Weights(about, variables, mean, deviation)
    return Imported(weights, found.naming, len(table), tuple(notes))


def read_any(path: Path, settings: Mapping[str, Any] | None = None, choice: str = "") -> Imported:
    """Reads the weights of a run, of a file written by resjax, or of another framework's file.

    Args:
      path: a run or a file.
      settings: as in `import_weights`.
      choice: network to take of several in a file of another framework, such as "ema".

    Raises:
      ConfigError: if it is none of them, or `settings` would make another network of a run's.
    """
    if path.is_file() and not is_own(path):
        return import_weights(path, settings, choice=choice)
    if choice:
        raise ConfigError(
            f"--weights={choice}: {path} has the weights of one network; leave it out"
        )
    if not (path / files.WEIGHTS).exists() and not rundir.runs_below(path):
        refuse_directory(path)
    weights = read_weights(path)
    refuse_broken(weights.tensors, str(path))
    config = weights.about.config.copy_and_resolve_references()
    _set(config, settings or {})
    for key in settings or {}:
        if key.startswith(("model.", "norm.")) and not KEYS[key].execution:
            raise ConfigError(f"{key} is that of the weights in {path}; leave it out")
    about = dataclasses.replace(weights.about, config=config)
    weights = dataclasses.replace(weights, about=about)
    return Imported(weights, "resjax", len(paths(weights.variables)), ())


def _set(config: ConfigDict, settings: Mapping[str, Any]) -> None:
    refuse_unknown(settings)
    with config.ignore_type():  # `validate` refuses values of other types
        config.update(nested(settings))
    validate(config)


def expected(
    found: Recognised, config: ConfigDict, image_shape: tuple[int, int, int]
) -> dict[str, Place]:
    """Returns {name: place} of the tensors that a recognised network must have."""
    model = build_model(config, found.classes)
    shapes = {path: leaf.shape for path, leaf in paths(variable_shapes(model, image_shape)).items()}
    return places(NAMINGS[found.naming], found.stem, config.model.shortcut, shapes)


def in_words(config: ConfigDict) -> str:
    """Describes a network in a few words, such as "imagenet-50, projection, 32 groups"."""
    model, parts = config.model, []
    if model.groups > 1:
        parts.append(f"{model.groups} groups")
    if model.bottleneck_width != 1:
        parts.append(f"inner width {model.bottleneck_width:g}")
    if model.stem != "auto":
        parts.append(f"{model.stem} stem")
    if model.order != "post":
        parts.append(model.order)
    return ", ".join([f"{model.name}-{model.depth}", model.shortcut, *parts])


def _small_stem_remedy(found: Recognised, shapes: Shapes) -> str:
    """Advice on a network for large images whose first layer was replaced for small ones."""
    (first, *_), _ = NAMINGS[found.naming].stems[found.stem]
    if found.stem != "imagenet" or shapes[f"{first}.weight"][2:] != (3, 3):
        return ""
    return "; with a first layer of 3x3 and no pool after it, it is by --config.model.stem=small"


def refuse_taken(directory: Path) -> None:
    """Raises ConfigError for a directory that is a run or a sweep."""
    state = rundir.run_state(directory)
    if state != rundir.ABSENT:
        raise ConfigError(f"{directory} holds a run that is {state}; choose another directory")
    rundir.refuse_sweep(directory)


def write_run(directory: Path, imported: Imported, source: Path) -> None:
    """Writes a directory of imported weights, which can be evaluated and start other runs.

    Raises:
      ConfigError: as `refuse_taken`, or if the directory cannot be written to.
    """
    refuse_taken(directory)
    rundir.make_directory(directory)
    with claims.claimed(directory):
        config = imported.weights.about.config
        write_weights(directory / files.WEIGHTS, imported.weights)
        said = {
            "file": source.name,
            "file_sha256": disk.sha256(source),
            "names": imported.naming,
            "tensors": imported.tensors,
            "notes": list(imported.notes),
        }
        disk.write_json(directory / files.ORIGIN, said)
        rundir.begin_run(directory, config)


def _architecture(named: str, metadata: Metadata, found: Recognised, path: Path) -> list[str]:
    """Checks a network against its names; returns a note if it has none."""
    for name, what in ((named, path), (metadata.architecture, path.parent / "config.json")):
        if name:
            refuse_other_architecture(name, found, str(what))
    if named or metadata.architecture or metadata.function:
        return []
    return [
        "nothing names its architecture: whether it is dilated, anti-aliased or has another "
        "activation cannot be known, and it is taken to have none of these"
    ]


def _set_data(config: ConfigDict, found: Recognised) -> None:
    """Sets the data that the networks of a codebase were trained on, and their preprocessing."""
    naming, data = NAMINGS[found.naming], config.data
    data.standardise, data.flip = naming.standardise, True
    if naming.family == "imagenet":
        data.name, data.test, data.size = "imagenet2012", "validation", 224
        data.resize, data.interpolation = 256, naming.interpolation
        config.eval.batch_size = 64
    else:
        data.name, data.pad = "cifar100" if found.classes == 100 else "cifar10", 4


def _image_shape(config: ConfigDict, found: Recognised) -> tuple[int, int, int]:
    side = config.data.size or FAMILIES[config.model.name].image_shape[0]
    return (side, side, found.channels)


def _read(tensors: Tensors, table: dict[str, Place], what: str) -> dict[str, Any]:
    """Reads tensors one by one into the leaves of a tree of variables."""
    rows = collections.Counter(place.path for place in table.values())
    leaves: dict[str, np.ndarray] = {}
    for name, place in table.items():
        values = tensors[name]
        if wrong := broken(name, values, variance=place.path.endswith("/var")):
            raise ConfigError(f"{what}: as float32 {wrong}; ask for weights that are whole")
        value = to_ours(values, place.axes)
        if place.row is None:
            leaves[place.path] = np.ascontiguousarray(value)
            continue
        if place.path not in leaves:
            leaves[place.path] = np.empty((rows[place.path], *value.shape), np.float32)
        leaves[place.path][place.row] = value
    return unflatten(leaves)


def _statistics(
    config: ConfigDict, metadata: Metadata, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    key, given = config.data.standardise, metadata.statistics
    remedy = (
        "the mean and deviation that it was trained with must be known: write them as image_mean "
        "and image_std, times 1/255, to preprocessor_config.json beside the file"
    )
    if given is None:
        if key in STATISTICS and key not in STREAMED_STATISTICS:
            raise ConfigError(f"data.standardise={key} is of images that a file has not; {remedy}")
        of_any = choose(
            {name: STATISTICS[name] for name in STREAMED_STATISTICS}, key, "data.standardise"
        )
        given = of_any(np.zeros((1, 1, 1, channels), np.uint8))
    mean, deviation = (np.asarray(each, np.float32) for each in given)
    if mean.shape[-1] != channels:
        raise ConfigError(
            f"data.standardise={key} is of {mean.shape[-1]} colours, and the network takes "
            f"{channels}; {remedy}, or use half or none if it was trained so"
        )
    return mean, deviation
