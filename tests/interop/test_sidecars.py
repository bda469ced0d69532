"""What JSON beside weights says is checked, value by value."""

import json

import numpy as np
import pytest
from PIL import Image

from resjax.config import ConfigError
from resjax.data.transforms import CentreCrop, ImageKey
from resjax.interop.sidecars import read_sidecars
from tests.data.pictures import encoded, picture

TIMM = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}  # fmt: skip

IMAGES = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2], "size": 224,
          "crop_pct": 0.875, "resample": 3}  # fmt: skip

NO_NUMBERS = (float("nan"), float("inf"), "0.9", True, [0.9], {}, 10**400)

WRONG = [
    *(("crop_pct", value) for value in (-1, 0, 1.5, 1e-300, *NO_NUMBERS)),
    *(("interpolation", value) for value in ("nearest", "", 3, None, ["bicubic"])),
    *(("mean", value) for value in (0.5, "0.5", None, [], [float("nan")] * 3, ["0.5"] * 3,
                                    [123.675, 116.28, 103.53], [-0.1] * 3, [1e9] * 3, [0.5],
                                    [None] * 3, [[0.5] * 3] * 3)),
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
        read_sidecars(directory)
    message = str(error.value)
    assert str(directory) in message
    assert "move" in message
    assert "\n" not in message
    assert len(message) < 400


def test_what_makes_sense_is_taken(tmp_path):
    (tmp_path / "config.json").write_text("\ufeff" + json.dumps({"pretrained_cfg": TIMM}))
    found = read_sidecars(tmp_path)
    assert found.settings == {
        "data.size": 224, "data.resize": 235, "data.interpolation": "bicubic",
        "data.standardise": "half",
    }  # fmt: skip


def said_of(directory, name, content):
    (directory / name).write_text(json.dumps(content))
    found = read_sidecars(directory)
    return found.settings, found.statistics, found.notes


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_statistics_of_other_numbers_of_channels_are_those_of_no_key(channels, tmp_path):
    said = IMAGES | {"image_mean": [0.485] * channels, "image_std": [0.229] * channels}
    settings, (mean, deviation), _ = said_of(tmp_path, "preprocessor_config.json", said)
    assert settings["data.standardise"] == "imagenet"  # to train on; importing gives the numbers
    np.testing.assert_allclose(mean, 255 * 0.485 * np.ones(channels))
    np.testing.assert_allclose(deviation, 255 * 0.229 * np.ones(channels))


CUT = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}

PROCESSORS = {
    "a crop of its own": ("BitImageProcessor", CUT),
    "values as they are": ("BitImageProcessor", CUT | {"do_normalize": False}),
    "another factor": ("BitImageProcessor", CUT | {"rescale_factor": 1 / 127.5}),
    "no factor": ("BitImageProcessor", CUT | {"do_rescale": False}),
    "a share": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_what_the_processor_of_transformers_makes_of_them(name, tmp_path):
    from tests.interop.peers import imported

    kind, options = PROCESSORS[name]
    options = {"resample": 2, "image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.3, 0.1]} | options
    with imported("transformers") as transformers:
        theirs = getattr(transformers, f"{kind}Pil")(**options)
    theirs.save_pretrained(tmp_path)
    found = read_sidecars(tmp_path)
    image = picture(3, 50, 60)
    settings, (mean, deviation) = found.settings, found.statistics
    side = settings["data.size"]
    out = np.empty((side, side, 3), np.uint8)
    view = CentreCrop(side, settings["data.resize"], settings["data.interpolation"])
    view(encoded(image, "PNG"), 3, ImageKey(0, 0, 0), out)
    expected = theirs(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    # Both round to levels of a byte.
    assert (abs((out - mean) / deviation - expected.transpose(1, 2, 0)) * deviation).max() <= 1.01


@pytest.mark.parametrize(
    ("key", "value"),
    [("do_resize", False), ("do_flip_channel_order", True), ("do_flip_channel_order", 1),
     ("crop_size", 225), ("crop_size", 0), ("crop_size", {"height": 224, "width": 192}),
     ("crop_size", "224"), ("do_rescale", "yes"), ("rescale_factor", 0), ("rescale_factor", None)],
    ids=ids,
)  # fmt: skip
def test_a_preparation_that_is_not_ours_is_refused(key, value, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGES | {key: value}))
    refused(tmp_path)


def test_switches_that_are_null_are_as_if_they_were_not_there(tmp_path):
    nulls = dict.fromkeys(("do_center_crop", "crop_size", "do_pad", "do_resize", "do_normalize"))
    plain, _, notes = said_of(tmp_path, "preprocessor_config.json", IMAGES)
    assert said_of(tmp_path, "preprocessor_config.json", IMAGES | nulls)[0] == plain
    assert (plain["data.size"], plain["data.resize"]) == (224, 256)
    assert not any("squeezed" in note for note in notes)


def test_images_that_were_squeezed_are_told_of(tmp_path):
    settings, _, notes = said_of(tmp_path, "preprocessor_config.json", IMAGES | {"size": 384})
    assert (settings["data.size"], settings["data.resize"]) == (384, 384)
    assert any("squeezed to 384x384" in note for note in notes)


def test_a_processor_that_squeezes_images_is_told_of(tmp_path):
    from tests.interop.peers import imported

    with imported("transformers") as transformers:
        transformers.ViTImageProcessorPil().save_pretrained(tmp_path)
    found = read_sidecars(tmp_path)
    assert (found.settings["data.size"], found.settings["data.resize"]) == (224, 224)
    assert any("squeezed to 224x224" in note for note in found.notes)
    sides = {"height": 256, "width": 256}
    cut = IMAGES | {"size": sides, "crop_size": 224, "crop_pct": None}
    settings, _, notes = said_of(tmp_path, "preprocessor_config.json", cut)
    assert (settings["data.size"], settings["data.resize"]) == (224, 256)
    assert any("squeezed to 256x256" in note for note in notes)
    for size in ({"height": 224, "width": 192}, {"height": True, "width": True}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(IMAGES | {"size": size}))
        refused(tmp_path)


def test_timm_says_what_it_tests_on(tmp_path):
    tested = {"test_input_size": [3, 288, 288], "test_crop_pct": 1.0, "crop_mode": "center"}
    settings, _, notes = said_of(tmp_path, "config.json", {"pretrained_cfg": TIMM | tested})
    assert settings["data.size"] == 224
    assert any("--config.data.size=288 --config.data.resize=288" in note for note in notes)
    same = {"test_input_size": [3, 224, 224], "test_crop_pct": 0.95}
    assert not said_of(tmp_path, "config.json", {"pretrained_cfg": TIMM | same})[2]
    border = {"pretrained_cfg": TIMM | {"crop_mode": "border"}}
    (tmp_path / "config.json").write_text(json.dumps(border))
    refused(tmp_path)


def test_earlier_files_of_timm_are_read_as_later_ones(tmp_path):
    later, _, _ = said_of(
        tmp_path, "config.json", {"architecture": "resnet18", "pretrained_cfg": TIMM}
    )
    assert said_of(tmp_path, "config.json", {"architecture": "resnet18"} | TIMM)[0] == later
