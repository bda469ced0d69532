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
    """

    settings: Mapping[str, Any]
    class_names: tuple[str, ...]
    statistics: tuple[np.ndarray, np.ndarray] | None
    image_shape: tuple[int, int, int] | None
    preprocessing: bool
    notes: tuple[str, ...]


def read_beside(directory: Path) -> Beside:
    """Reads `config.json` and `preprocessor_config.json`, if they are those of a network.

    Raises:
      ConfigError: if one of them is damaged, or says that the network is not one of resjax.
    """
    config = _read(directory / "config.json")
    timm, images = config.get("pretrained_cfg"), _read(directory / "preprocessor_config.json")
    settings, notes = _architecture(config, directory / "config.json"), []
    try:
        prepared = _of_timm(timm) if isinstance(timm, Mapping) else _of_transformers(images)
        statistics = prepared.pop("statistics", None)
    except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
        raise ConfigError(
            f"{directory} says of images what is not understood ({type(error).__name__}: {error}); "
            "move the JSON files away"
        ) from None
    if statistics is not None:
        key = _key(*statistics)
        settings["data.standardise"] = key or "imagenet"
        if key is not None:
            statistics = None  # as in the table of that key
        else:
            notes.append("its mean and deviation of images are no data.standardise to train by")
    names = _class_names(config)
    return Beside(settings | prepared, names, statistics, None, bool(prepared), tuple(notes))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        content = json.loads(path.read_bytes())  # in any of the encodings of JSON
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path} ({error}); fetch it again, or move it away"
        ) from None
    return content if isinstance(content, dict) else {}


def _architecture(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What transformers says and no tensor shows; other JSON files have none of these keys."""
    if config.get("model_type") != "resnet":
        return {}
    if config.get("downsample_in_first_stage"):
        raise ConfigError(f"{path}: downsample_in_first_stage is not a network of resjax")
    activation = config.get("hidden_act", "relu")
    settings = {"model.activation": activation} if activation != "relu" else {}
    if config.get("downsample_in_bottleneck"):
        settings["model.stride_in"] = "1x1"
    return settings


def _of_transformers(images: Mapping[str, Any]) -> dict[str, Any]:
    if not {"image_mean", "image_std"} <= images.keys():
        return {}
    size = images.get("size", 224)
    size = int(size["shortest_edge"] if isinstance(size, Mapping) else size)
    return {
        "data.size": size,
        "data.resize": int(size / float(images.get("crop_pct") or 224 / 256)),
        "data.interpolation": INTERPOLATIONS[int(images.get("resample", 3))],
        "statistics": _bytes(images["image_mean"], images["image_std"]),
    }


def _of_timm(timm: Mapping[str, Any]) -> dict[str, Any]:
    size = int(timm["input_size"][-1])
    if timm["interpolation"] not in INTERPOLATIONS.values():
        raise ValueError(f"interpolation {timm['interpolation']!r}")
    return {
        "data.size": size,
        "data.resize": int(size / float(timm["crop_pct"])),
        "data.interpolation": timm["interpolation"],
        "statistics": _bytes(timm["mean"], timm["std"]),
    }


def _bytes(mean: Any, deviation: Any) -> tuple[np.ndarray, np.ndarray]:
    return 255 * np.asarray(mean, np.float64), 255 * np.asarray(deviation, np.float64)


def _key(mean: np.ndarray, deviation: np.ndarray) -> str | None:
    """Of `resjax.data.resident.STATISTICS`, with these numbers; None if there is none."""
    known = {"imagenet": (IMAGENET_MEAN, IMAGENET_DEVIATION), "half": ((127.5,) * 3,) * 2}
    for key, (ours, spread) in known.items():
        if np.allclose(mean, ours, atol=1e-3) and np.allclose(deviation, spread, atol=1e-3):
            return key
    return None


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """In the order of the outputs: `id2label` of transformers, `label_names` of timm."""
    labels = config.get("id2label")
    if isinstance(labels, Mapping) and all(str(key).isdecimal() for key in labels):
        ordered = {int(key): str(name) for key, name in labels.items()}
        if sorted(ordered) == list(range(len(ordered))):
            return tuple(ordered[number] for number in range(len(ordered)))
    names = config.get("label_names")
    return tuple(map(str, names)) if isinstance(names, list) else ()
