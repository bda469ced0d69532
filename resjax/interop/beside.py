"""What is written beside a file of weights: the JSON files of transformers and timm."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resjax.config import ConfigError
from resjax.data.resident import IMAGENET_DEVIATION, IMAGENET_MEAN

MOST_BYTES = 1 << 24
"""Of such a file; 1,000 names of classes take 40 KiB."""

MOST_PIXELS = 1 << 14
"""Of a side, as of the keys data.size and data.resize."""

MOST_MEAN, LEAST_DEVIATION = 1e3, 1e-6
"""Of values of pixels that are from 0 to 1 in most files."""

HARMLESS = {"num_classes", "in_chans", "drop_rate", "drop_path_rate", "pretrained"}
"""Arguments of timm that change no function that the tensors do not show."""

MOVE = "move the JSON files away if they are not of these weights"

INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""By the numbers of Pillow, which transformers writes."""


@dataclasses.dataclass(frozen=True)
class Beside:
    """What was found.

    Attributes:
      settings: {dotted key: value} of a config.
      class_names: one for each output; empty if there are none.
      statistics: mean and deviation of the images, as of `Weights`; None if they are not said.
      image_shape: `[H, W, C]` that the network was trained on; None if it is not said.
      preprocessing: whether it was said how images are prepared.
      notes: to be told.
      architecture: the name of the network; empty if it has none.
      function: whether it was said what the network computes, beside such a name.
    """

    settings: Mapping[str, Any]
    class_names: tuple[str, ...]
    statistics: tuple[np.ndarray, np.ndarray] | None
    image_shape: tuple[int, int, int] | None
    preprocessing: bool
    notes: tuple[str, ...]
    architecture: str = ""
    function: bool = False


def read_beside(directory: Path) -> Beside:
    """Reads `config.json` and `preprocessor_config.json`, if they are those of a network.

    Raises:
      ConfigError: if one of them is damaged, says that the network is not one of resjax, or has a
        value that makes no sense.
    """
    path = directory / "config.json"
    config, images = _read(path), _read(directory / "preprocessor_config.json")
    notes = []
    try:
        function = config.get("model_type") == "resnet"
        settings = _function(config) if function else {}
        architecture = _architecture(config, path)
        timm = config.get("pretrained_cfg")
        prepared = (
            _of_timm(_mapping(config, "pretrained_cfg")) if timm else _of_transformers(images)
        )
        statistics = prepared.pop("statistics", None)
        names = _class_names(config)
    except KeyError as error:
        raise ConfigError(
            f"{directory}: the JSON beside the weights lacks {error}; {MOVE}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{directory}: {error}; {MOVE}") from None
    if statistics is not None:
        key = _key(*statistics)
        settings["data.standardise"] = key or "imagenet"
        if key is not None:
            statistics = None  # as in the table of that key
        else:
            notes.append("its mean and deviation of images are no data.standardise to train by")
    return Beside(
        settings=settings | prepared,
        class_names=names,
        statistics=statistics,
        image_shape=None,
        preprocessing=bool(prepared),
        notes=tuple(notes),
        architecture=architecture,
        function=function,
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())  # in any of the encodings of JSON
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"cannot read {path} ({error}); fetch it again, or move it away"
        ) from None
    return content if isinstance(content, dict) else {}


def _architecture(config: Mapping[str, Any], path: Path) -> str:
    """The name that timm gives a network; its file says what differs from the network of it."""
    kind = config.get("model_type", "resnet")
    if kind not in ("resnet", "timm_wrapper", "timm_backbone"):
        raise ValueError(f"{path.name} is of a model_type {_short(kind)}, which resjax has not")
    _choice(config, "global_pool", ("avg", ""), "avg")
    if changed := {**_mapping(config, "model_args")}.keys() - HARMLESS:
        raise ValueError(f"{path.name} changes the network by model_args {sorted(changed)}")
    name = config.get("architecture", "")
    if not isinstance(name, str):
        raise ValueError(f"architecture={_short(name)} is no name")
    return name


def _function(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a network of transformers that no tensor shows.

    Its `hidden_act` stands after the stem and the sums, and relu everywhere else.
    """
    _choice(config, "hidden_act", ("relu",), "relu")
    _choice(config, "downsample_in_first_stage", (False,), False)
    inner = _choice(config, "downsample_in_bottleneck", (False, True), False)
    return {"model.stride_in": "1x1"} if inner else {}


def _of_transformers(images: Mapping[str, Any]) -> dict[str, Any]:
    if not {"image_mean", "image_std"} <= images.keys():
        return {}
    size = images.get("size", 224)
    if isinstance(size, Mapping):
        if "shortest_edge" not in size:
            raise ValueError(f"size={_short(size)} has no shortest_edge")
        size = size["shortest_edge"]
    crop = images.get("crop_pct")
    number = _choice(images, "resample", tuple(INTERPOLATIONS), 3)
    return {
        **_sizes(size, 224 / 256 if crop is None else crop),
        "data.interpolation": INTERPOLATIONS[number],
        "statistics": _statistics(images, "image_mean", "image_std"),
    }


def _of_timm(timm: Mapping[str, Any]) -> dict[str, Any]:
    shape = timm["input_size"]
    if not isinstance(shape, list) or len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"input_size={_short(shape)} is not [channels, side, side]")
    return {
        **_sizes(shape[-1], timm["crop_pct"]),
        "data.interpolation": _choice(timm, "interpolation", tuple(INTERPOLATIONS.values())),
        "statistics": _statistics(timm, "mean", "std"),
    }


def _sizes(size: Any, crop: Any) -> dict[str, Any]:
    """The side of the square that is cut out, and the shorter side before."""
    size, crop = (
        _number(size, "the size of images", 1, MOST_PIXELS),
        _number(crop, "crop_pct", 0, 1),
    )
    if size != int(size) or not 0 < size / max(crop, 1e-9) <= MOST_PIXELS:
        raise ValueError(f"images of size {size} at crop_pct={crop} make no sense")
    return {"data.size": int(size), "data.resize": int(size / crop)}


def _statistics(said: Mapping[str, Any], *keys: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in the units of files, which JSON says in those of 0 to 1."""
    both = []
    for key, least in zip(keys, (-MOST_MEAN, LEAST_DEVIATION), strict=True):
        values = said[key]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{key}={_short(values)} is not a list of numbers")
        both.append(255 * np.array([_number(each, key, least, MOST_MEAN) for each in values]))
    if len(both[0]) != len(both[1]):
        raise ValueError(f"{keys[0]} and {keys[1]} are of other numbers of channels")
    return both[0], both[1]


def _number(value: Any, what: str, least: float, most: float) -> int | float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{what}={_short(value)} is not a number from {least:g} to {most:g}")
    return value


def _choice(said: Mapping[str, Any], key: str, allowed: tuple, default: Any = None) -> Any:
    """One of the values that a key may have; 1 is not True."""
    value = said[key] if default is None else said.get(key, default)
    for each in allowed:
        if type(value) is type(each) and value == each:
            return each
    raise ValueError(
        f"{key}={_short(value)} is not a network or preparation of resjax, which has "
        f"{', '.join(map(repr, allowed))}"
    )


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = said.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}={_short(value)} is not an object")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _key(mean: np.ndarray, deviation: np.ndarray) -> str | None:
    """Of `resjax.data.resident.STATISTICS`, with these numbers; None if there is none."""
    known = {"imagenet": (IMAGENET_MEAN, IMAGENET_DEVIATION), "half": ((127.5,) * 3,) * 2}
    for key, (ours, spread) in known.items():
        if np.allclose(mean, ours, atol=1e-3) and np.allclose(deviation, spread, atol=1e-3):
            return key
    return None


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """In the order of the outputs: `id2label` of transformers, `label_names` of timm."""
    labels = _mapping(config, "id2label")
    if labels:
        numbers = [str(number) for number in range(len(labels))]
        if labels.keys() != set(numbers):
            raise ValueError(f"id2label={_short(labels)} does not name the outputs from 0 on")
        return _texts([labels[number] for number in numbers], "id2label")
    names = config.get("label_names") or []
    if not isinstance(names, list):
        raise ValueError(f"label_names={_short(names)} is not a list")
    return _texts(names, "label_names")


def _texts(names: list[Any], what: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str | int):
            raise ValueError(f"{what} has {_short(name)}, which is no name of a class")
    return tuple(map(str, names))
