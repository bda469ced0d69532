"""Sidecars: the JSON files that transformers and timm write beside a file of weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from resjax.config import ConfigError
from resjax.data.statistics import STATISTICS
from resjax.interop.metadata import Metadata

MOST_BYTES = 1 << 24
"""Maximum bytes of such a file; 1,000 names of classes take 40 KiB."""

LARGEST_SIDE = 1 << 14
"""Maximum side in pixels, as for the keys data.size and data.resize."""

LEAST_DEVIATION = 1e-6
"""Minimum standard deviation of pixels in the units of the JSON, mostly from 0 to 1."""

HARMLESS = {"num_classes", "in_chans", "drop_rate", "drop_path_rate", "drop_block_rate",
            "pretrained", "zero_init_last"}  # fmt: skip
"""Arguments of timm that change nothing in the function beyond what the tensors show."""

DEFAULTS: dict[str, tuple] = {
    "global_pool": ("avg", ""),
    "output_stride": (32,),
    "act_layer": ("relu",),
    "norm_layer": ("batchnorm2d",),
    "aa_layer": ("",),
    "replace_stem_pool": (False,),
}
"""Values of timm's other arguments that leave a network as it is; null does, too.

timm writes `global_pool` for every network that it saves.
"""

MOVE = "move the JSON files away if they are not of these weights"

INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
"""Interpolations by Pillow's numbers, which transformers writes."""

SQUEEZED = 384
"""Minimum side from which transformers makes images square without cropping them."""

OF_TIMM = {"input_size", "crop_pct", "interpolation", "mean", "std"}
"""Keys of timm's settings for images: under `pretrained_cfg`, or at the top in older versions."""

SIDECARS = ("config.json", "preprocessor_config.json")
"""Files beside those of weights, with the network and the preprocessing of its images."""


def read_sidecars(directory: Path) -> Metadata:
    """Reads `config.json` and `preprocessor_config.json`, if they belong to a network.

    Raises:
      ConfigError: if one of them is damaged, says that the network is not one of resjax, or has a
        value that makes no sense.
    """
    path, of_images = (directory / name for name in SIDECARS)
    config, images = _read(path), _read(of_images)
    try:
        function = config.get("model_type") == "resnet"
        settings = _network_settings(config) if function else {}
        architecture = _architecture(config, path)
        timm = _mapping(config, "pretrained_cfg") or (config if config.keys() >= OF_TIMM else {})
        prepared, notes = _of_timm(timm) if timm else _of_transformers(images)
        statistics = prepared.pop("statistics", None)
        names = _class_names(config)
    except KeyError as error:
        raise ConfigError(
            f"{directory}: the JSON beside the weights lacks {error}; {MOVE}"
        ) from None
    except ValueError as error:
        raise ConfigError(f"{directory}: {error}; {MOVE}") from None
    if statistics is not None:
        key = _statistics_key(*statistics)
        settings["data.standardise"] = key or "imagenet"
        if key is not None:
            statistics = None  # as in the table of that key
        else:
            notes.append("its mean and deviation of images are no data.standardise to train by")
    return Metadata(
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
    """The name that timm gives a network; refuses arguments that change that network."""
    kind = config.get("model_type", "resnet")
    if kind not in ("resnet", "timm_wrapper", "timm_backbone"):
        raise ValueError(f"{path.name} is of a model_type {_shortened(kind)}, which resjax has not")
    _choice(config, "global_pool", DEFAULTS["global_pool"], "avg")
    changed = {
        key: value
        for key, value in _mapping(config, "model_args").items()
        if not (key in HARMLESS or value is None or value in DEFAULTS.get(key, ()))
    }
    if changed:
        raise ValueError(f"{path.name} changes the network by model_args {_shortened(changed)}")
    name = config.get("architecture", "")
    if not isinstance(name, str):
        raise ValueError(f"architecture={_shortened(name)} is no name")
    return name


def _network_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a transformers network that no tensor shows.

    Its `hidden_act` stands after the stem and the sums, and relu everywhere else.
    """
    _choice(config, "hidden_act", ("relu",), "relu")
    _choice(config, "downsample_in_first_stage", (False,), False)
    inner = _choice(config, "downsample_in_bottleneck", (False, True), False)
    return {"model.stride_in": "1x1"} if inner else {}


def _of_transformers(images: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The image settings of transformers, and lines to be printed.

    Some of its processors resize the shorter side to `size` and cut `crop_size` out. Those of its
    ResNets resize it to `size / crop_pct` and cut `size` out, or squeeze images that large. Those
    of other networks squeeze images to a height and a width.
    """
    if not {"image_mean", "image_std"} <= images.keys():
        return {}, []
    _flag(images, "do_resize", (True,))
    _flag(images, "do_flip_channel_order", (False,))
    squeezed = _is_square(images.get("size"))
    size, crop = _side(images.get("size", 224), "size"), images.get("crop_pct")
    if not squeezed and crop is None and not _flag(images, "do_center_crop"):
        raise ValueError("do_center_crop=False leaves images that are no squares")
    if images.get("crop_size") is not None and _flag(images, "do_center_crop"):
        sizes = _crop(_side(images["crop_size"], "crop_size"), size)
    elif squeezed or (type(size) is int and size >= SQUEEZED):
        sizes, squeezed = _crop(size, size), True
    else:
        sizes = _crop_by_share(size, 224 / 256 if crop is None else crop)
    number = _choice(images, "resample", tuple(INTERPOLATIONS), 3)
    statistics = _statistics(images, "image_mean", "image_std", unit=_unit(images))
    if not _flag(images, "do_normalize"):
        as_they_are = {"mean": [0] * len(statistics[0]), "std": [1] * len(statistics[0])}
        statistics = _statistics(as_they_are, "mean", "std", unit=_unit(images))
    return {
        **sizes,
        "data.interpolation": INTERPOLATIONS[number],
        "statistics": statistics,
    }, [_squeeze_note(size)] if squeezed else []


def _crop(size: Any, resize: Any) -> dict[str, Any]:
    """The side of the square crop, and the shorter side before it, as settings."""
    for side, key in ((size, "crop_size"), (resize, "size")):
        if _number(side, key, 1, LARGEST_SIDE) != int(side):
            raise ValueError(f"{key}={side} is no number of pixels")
    if size > resize:
        raise ValueError(f"crop_size={size} is larger than size={resize}")
    return {"data.size": int(size), "data.resize": int(resize)}


def _unit(images: Mapping[str, Any]) -> float:
    """The number of levels in transformers' unit of mean and deviation; usually 255."""
    if not _flag(images, "do_rescale"):
        return 1.0
    factor = _number(images.get("rescale_factor", 1 / 255), "rescale_factor", 1e-6, 1e3)
    return round(1 / factor, 9)


def _flag(said: Mapping[str, Any], key: str, allowed: tuple[bool, ...] = (True, False)) -> bool:
    """The value of a switch of transformers; null counts as absent."""
    return _choice({key: allowed[0]} if said.get(key) is None else said, key, allowed)


def _side(value: Any, key: str) -> Any:
    """The side of a square, or the shorter side of an image, in any notation of transformers."""
    if not isinstance(value, Mapping):
        return value
    if "shortest_edge" in value:
        return value["shortest_edge"]
    if not _is_square(value):
        raise ValueError(f"{key}={_shortened(value)} has no shortest_edge and is no square")
    return value["height"]


def _is_square(value: Any) -> bool:
    """Tells whether a size is that of a square, to which images are squeezed."""
    return (
        isinstance(value, Mapping)
        and "shortest_edge" not in value
        and value.get("height") is not None
        and value["height"] == value.get("width")
    )


def _squeeze_note(size: int) -> str:
    return (
        f"images were squeezed to {size}x{size}; here their shorter sides become {size} and the "
        "centre is cut out"
    )


def _of_timm(timm: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The image settings of timm, and lines to be printed."""
    sizes = _crop_by_share(_square(timm["input_size"], "input_size"), timm["crop_pct"])
    notes = []
    mode = timm.get("crop_mode") or "center"
    if _choice({"crop_mode": mode}, "crop_mode", ("center", "squash")) == "squash":
        notes.append(_squeeze_note(sizes["data.size"]))
    if timm.get("test_input_size") or timm.get("test_crop_pct"):
        tested = _crop_by_share(
            _square(timm.get("test_input_size") or timm["input_size"], "test_input_size"),
            timm.get("test_crop_pct") or timm["crop_pct"],
        )
        if tested != sizes:
            words = " ".join(f"--config.{key}={value}" for key, value in tested.items())
            notes.append(f"timm publishes what it is worth on larger images: {words}")
    return {
        **sizes,
        "data.interpolation": _choice(timm, "interpolation", tuple(INTERPOLATIONS.values())),
        "statistics": _statistics(timm, "mean", "std"),
    }, notes


def _square(shape: Any, key: str) -> Any:
    if not isinstance(shape, list) or len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"{key}={_shortened(shape)} is not [channels, side, side]")
    return shape[-1]


def _crop_by_share(size: Any, crop: Any) -> dict[str, Any]:
    """The side of the square crop, and the shorter side before it, as settings."""
    size, crop = (
        _number(size, "the size of images", 1, LARGEST_SIDE),
        _number(crop, "crop_pct", 0, 1),
    )
    if size != int(size) or not 0 < size / max(crop, 1e-9) <= LARGEST_SIDE:
        raise ValueError(f"images of size {size} at crop_pct={crop} make no sense")
    return {"data.size": int(size), "data.resize": int(size / crop)}


def _statistics(
    said: Mapping[str, Any], *keys: str, unit: float = 255
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in the units of files, of which `unit` are one in the JSON."""
    both, most = [], 255 / unit
    for key, least in zip(keys, (0, LEAST_DEVIATION), strict=True):
        values = said[key]
        if not isinstance(values, list) or not values:
            raise ValueError(f"{key}={_shortened(values)} is not a list of numbers")
        both.append(unit * np.array([_number(each, key, least, most) for each in values]))
    if len(both[0]) != len(both[1]):
        raise ValueError(f"{keys[0]} and {keys[1]} are of other numbers of channels")
    return both[0], both[1]


def _number(value: Any, what: str, least: float, most: float) -> int | float:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{what}={_shortened(value)} is not a number from {least:g} to {most:g}")
    return value


def _choice(said: Mapping[str, Any], key: str, allowed: tuple, default: Any = None) -> Any:
    """The value of a key if it is among those allowed; 1 does not count as True."""
    value = said[key] if default is None else said.get(key, default)
    for each in allowed:
        if type(value) is type(each) and value == each:
            return each
    raise ValueError(
        f"{key}={_shortened(value)} is not a network or preparation of resjax, which has "
        f"{', '.join(map(repr, allowed))}"
    )


def _mapping(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = said.get(key) or {}
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}={_shortened(value)} is not an object")
    return value


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _statistics_key(mean: np.ndarray, deviation: np.ndarray) -> str | None:
    """The key of `resjax.data.statistics.STATISTICS` with these numbers; None if there is none."""
    image = np.zeros((1, 1, 1, len(mean)), np.uint8)
    for key in ("imagenet", "half"):
        ours = STATISTICS[key](image)
        if len(ours[0]) == len(mean) and np.allclose((mean, deviation), ours, atol=1e-3):
            return key
    return None


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names by output: `id2label` of transformers, `label_names` of timm."""
    labels = _mapping(config, "id2label")
    if labels:
        numbers = [str(number) for number in range(len(labels))]
        if labels.keys() != set(numbers):
            raise ValueError(f"id2label={_shortened(labels)} does not name the outputs from 0 on")
        return _texts([labels[number] for number in numbers], "id2label")
    names = config.get("label_names") or []
    if not isinstance(names, list):
        raise ValueError(f"label_names={_shortened(names)} is not a list")
    return _texts(names, "label_names")


def _texts(names: list[Any], what: str) -> tuple[str, ...]:
    for name in names:
        if not isinstance(name, str | int):
            raise ValueError(f"{what} has {_shortened(name)}, which is no name of a class")
    return tuple(map(str, names))
