"""What JSON beside weights says is checked, value by value."""

import json

import pytest

from resjax.config import ConfigError
from resjax.interop.beside import read_beside

TIMM = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}  # fmt: skip

IMAGES = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2], "size": 224,
          "crop_pct": 0.875, "resample": 3}  # fmt: skip

NO_NUMBERS = (float("nan"), float("inf"), "0.9", True, [0.9], {}, 10**400)

WRONG = [
    *(("crop_pct", value) for value in (-1, 0, 1.5, 1e-300, *NO_NUMBERS)),
    *(("interpolation", value) for value in ("nearest", "", 3, None, ["bicubic"])),
    *(("mean", value) for value in (0.5, "0.5", None, [], [float("nan")] * 3, ["0.5"] * 3,
                                    [1e9] * 3, [0.5], [None] * 3, [[0.5] * 3] * 3)),
    *(("std", value) for value in (0.5, [0.0] * 3, [-0.2] * 3, [float("inf")] * 3, [True] * 3, {})),
    *(("input_size", value) for value in (224, [], [224], [3, 224, 192], [3, 0, 0], [3, -1, -1],
                                          [3, 10**6, 10**6], [3, 2.5, 2.5], ["3", "224", "224"],
                                          "224", None, [3, float("inf"), float("inf")])),
]  # fmt: skip


def ids(value):
    return str(value)[:20]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=ids)
def test_every_value_of_timm_is_checked(key, value, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": TIMM | {key: value}}))
    refused(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key.replace("mean", "image_mean").replace("std", "image_std"), value)
          for key, value in WRONG if key in ("crop_pct", "mean", "std")),
        *(("size", value) for value in (-1, 0, "224", 1.5, None, [224], {}, {"shortest_edge": 0},
                                        {"height": 224}, 10**6, float("nan"), True)),
        *(("resample", value) for value in (0, 99, "3", 2.0, None, True, [3])),
    ],
    ids=ids,
)  # fmt: skip
def test_every_value_of_transformers_is_checked(key, value, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGES | {key: value}))
    refused(tmp_path)


@pytest.mark.parametrize(
    "said",
    [
        {"pretrained_cfg": [1]},
        {"pretrained_cfg": {"mean": [0.5] * 3}},
        {"label_names": [{"a": 1}]},
        {"id2label": {"0": None}},
        {"id2label": {"0": "a", "2": "b"}},
        {"id2label": ["a"]},
        {"label_names": "ab"},
        {"model_type": ["resnet"]},
        {"model_args": 3},
    ],
    ids=ids,
)
def test_other_values_are_checked(said, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(said))
    refused(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5000, "\x00", "{", "nul"])
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path)


def refused(directory):
    with pytest.raises(ConfigError) as error:
        read_beside(directory)
    message = str(error.value)
    assert str(directory) in message
    assert "move" in message
    assert "\n" not in message
    assert len(message) < 400


def test_what_makes_sense_is_taken(tmp_path):
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps({"pretrained_cfg": TIMM}))
    found = read_beside(tmp_path)
    assert found.settings == {
        "data.size": 224, "data.resize": 235, "data.interpolation": "bicubic",
        "data.standardise": "half",
    }  # fmt: skip
