import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from prepared import Tiny, png, write

from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.data.prepare import prepare_set
from resjax.data.slices import Splits
from resjax.data.tfds import Records, tfds_source
from resjax.data.tfds_names import default_data_dir, parse_name

OWN = Splits()
HERE = Path(__file__).parent


class Grey(Tiny):
    FEATURES = Tiny.FEATURES | {"image": tfds.features.Image(shape=(8, 6, 1))}


class Supervised(Tiny):
    """Like CIFAR-100: two labels, of which one is the one to learn."""

    FEATURES = Tiny.FEATURES | {"coarse": tfds.features.ClassLabel(num_classes=2)}

    def example(self, name, number):
        return super().example(name, number) | {"coarse": number % 2}


class Unsure(Supervised):
    SUPERVISED = None


class Named(Tiny):
    FEATURES: ClassVar = {key: Tiny.FEATURES[key] for key in ("id", "image")}
    SUPERVISED = ("image", "id")

    def example(self, name, number):
        example = super().example(name, number)
        return {key: example[key] for key in self.FEATURES}


class Deep(Tiny):
    FEATURES = Tiny.FEATURES | {"image": tfds.features.Image(shape=(8, 6, 3), dtype=np.uint16)}


class Unlabelled(Tiny):
    """Like ImageNet: the labels of the test split are not published."""

    def example(self, name, number):
        return super().example(name, number) | ({"label": -1} if name == "test" else {})


class Validated(Tiny):
    SPLITS: ClassVar = {"train": 60, "validation": 20}


class Many(Tiny):
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, version="2.0.0") for name in "ab"
    ]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    write(Tiny, data_dir)
    return data_dir


@pytest.fixture
def copy(data_dir, tmp_path):
    """A copy to break: the data directory and that of the set in it."""
    shutil.copytree(data_dir / "tiny", tmp_path / "tiny")
    return tmp_path, tmp_path / "tiny/1.0.0"


def everything(split):
    return [split.read(number) for number in range(len(split))]


def test_images_are_read_as_they_were_written_with_their_labels(data_dir):
    source = tfds_source("tiny", data_dir, OWN)
    assert source.class_names == ("ant", "cat", "dog")
    for split, examples in ((source.train, 600), (source.test, 30)):
        assert len(split) == examples
        assert sorted(everything(split)) == sorted((png(n), n % 3) for n in range(examples))
        assert split.channels == 3
    assert source.validation is None
    with pytest.raises(IndexError):
        source.test.read(30)


def test_slices_are_those_of_tfds(data_dir):
    splits = Splits("train[:-33.3%]", "train[-33.3%:-5%]", "train[-30:]")
    source = tfds_source("tfds:tiny:1.0.0", data_dir, splits)
    builder = tfds.builder_from_directory(data_dir / "tiny/1.0.0")
    for split, text in ((source.train, splits.train), (source.test, splits.test)):
        theirs = builder.as_data_source(text, decoders={"image": tfds.decode.SkipDecoding()})
        assert everything(split) == [(example["image"], example["label"]) for example in theirs]
    assert len(source.validation) == 170
    assert len({source.train.fingerprint, source.test.fingerprint, source.fingerprint}) == 3


NO_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit(f"the network was touched: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def run(code, *arguments, **options):
    """Runs code in a process that ends if it touches the network; what it wrote."""
    out = subprocess.run(
        [sys.executable, "-c", NO_NETWORK + code, *map(str, arguments)],
        capture_output=True, cwd=HERE, **options,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr.decode()
    return out.stdout


def test_reading_needs_neither_tensorflow_nor_a_network(data_dir):
    code = """
import resjax.data.tfds as ours
assert "tensorflow_datasets" not in sys.modules
from pathlib import Path
source = ours.tfds_source("tiny", Path(sys.argv[1]), ours.Splits())
print(len([source.train.read(n) for n in range(600)]))
for name in ("mnist", "cifarten"):
    try:
        ours.tfds_source(name, Path(sys.argv[1]), ours.Splits())
    except ours.ConfigError as error:
        print(error)
assert not {"tensorflow", "jax"} & set(sys.modules)
"""
    lines = run(code, data_dir).decode().splitlines()
    assert lines == [
        "600",
        f"mnist is not in {data_dir}; run: resjax prepare mnist --data-dir={data_dir}",
        "TFDS has no set 'cifarten'; nearest: cifar10_n, cifar100_n, cifar10",
    ]


def test_another_process_reads_the_same(data_dir, monkeypatch):
    monkeypatch.chdir(data_dir.parent)
    split = tfds_source("tiny", Path(data_dir.name), Splits("train[50:]")).train
    split.read(0)  # with its files open it is pickled all the same
    code = """
import pickle
split = pickle.load(sys.stdin.buffer)
sys.stdout.buffer.write(pickle.dumps([split.read(n) for n in range(len(split))]))
assert not {"tensorflow", "jax"} & set(sys.modules)
"""
    assert len(pickle.dumps(split)) < 2000
    assert pickle.loads(run(code, input=pickle.dumps(split))) == everything(split)


def test_the_newest_version_and_the_own_config_are_read(tmp_path):
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        builder = type(
            "Tiny", (Tiny,), {"VERSION": tfds.core.Version(version)}, skip_registration=True
        )
        write(builder, tmp_path)
    assert tfds_source("tiny", tmp_path, OWN).train.directory.endswith("tiny/1.10.0")
    assert tfds_source("tiny:1.9.0", tmp_path, OWN).train.directory.endswith("tiny/1.9.0")
    with pytest.raises(
        ConfigError, match=r"tiny:2.0.0 is not in .*; run: resjax prepare tiny:2.0.0 "
    ):
        tfds_source("tiny:2.0.0", tmp_path, OWN)
    write(Many, tmp_path, config="b")
    assert tfds_source("many", tmp_path, OWN).train.directory.endswith("many/b/2.0.0")
    write(Many, tmp_path, config="a")
    assert tfds_source("many", tmp_path, OWN).train.directory.endswith("many/a/2.0.0")
    assert tfds_source("many/b:2.0.0", tmp_path, OWN).train.directory.endswith("many/b/2.0.0")
    shutil.rmtree(tmp_path / "many/.config")
    with pytest.raises(ConfigError, match="many has several configs; name one: a, b"):
        tfds_source("many", tmp_path, OWN)


def test_what_is_not_complete_is_not_there(copy):
    data_dir, directory = copy
    directory.rename(directory.with_name("incomplete.ABC123_1.0.0"))
    with pytest.raises(ConfigError, match=r"tiny is not in .*; run: resjax prepare tiny --data-d"):
        tfds_source("tiny", data_dir, OWN)


@pytest.mark.parametrize("builder", [Supervised, Grey])
def test_the_image_and_the_label_are_those_that_are_learnt(builder, tmp_path):
    write(builder, tmp_path)
    split = tfds_source(builder.__name__.lower(), tmp_path, OWN).test
    channels = 1 if builder is Grey else 3
    assert split.channels == channels
    assert sorted(everything(split)) == sorted((png(n, channels), n % 3) for n in range(30))


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        (Unsure, "unsure/1.0.0 has images: image; class labels: .*, .*; read a set with one of ea"),
        (Deep, "deep/1.0.0 has images of uint16; read a set of images with 8 bits a channel"),
        (Named, "named/1.0.0 has images: image; class labels: none; read a set with one of each"),
    ],
)
def test_a_set_without_one_image_and_one_label_is_refused(builder, message, tmp_path):
    write(builder, tmp_path)
    with pytest.raises(ConfigError, match=message):
        tfds_source(builder.__name__.lower(), tmp_path, OWN)


def test_a_label_that_is_no_class_is_refused_when_it_is_read(tmp_path):
    write(Unlabelled, tmp_path)
    source = tfds_source("unlabelled", tmp_path, OWN)
    assert source.train.read(0)[1] in range(3)
    with pytest.raises(
        ConfigError, match=r"example 7 of split 'test' in .* has label -1, which is n"
    ):
        source.test.read(7)
    sliced = tfds_source("unlabelled", tmp_path, Splits(test="test[5:]"))
    with pytest.raises(ConfigError, match="example 7 of split 'test' in"):
        sliced.test.read(2)


def test_without_a_test_split_the_validation_split_is_tested_on(tmp_path, monkeypatch):
    write(Validated, tmp_path)
    source = tfds_source("validated", tmp_path, OWN)
    assert (source.test.split, len(source.test), source.validation) == ("validation", 20, None)


def test_imagenet_is_tested_on_its_validation_split(copy):
    data_dir, directory = copy
    (data_dir / "imagenet2012").mkdir()
    for file in directory.iterdir():
        file.rename(file.with_name(file.name.replace("tiny-", "imagenet2012-")))
    info = json.loads((directory / "dataset_info.json").read_text())
    info["name"] = "imagenet2012"
    info["splits"].append(info["splits"][1] | {"name": "validation"})
    (directory / "dataset_info.json").write_text(json.dumps(info))
    for file in directory.glob("*-test*"):
        shutil.copy(file, file.with_name(file.name.replace("test", "validation")))
    directory.rename(data_dir / "imagenet2012/5.1.0")
    assert tfds_source("imagenet2012", data_dir, OWN).test.split == "validation"


def test_a_split_without_examples_is_refused(copy):
    data_dir, directory = copy
    info = json.loads((directory / "dataset_info.json").read_text())
    info["splits"][1]["shardLengths"] = ["0"]
    (directory / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(
        ConfigError, match="slice 'test' is empty: 0 to 0 of the 0 examples in 'tes"
    ):
        tfds_source("tiny", data_dir, OWN)


def test_another_format_is_refused_with_the_command_that_converts_it(copy):
    data_dir, directory = copy
    info = json.loads((directory / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (directory / "dataset_info.json").write_text(json.dumps(info))
    message = r"1.0.0 is prepared as tfrecord, not as array_record; to convert it, run: resjax prep"
    with pytest.raises(ConfigError, match=message):
        tfds_source("tiny", data_dir, OWN)
    info["alternativeFileFormats"] = ["array_record"]  # what a conversion notes
    (directory / "dataset_info.json").write_text(json.dumps(info))
    assert len(everything(tfds_source("tiny", data_dir, OWN).train)) == 600


FILE = "tiny-train.array_record-00001-of-00003"


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: (d / FILE).unlink(), f"{FILE} is missing; delete .*1.0.0 and run: resjax prep"),
        (lambda d: (d / "features.json").unlink(), "1.0.0 has no metadata of TFDS .*; delete"),
        (lambda d: (d / "dataset_info.json").unlink(), "1.0.0 has no metadata of TFDS .*; delete"),
        (lambda d: (d / "dataset_info.json").write_text("{"), "has no metadata of TFDS .*; delete"),
        (
            lambda d: shutil.copy(d / FILE.replace("train", "test"), d / FILE),
            f"{FILE} is damaged: 1",
        ),
    ],
)
def test_a_directory_that_is_not_whole_is_refused_with_the_remedy(copy, break_it, message):
    break_it(copy[1])
    with pytest.raises(ConfigError, match=message) as error:
        tfds_source("tiny", copy[0], OWN)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_damaged_files_are_named(copy):
    # In a process of its own, which a reader may take down with it.
    code = """
from pathlib import Path
from resjax.data.tfds import ConfigError, Splits, tfds_source
data_dir, file = map(Path, sys.argv[1:])
whole = file.read_bytes()
def records():
    split = tfds_source("tiny", data_dir, Splits()).train
    return [split.read(n) for n in range(len(split))]
wanted = records()
cuts = [whole[:n] for n in (0, 1, 1000, 2**16, len(whole) // 2, len(whole) - 1)]
flips = [bytearray(whole) for _ in range(40)]
for number, flipped in enumerate(flips):
    flipped[number * 1500 + 150] ^= 1 << number % 8
for damaged in cuts + flips + [whole[:20000] + bytes(5000) + whole[25000:], whole + b"more"]:
    file.write_bytes(damaged)
    try:
        print("whole" if records() == wanted else "wrong")
    except ConfigError as error:
        print(error)
"""
    lines = run(code, copy[0], copy[1] / FILE).decode().splitlines()
    assert len(lines) == 48
    assert "wrong" not in lines
    told = [line for line in lines if line != "whole"]
    assert all(f"{FILE} is damaged" in line and "resjax prepare tiny" in line for line in told)
    assert len([line for line in lines[:6] if "0 of its 200 records" in line]) == 6
    assert len(told) > 40


def test_fingerprint_is_that_of_the_files_and_their_metadata(copy, data_dir):
    one = tfds_source("tiny", data_dir, OWN)
    assert tfds_source("tiny", copy[0], OWN).fingerprint == one.fingerprint
    (copy[1] / "label.labels.txt").write_text("ant\ncat\nelk\n")
    assert tfds_source("tiny", copy[0], OWN).fingerprint != one.fingerprint


def test_a_set_of_grown_files_has_another_fingerprint(copy, data_dir, monkeypatch):
    monkeypatch.setattr("resjax.data.tfds.refuse_damaged", lambda *arguments: None)
    before = tfds_source("tiny", copy[0], OWN)
    with open(copy[1] / FILE, "ab") as file:
        file.write(b"\0")
    after = tfds_source("tiny", copy[0], OWN)
    assert after.train.fingerprint != before.train.fingerprint
    assert after.test.fingerprint == before.test.fingerprint


@pytest.mark.parametrize("name", [
    "", "tfds:", "a b", "huggingface:x", "cifar10:3", "cifar10/", "a/b/c", "../x", "x:*.*.*",
    "cifar10/..", "cifar10/.:1.0.0",
])  # fmt: skip
def test_what_is_no_name_of_a_set_is_refused(name):
    with pytest.raises(
        ConfigError, match="is not a set of TFDS; write NAME, NAME/CONFIG or NAME/CONF"
    ):
        parse_name(name)


def test_names():
    for name in ("cifar10", "cifar10:3.0.2", "cifar10_1/v4", "cifar10_1/v4:1.1.0"):
        assert str(parse_name(name)) == str(parse_name(f"tfds:{name}")) == name


def test_a_set_that_nothing_is_like_is_refused_without_all_names(tmp_path):
    with pytest.raises(ConfigError, match=r"no set 'zzzzzz'; try cifar10 or imagenet2012$"):
        tfds_source("zzzzzz", tmp_path / "nowhere", OWN)


def test_data_are_where_tfds_has_them(monkeypatch, tmp_path, data_dir):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    assert default_data_dir() == tmp_path / "tensorflow_datasets"
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert len(tfds_source("tiny", None, OWN).test) == 30
    monkeypatch.setenv("TFDS_DATA_DIR", "gs://bucket/sets")
    assert default_data_dir() == Address.of("gs://bucket/sets")
    with pytest.raises(ConfigError, match="TFDS_DATA_DIR=gs://bucket/sets is in a bucket"):
        prepare_set("tiny")


def test_what_is_pickled_is_what_it_is_made_of(data_dir):
    split = tfds_source("tiny", data_dir, OWN).train
    split.read(0)
    assert pickle.loads(pickle.dumps(split)) == split
    assert set(vars(pickle.loads(pickle.dumps(split)))) == {
        field.name for field in dataclasses.fields(Records)
    }
