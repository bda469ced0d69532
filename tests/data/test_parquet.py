"""Images in Parquet files, as Hugging Face distributes them."""

import io
import json
import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from resjax.config import ConfigError, Notice
from resjax.data.parquet import parquet_source
from resjax.data.slices import Splits
from resjax.data.sources import DataRequest, load
from resjax.data.streaming import evaluation_feed
from resjax.data.transforms import CentreCrop
from tests.buckets.fixtures import uploaded

ROOT = Path(__file__).parents[2]
NAMES = ["ant", "bee", "cat"]
OWN = Splits()
HALVES = Splits("train[:50%]", "", "train[50%:]")


def png(number, channels=3):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 6, channels), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "png")
    return file.getvalue()


def features(image="image", **labels):
    """The metadata that the library `datasets` writes about columns."""
    columns = {image: {"_type": "Image"}}
    columns |= {key: {"names": names, "_type": "ClassLabel"} for key, names in labels.items()}
    return {"huggingface": json.dumps({"info": {"features": columns}})}


def write(path, rows, first=0, about=None, group=4, **columns):
    """Writes a file of rows, in groups of four; returns the images."""
    images = [png(first + n) for n in range(rows)]
    about = features(label=NAMES) if about is None else about
    table = {
        "image": [{"bytes": data, "path": None} for data in images],
        "label": [(first + n) % 3 for n in range(rows)],
    } | columns
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({key: value for key, value in table.items() if value is not None})
    pq.write_table(table.replace_schema_metadata(about), path, row_group_size=group)
    return images


def everything(split):
    return [split.read(number) for number in range(len(split))]


@pytest.fixture
def shards(tmp_path):
    """A set as `push_to_hub` writes it: three files to train on, one to test on."""
    for number, rows in enumerate((10, 9, 11)):
        write(tmp_path / f"data/train-{number:05}-of-00003.parquet", rows, 100 * number)
    write(tmp_path / "data/test-00000-of-00001.parquet", 5, 900)
    (tmp_path / "README.md").write_text("A card.")
    return tmp_path


def test_rows_are_read_in_the_order_of_the_files(shards):
    source = parquet_source(shards, "", OWN)
    numbers = [*range(10), *range(100, 109), *range(200, 211)]
    assert everything(source.train) == [(png(n), n % 3) for n in numbers]
    assert everything(source.test) == [(png(n), n % 3) for n in range(900, 905)]
    assert source.class_names == tuple(NAMES)
    assert source.train.channels == 3


def test_slices_are_parts_of_the_whole_in_any_order_and_in_other_processes(shards):
    splits = Splits("train[:17]", "train[17:25]", "train[25:]")
    whole, source = parquet_source(shards, "", OWN), parquet_source(shards, "", splits)
    parts = (source.train, source.validation, source.test)
    assert [row for part in parts for row in everything(part)] == everything(whole.train)
    copy = pickle.loads(pickle.dumps(source.validation))
    order = np.random.default_rng(0).permutation(8)
    assert [copy.read(n) for n in order] == [whole.train.read(17 + n) for n in order]
    assert copy.name(2) == f"row 19 of the split, in {shards}/data/train-00002-of-00003.parquet"
    with pytest.raises(IndexError):
        copy.read(8)


@pytest.mark.parametrize(("label", "names"), [("fine", ["ab", "cd"]), ("label", NAMES)])
def test_datasets_of_hugging_face_reads_the_same_from_what_it_wrote(label, names, tmp_path):
    datasets = pytest.importorskip("datasets")
    rng, pixels = (
        np.random.default_rng(0),
        [np.asarray(Image.open(io.BytesIO(png(n)))) for n in range(30)],
    )
    labels = rng.permutation(30) % len(names)
    theirs = datasets.Dataset.from_dict(
        {"img": [Image.fromarray(image) for image in pixels], label: labels},
        datasets.Features({"img": datasets.Image(), label: datasets.ClassLabel(names=names)}),
    )
    theirs.to_parquet(tmp_path / "set.parquet", batch_size=7)
    source = load(f"parquet:{tmp_path}/set.parquet", DataRequest(splits=HALVES))
    np.testing.assert_array_equal([*source.train.images, *source.test.images], pixels)
    np.testing.assert_array_equal([*source.train.labels, *source.test.labels], labels)
    assert source.class_names == tuple(names)
    again = datasets.Dataset.from_parquet(str(tmp_path / "set.parquet"), cache_dir=tmp_path / "c")
    np.testing.assert_array_equal(np.asarray(again[3]["img"]), source.train.images[3])


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.parquet", "test.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("data/train-00000-of-00001-a09b74b3ef9c3b56.parquet", "data/val-00000-of-00001.parquet"),
        ("Training_0.parquet", "Validation_0.parquet"),
        ("cifar10_train.parquet", "cifar10_test.parquet"),
        ("train/part-00000.parquet", "test/part-00000.parquet"),
        ("data/train/a.parquet", "data/test/b.parquet"),
        ("train/train-00000-of-00001.parquet", "test/test-00000-of-00001.parquet"),
    ],
)
def test_names_of_files_and_directories_say_their_split(train, test, tmp_path):
    write(tmp_path / train, 6)
    write(tmp_path / test, 3, 50)
    write(tmp_path / ".cache/huggingface/train.parquet", 2, 70)
    source = parquet_source(tmp_path, "", OWN)
    assert [data for data, _ in everything(source.train)] == [png(n) for n in range(6)]
    assert [data for data, _ in everything(source.test)] == [png(n) for n in range(50, 53)]


def test_a_split_of_another_name_is_trained_on_only_if_it_is_asked_for(shards):
    write(shards / "data/extra-00000-of-00001.parquet", 3, 500)
    assert len(parquet_source(shards, "", OWN).train) == 30
    assert len(parquet_source(shards, "", Splits("extra", "", "test")).train) == 3
    (shards / "data").rename(shards / "train")
    assert len(parquet_source(shards / "train", "", OWN).train) == 30


def test_a_split_whose_labels_are_not_published_is_left_out(shards):
    write(shards / "data/test-00000-of-00001.parquet", 5, label=[-1] * 5)
    write(shards / "data/validation-00000-of-00001.parquet", 4, 300)
    assert [data for data, _ in everything(parquet_source(shards, "", OWN).test)] == [
        png(n) for n in range(300, 304)
    ]
    write(tmp := shards / "alone.parquet", 5, label=[0, None, 2, 1, 0])
    with pytest.raises(ConfigError) as raised:
        parquet_source(tmp, "", HALVES)
    assert str(raised.value) == (
        f"{tmp}: 1 of 5 images of the split train have no label; remove their rows"
    )
    write(tmp, 5, label=[-1] * 5)
    with pytest.raises(ConfigError, match="has no labels; read a split whose labels are published"):
        parquet_source(tmp, "", HALVES)


def test_of_several_columns_of_labels_one_is_chosen(tmp_path):
    about = features(fine=["x", "y"], coarse=["z"])
    file = tmp_path / "set.parquet"
    write(file, 6, about=about, label=None, fine=[0, 1] * 3, coarse=[0] * 6)
    with pytest.raises(ConfigError) as raised:
        parquet_source(file, "", HALVES)
    assert str(raised.value) == (
        f"{file} has columns of images: image; others: fine (int64), coarse (int64); read a set "
        "with one of images and one of labels, whole numbers from 0 or texts, and choose among "
        "several by data.name=parquet:PATH:LABEL"
    )
    source = load(f"parquet:{file}:fine", DataRequest(splits=HALVES))
    assert (source.class_names, source.train.labels.tolist()) == (("x", "y"), [0, 1, 0])
    with pytest.raises(ConfigError, match="others: fine"):
        parquet_source(file, "image", HALVES)


def test_columns_are_found_by_their_types_where_nothing_is_said_of_them(tmp_path):
    file = tmp_path / "set.parquet"
    images = write(file, 6, about={}, id=list("abcdef"), number=list(range(6)))
    source = parquet_source(file, "", HALVES)
    assert everything(source.test) == [(images[n], n % 3) for n in (3, 4, 5)]
    assert source.class_names == ("0", "1", "2")
    rows = everything(source.test)
    write(file, 6, about={}, image=images)
    assert everything(parquet_source(file, "", HALVES).test) == rows


@pytest.mark.parametrize("kind", ["uint8", "uint64", "int16"])
def test_labels_are_whole_numbers_of_any_kind(kind, tmp_path):
    write(tmp_path / "set.parquet", 6, label=pa.array([0, 1, 2, 0, 1, 2], kind))
    source = parquet_source(tmp_path / "set.parquet", "", HALVES)
    assert (source.test.labels.tolist(), source.test.labels.dtype) == ([0, 1, 2], np.int32)


TEXTS = ["dog", "ant", "cat", "ant", "dog", "ant"]
CHOICES = {
    "texts": pa.array(TEXTS),
    "large": pa.array(TEXTS, pa.large_string()),
    "views": pa.array(TEXTS, pa.string_view()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "truths": pa.array([text == "dog" for text in TEXTS]),
    "numbers": pa.array([7, 5, 6, 5, 7, 5]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", CHOICES)
def test_labels_may_be_texts_whose_sorted_values_in_all_splits_are_the_classes(kind, tmp_path):
    write(tmp_path / "train.parquet", 6, about={}, label=CHOICES[kind])
    write(tmp_path / "test.parquet", 3, about={}, label=CHOICES[kind][:3])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # the numbers from 5 leave five classes unseen
        source = parquet_source(tmp_path, "", OWN)
    written = list(map(str, CHOICES[kind].to_pylist()))
    for split in (source.train, source.test):
        names = [source.class_names[label] for label in split.labels]
        assert [name.lower() for name in names] == [text.lower() for text in written[: len(names)]]
    if kind != "numbers":
        assert list(source.class_names) == sorted({*map(str.lower, written)})


def test_texts_of_a_split_alone_are_classes_too_and_files_may_store_them_in_several_ways(tmp_path):
    write(tmp_path / "train-0.parquet", 2, about={}, label=pa.array(["bee", "ant"]))
    second = pa.array(["cat", "ant"]).dictionary_encode()
    write(tmp_path / "train-1.parquet", 2, about={}, label=second)
    write(tmp_path / "test.parquet", 2, about={}, label=["asp", "bee"])
    write(tmp_path / "validation.parquet", 2, about={}, label=["", None])  # not published
    with pytest.warns(Notice, match="1 of 4 classes in .* have no image .* first is asp"):
        source = parquet_source(tmp_path, "", OWN)
    assert source.class_names == ("ant", "asp", "bee", "cat")
    assert (source.train.labels.tolist(), source.test.labels.tolist()) == ([2, 0, 3, 0], [1, 2])
    assert source.train.labels.dtype == np.int32


def test_files_of_numbers_alone_are_those_to_train_on(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number:04}.parquet", 4, 10 * number)
    source = parquet_source(tmp_path, "", Splits("train[:9]", "", "train[9:]"))
    assert [data for data, _ in everything(source.train)] == [
        png(n) for n in (0, 1, 2, 3, 10, 11, 12, 13, 20)
    ]
    for number in range(3):
        (tmp_path / f"{number:04}.parquet").rename(tmp_path / f"{number:05}-of-00003.parquet")
    assert len(parquet_source(tmp_path, "", HALVES).test) == 6


def test_an_image_that_is_missing_is_one_that_cannot_be_read(tmp_path):
    file, name = tmp_path / "set.parquet", f"row 2 of the split, in {tmp_path}/set.parquet"
    write(file, 8, about={}, image=[None if n == 2 else png(n) for n in range(8)])
    source = load(f"parquet:{file}", DataRequest(splits=HALVES, on_bad="skip"))
    assert source.train.labels.tolist() == [0, 1, 0]
    assert source.left_out["train"] == {name: "no bytes are not an image; give JPEG or PNG"}
    with pytest.raises(ConfigError, match=f"^{name} cannot be decoded: no .*; data.on_bad=skip le"):
        load(f"parquet:{file}", DataRequest(splits=HALVES))
    streamed = parquet_source(file, "", HALVES).train
    feed = evaluation_feed(streamed, CentreCrop(4, 4), 4, on_bad="skip")
    assert next(feed).valid.tolist() == [True, True, False, True]
    feed.close()


def test_numbers_that_nothing_calls_labels_are_none_unless_they_are_chosen(tmp_path):
    file = tmp_path / "set.parquet"
    write(file, 6, about={}, label=[0.5] * 6, image_id=[0, 1, 0, 1, 0, 1])
    with pytest.raises(ConfigError, match=r"others: label \(double\), image_id \(int64\); read"):
        parquet_source(file, "", HALVES)
    assert parquet_source(file, "image_id", HALVES).train.labels.tolist() == [0, 1, 0]
    write(file, 6, about={}, label=None, labels=[0, 1, 0, 1, 0, 1])
    assert parquet_source(file, "", HALVES).test.labels.tolist() == [1, 0, 1]
    write(file, 6, about={}, labels=[0, 1, 0, 1, 0, 1])  # beside `label`
    assert parquet_source(file, "", HALVES).train.labels.tolist() == [0, 1, 2]
    write(file, 6, about=features(breed=NAMES), breed=[2, 1, 0, 2, 1, 0])  # beside one not marked
    assert parquet_source(file, "", HALVES).train.labels.tolist() == [2, 1, 0]
    write(file, 6, coarse=[0, 0, 1, 1, 0, 1])  # beside a column that is marked
    assert parquet_source(file, "coarse", HALVES).train.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    "features",
    [
        {"tags": [{"dtype": "string", "_type": "Value"}], "label": {"_type": "ClassLabel"}},
        {"gone": {"names": ["x"], "_type": "ClassLabel"}, "picture": {"_type": "Image"}},
        None,
    ],
)
def test_what_is_said_of_columns_that_are_not_there_or_not_known_is_passed_over(features, tmp_path):
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    write(tmp_path / "set.parquet", 6, about=about, tags=[["wild"]] * 6)
    source = parquet_source(tmp_path / "set.parquet", "", HALVES)
    assert (source.class_names, source.test.labels.tolist()) == (("0", "1", "2"), [0, 1, 2])


def test_a_run_that_streams_is_told_of_the_images_that_it_reads_for_one(tmp_path):
    file = tmp_path / "set.parquet"
    request = DataRequest(size=8, splits=Splits("train[:6]", "", "train[6:]"))
    for rows in (4, 9):  # of a group, also if a slice has fewer of them
        write(file, 9, group=rows)
        with pytest.warns(Notice, match=f"image of {file} is to read the {rows} of its row group"):
            load(f"parquet:{file}", request)
    write(file, 9, group=1)
    load(f"parquet:{file}", request)


def test_a_set_of_grey_images_has_one_channel(tmp_path):
    grey = [{"bytes": png(n, 1)} for n in range(6)]
    write(tmp_path / "set.parquet", 6, image=grey)
    source = load(f"parquet:{tmp_path}/set.parquet", DataRequest(splits=HALVES))
    assert source.train.images.shape == (3, 8, 6, 1)
    empty = pq.read_table(tmp_path / "set.parquet").slice(0, 0)
    write(tmp_path / "shards/train-1.parquet", 6, image=grey)
    pq.write_table(empty, tmp_path / "shards/train-0.parquet")
    assert parquet_source(tmp_path / "shards", "", HALVES).train.channels == 1
    write(tmp_path / "set.parquet", 6, image=[*grey[:5], {"bytes": png(0)}])  # in a second group
    assert parquet_source(tmp_path / "set.parquet", "", HALVES).train.channels == 3


def test_the_fingerprint_is_that_of_the_contents(tmp_path):
    file = tmp_path / "set.parquet"
    images = write(file, 12)

    def fingerprint(splits=HALVES, rows=images, **columns):
        write(file, 12, image=[{"bytes": data} for data in rows], **columns)
        return parquet_source(file, "", splits).train.fingerprint

    once = fingerprint()
    assert fingerprint() == once
    assert fingerprint(Splits("train[6:]", "", "train[:6]")) != once  # of the same labels
    assert fingerprint(label=[0, 2, 1] * 4) != once
    other = [*images[4:], *images[:4]]  # in groups of other sizes, which add up to the same
    assert fingerprint(rows=other) != once


def test_a_slice_of_rows_that_are_sorted_by_class_is_noticed(tmp_path):
    write(tmp_path / "set.parquet", 9, label=sorted([0, 1, 2] * 3))
    with pytest.warns(Notice, match="1 of 3 classes in .* have no image to train on, the first is"):
        parquet_source(tmp_path / "set.parquet", "", Splits("train[:6]", "", "train[6:]"))


def message(path, splits=HALVES):
    with pytest.raises(ConfigError) as raised:
        parquet_source(path, "", splits)
    return str(raised.value)


def test_what_cannot_be_read_is_refused_with_a_remedy(shards, tmp_path):
    file = tmp_path / "set.parquet"
    name_one = "name a file, or the directory of a set from Hugging Face, such as data.name="
    name_one += "parquet:data/cifar10"
    for missing in ("none", "none.parquet"):
        assert message(tmp_path / missing) == f"{tmp_path}/{missing} does not exist; {name_one}"
    (tmp_path / "empty").mkdir()
    assert message(tmp_path / "empty") == f"{tmp_path}/empty has no Parquet files; {name_one}"
    assert message(tmp_path / "data/*.parquet") == (
        f"{tmp_path}/data/*.parquet does not exist, and is not taken for a pattern; name the "
        "directory alone, such as data.name=parquet:data/cifar10"
    )
    (tmp_path / "arrow/train").mkdir(parents=True)
    (tmp_path / "arrow/train/data-00000-of-00001.arrow").touch()
    assert message(tmp_path / "arrow") == (
        f"{tmp_path}/arrow has files of Arrow, as save_to_disk writes them, and none of Parquet; "
        "load it by datasets.load_from_disk, and write each split by Dataset.to_parquet"
    )
    write(tmp_path / "other/train.parquet", 3)
    assert message(tmp_path) == (
        f"{tmp_path} has several sets of Parquet files; name one of their directories: "
        f"{tmp_path}/data, {tmp_path}/other"
    )
    write(file, 3, label=[0, 1, 7])
    assert message(file) == (
        f"{file} has label 7, and names of 3 classes; read a set with labels from 0"
    )
    write(file, 6, image=[{"bytes": None, "path": "a.jpg"}] * 6)
    assert message(file) == (
        f"{file} has no bytes of images, perhaps their paths alone; write the set with them, such "
        "as by Dataset.to_parquet"
    )
    write(shards / "data/train-00001-of-00003.parquet", 9, label=None)
    assert message(shards / "data") == (
        f"{shards}/data/train-00001-of-00003.parquet has no column label, unlike other files of "
        "its set; fetch it again"
    )
    write(file, 8)
    source = parquet_source(file, "", HALVES)
    file.write_bytes(file.read_bytes()[:-20])
    for read in (lambda: parquet_source(file, "", HALVES), lambda: source.train.read(0)):
        with pytest.raises(ConfigError, match=f"^{file} cannot be read .*; fetch it again$"):
            read()


def test_the_code_of_the_documents_writes_a_folder_of_the_same_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "photos-parquet/train.parquet", 6)
    write(tmp_path / "photos-parquet/test.parquet", 3, 50)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/data.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if "parquet_source" in block]
    exec(compile(code, "document", "exec"), {})
    here, there = (load(name) for name in ("parquet:photos-parquet", "folder:photos"))
    assert [name.partition(" ")[2] for name in there.class_names] == list(here.class_names)
    for one, other in ((here.train, there.train), (here.test, there.test)):
        order = np.lexsort(one.images.reshape(len(one), -1).T)
        again = np.lexsort(other.images.reshape(len(other), -1).T)
        np.testing.assert_array_equal(one.images[order], other.images[again])
        np.testing.assert_array_equal(one.labels[order], other.labels[again])


@pytest.mark.usefixtures("copies")
def test_files_in_a_bucket_are_the_same_as_those_of_a_directory(shards, bucket, fresh):
    here = load(f"parquet:{shards}", DataRequest())
    there = uploaded(shards, bucket.address(fresh)).address
    assert load(f"parquet:{there}:label", DataRequest()).fingerprint == here.fingerprint
    third = DataRequest(splits=Splits("train[:3]", "", "train[3:]"))
    one = load(f"parquet:{there}/data/test-00000-of-00001.parquet", third)
    np.testing.assert_array_equal(one.test.images, here.test.images[3:])
    with pytest.raises(ConfigError, match=re.escape(f"{there}/none has no Parquet files")):
        load(f"parquet:{there}/none", DataRequest())
