import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resjax.config import ConfigError, Notice
from resjax.data.cifar import cifar_source
from resjax.data.decode import decode
from resjax.data.folder import folder
from resjax.data.parquet_files import files_by_split
from resjax.data.scan import look_at_image
from resjax.data.slices import Splits

OWN = Splits()
DOCUMENT = Path(__file__).parents[2] / "docs/data.md"


def encoded(number, kind="jpeg", mode="RGB", **options):
    pixels = np.random.default_rng(number).integers(0, 256, (9, 7, len(mode)), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, kind, **options)
    return file.getvalue()


def fill(root, classes, images=4, **options):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(images):
            data = encoded(100 * label + number, **options)
            (root / name / f"{number}.{options.get('kind', 'jpeg')}").write_bytes(data)


@pytest.fixture
def images(tmp_path):
    """Three classes: 4 images each to train, 2 to test, in train/ and val/."""
    fill(tmp_path / "train", ["dog", "ant", "cat"])
    fill(tmp_path / "val", ["ant", "cat", "dog"], images=2, kind="png")
    return tmp_path


def message(path, splits=OWN):
    with pytest.raises(ConfigError) as raised:
        folder(path, splits, "refuse")
    return str(raised.value)


def everything(split):
    return [split.read(number) for number in range(len(split))]


def test_files_are_read_as_they_are_with_the_label_of_their_folder(images):
    (images / "train/ant/._0.jpg").write_text("no image")
    (images / "train/.cache").mkdir()
    (images / "train/cat/0.jpeg").rename(images / "train/cat/0.JPG")
    source = folder(images, OWN, "refuse")
    assert source.class_names == ("ant", "cat", "dog")
    for split, name in ((source.train, "train"), (source.test, "val")):
        written = [
            (file.read_bytes(), source.class_names.index(file.parent.name))
            for file in images.glob(f"{name}/*/*")
            if file.suffix.lower() in (".jpg", ".jpeg", ".png") and file.name[0] != "."
        ]
        assert sorted(everything(split)) == sorted(written)
        assert split.channels == 3
        assert split.labels.dtype == np.int32
    assert (len(source.train), len(source.test), source.validation) == (12, 6, None)


def test_any_slice_of_a_directory_of_classes_has_its_share_of_each(tmp_path):
    fill(tmp_path, ["a", "b"], images=20)
    fill(tmp_path, ["c"], images=10)
    splits = Splits("train[:60%]", "train[60%:80%]", "train[80%:]")
    source = folder(tmp_path, splits, "refuse")
    assert np.bincount(source.train.labels).tolist() == [12, 12, 6]
    assert np.bincount(source.validation.labels).tolist() == [4, 4, 2]
    parts = [source.train, source.validation, source.test]
    files = [file for part in parts for file in everything(part)]
    assert len(set(files)) == 50
    # Not the first by name: what comes first in a folder is often alike.
    ours = {file for file, label in everything(source.train) if label == 0}
    assert ours != {encoded(number) for number in range(12)}


LAYOUTS = [
    ("train", "valid"), ("Training", "Testing"), ("Train", "Test"), ("TRAIN", "Validation"),
    ("training", "val"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "test"), LAYOUTS)
def test_splits_have_their_usual_names_in_any_case(train, test, tmp_path):
    fill(tmp_path / train, ["ant", "cat"])
    fill(tmp_path / test, ["ant", "cat"], images=2)
    source = folder(tmp_path, OWN, "refuse")
    assert source.class_names == ("ant", "cat")
    assert source.train.root == str(tmp_path / train)
    assert source.test.root == str(tmp_path / test)


@pytest.mark.parametrize("name", ["cat ", "Cat", " CAT", "c at"])
def test_a_class_that_differs_in_spaces_or_case_is_named_in_quotes(name, images):
    (images / "val/cat").rename(images / "val" / name)
    assert message(images) == (
        f"'{images}/val/{name}' is of a class that is not trained on; its name differs from 'cat' "
        "in spaces or case alone: rename one of them"
    )


@pytest.mark.parametrize("name", ["dev", "eval", "Hold out"])
def test_a_split_that_is_called_otherwise_is_told_of(name, images):
    (images / "val").rename(images / name)
    told = rf"no folders of classes to test on \({name} is not the name of a split; rename it to t"
    with pytest.warns(Notice, match=told):
        source = folder(images, OWN, "refuse")
    assert source.test.root == f"{images}/train"
    (images / name).rename(images / "test")
    assert folder(images, OWN, "refuse").test.root == f"{images}/test"


def test_the_root_of_the_file_system_is_refused_before_it_is_read():
    with pytest.raises(ConfigError, match=r"^/ is all of this machine; name a directory with a f"):
        folder(Path("/"), OWN, "refuse")


def test_what_is_refused_is_not_warned_of_before(tmp_path, recwarn):
    fill(tmp_path, ["ant", "cat"])
    (tmp_path / "cat/0.jpeg").write_text("no image")
    with pytest.raises(ConfigError):  # it has no images to test on, either
        folder(tmp_path, OWN, "refuse")
    assert not recwarn.list


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "TGZ"])
def test_an_archive_is_to_be_unpacked(suffix, tmp_path):
    (tmp_path / f"x.{suffix}").touch()
    unpack = f"{tmp_path}/x.{suffix} is an archive; unpack it, and name the directory that is in it"
    assert message(tmp_path / f"x.{suffix}") == unpack
    for read in (cifar_source, files_by_split):
        with pytest.raises(ConfigError) as raised:
            read(tmp_path / f"x.{suffix}")
        assert str(raised.value) == unpack


def test_one_split_in_two_folders_is_refused(tmp_path):
    for name in ("Train", "training"):
        fill(tmp_path / name, ["ant", "cat"])
    with pytest.raises(ConfigError, match="has Train and training; rename one of them to train"):
        folder(tmp_path, OWN, "refuse")


@pytest.mark.parametrize("root", ["train", "."])
def test_without_a_split_to_test_on_a_fifth_of_each_class_is(root, tmp_path):
    fill(tmp_path / root, ["ant", "cat"], images=20)
    if root == "train":
        (tmp_path / "val/images").mkdir(parents=True)  # as in Tiny ImageNet, without labels
        (tmp_path / "val/images/0.jpeg").write_bytes(encoded(7))
    where = r" \(val without any\)" if root == "train" else ""
    with pytest.warns(UserWarning, match=rf"no folders of classes to test on{where}: a fifth of"):
        source = folder(tmp_path, OWN, "refuse")
    assert np.bincount(source.train.labels).tolist() == [16, 16]
    assert np.bincount(source.test.labels).tolist() == [4, 4]
    both = everything(source.train) + everything(source.test)
    assert len({file for file, _ in both}) == 40
    # What the line says may be written out, and evaluation takes the same part.
    same = folder(tmp_path, Splits("train[:80%]", test="train[80%:]"), "refuse")
    assert same.fingerprint == source.fingerprint
    seen = folder(tmp_path, Splits(test_only=True, trained=True), "refuse")
    assert seen.test.fingerprint == source.test.fingerprint
    assert len(folder(tmp_path, Splits(test_only=True), "refuse").test) == 40


def test_folders_one_level_too_high_are_refused_with_the_remedy(tmp_path):
    fill(tmp_path / "set/one", ["ant", "cat"])
    with pytest.raises(ConfigError, match=f"has folders; name that: folder:{tmp_path}/set"):
        folder(tmp_path, OWN, "refuse")
    fill(tmp_path / "set/two", ["ant", "cat"])
    with pytest.raises(
        ConfigError, match=r"folders ant, cat; .* rename one and two to train and t"
    ):
        folder(tmp_path / "set", OWN, "refuse")


def test_a_folder_named_train_with_images_in_it_is_a_class(tmp_path):
    fill(tmp_path, ["train", "car"])
    source = folder(tmp_path, Splits("train[:50%]", test="train[50%:]"), "refuse")
    assert source.class_names == ("car", "train")


SPLITS_FOR_CLASSES = [
    ("train", "test"), ("train", "test1"), ("train_images", "test_images"),
    ("train2017", "val2017"), ("test2017", "val2017"), ("Train-Set", "Testing Images"), ("train",),
]  # fmt: skip


@pytest.mark.parametrize("names", SPLITS_FOR_CLASSES, ids=" and ".join)
def test_splits_of_images_without_classes_are_not_taken_for_classes(names, tmp_path):
    fill(tmp_path, names)
    refused = (
        f"{tmp_path} has {' and '.join(sorted(names))}: these look like splits, not classes; "
        f"images belong in {tmp_path}/train/CLASS"
    )
    assert message(tmp_path) == refused
    (tmp_path / "labels.csv").write_text("id,breed\n0,ant\n")
    assert message(tmp_path) == (
        f"{refused}; labels in a CSV (labels.csv) are not read: sort the images as docs/data.md "
        "shows"
    )
    fill(tmp_path, ["bus"])
    with pytest.warns(Notice, match="no folders of classes to test on"):
        source = folder(tmp_path, OWN, "refuse")
    assert source.class_names == tuple(sorted([*names, "bus"]))


@pytest.mark.parametrize(
    "names", [("test_negative", "test_positive"), ("train_cat", "train_dog")], ids=" and ".join
)
def test_classes_whose_names_have_the_word_of_one_split_are_classes(names, tmp_path):
    fill(tmp_path, names)
    with pytest.warns(Notice, match="no folders of classes to test on"):
        assert folder(tmp_path, OWN, "refuse").class_names == names


@pytest.mark.parametrize(
    ("names", "above"),
    [
        (("seg_train/seg_train", "seg_test/seg_test"), "seg_test and seg_train: these look like"),
        (("train/train", "test/test"), "the folders of the classes one level too deep; move the f"),
        (("train/images", "test/images"), "the folders of the classes one level too deep; move t"),
        (("train_set", "test_set"), "test_set and train_set: these look like splits"),
    ],
)
def test_splits_that_are_nested_or_named_otherwise_are_refused_with_what_to_move(
    names, above, tmp_path
):
    for name in names:
        fill(tmp_path / name, ["ant", "cat"])
    train, test = names
    refused = message(tmp_path)
    assert refused.startswith(f"{tmp_path} has {above}")
    assert refused.endswith(
        f"move the folders in {tmp_path}/{test} to {tmp_path}/test and those in "
        f"{tmp_path}/{train} to {tmp_path}/train"
    )
    for name, split in ((train, "train"), (test, "test")):  # as it says
        (tmp_path / split).mkdir(exist_ok=True)
        for inside in list((tmp_path / name).iterdir()):
            inside.rename(tmp_path / split / inside.name)
        for left in (tmp_path / name, *(tmp_path / name).parents):
            if left.exists() and not [*left.iterdir()]:
                left.rmdir()
    assert folder(tmp_path, OWN, "refuse").class_names == ("ant", "cat")


def test_classes_with_splits_in_them_are_refused_with_what_to_move(tmp_path):
    for name in ("ant", "cat"):
        fill(tmp_path / name, ["train", "test"])
    assert message(tmp_path) == (
        f"all folders of {tmp_path} have splits in them; put the classes into the splits: move "
        f"{tmp_path}/ant/test to {tmp_path}/test/ant, and so on"
    )


def test_the_code_of_the_documents_sorts_images_by_a_table_of_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, ["train"])
    (tmp_path / "labels.csv").write_text("id,breed\n0,Chow Chow\n1,pug\n2,pug\n3,Chow Chow\n")
    [code] = re.findall(r"```python\n(import csv.*?)```", DOCUMENT.read_text(), re.DOTALL)
    exec(compile(code.replace(".jpg", ".jpeg"), "document", "exec"), {})
    with pytest.warns(Notice, match="a fifth of each class of"):
        source = folder(Path("photos"), OWN, "refuse")
    assert source.class_names == ("Chow Chow", "pug")
    read = everything(source.train) + everything(source.test)
    assert sorted(read) == sorted((encoded(n), label) for n, label in enumerate([0, 1, 1, 0]))


def test_a_test_directory_without_classes_is_not_tested_on(images):
    (images / "test").mkdir()
    (images / "test/0.jpg").write_bytes(encoded(0))
    assert len(folder(images, OWN, "refuse").test) == 6


def test_order_and_fingerprint_are_those_of_the_names_and_sizes(images, tmp_path_factory):
    copy = tmp_path_factory.mktemp("copy")
    for name in ("val", "train"):
        for directory in sorted((images / name).iterdir(), reverse=True):
            shutil.copytree(directory, copy / name / directory.name)
    one, other = folder(images, OWN, "refuse"), folder(copy, OWN, "refuse")
    assert one.fingerprint == other.fingerprint
    assert everything(one.train) == everything(other.train)
    (copy / "train/cat/0.jpeg").rename(copy / "train/cat/9.jpeg")
    assert folder(copy, OWN, "refuse").fingerprint != one.fingerprint
    sliced = folder(images, Splits("train[:90%]"), "refuse")
    assert sliced.train.fingerprint != one.train.fingerprint
    assert sliced.test.fingerprint == one.test.fingerprint
    with open(images / "train/ant/0.jpeg", "ab") as file:
        file.write(b"\0")
    assert folder(images, OWN, "refuse").train.fingerprint != one.train.fingerprint


def test_order_is_the_one_of_every_release(images):
    split = folder(images, OWN, "refuse").train
    assert [split.folders[label] for label in split.labels] == ["ant", "cat", "dog"] * 4
    # printf ant/0.jpeg | sha256sum, and so on, sorted
    by_class = [[f"{number}.jpeg".encode() for number in row] for row in ("1230", "1203", "2013")]
    assert split.names.tolist() == np.array(by_class).T.ravel().tolist()


def test_another_process_reads_the_same_without_jax_and_from_another_directory(images, monkeypatch):
    monkeypatch.chdir(images.parent)
    split = folder(type(images)(images.name), OWN, "refuse").train
    code = (
        "import pickle, sys; split = pickle.load(sys.stdin.buffer);"
        "sys.stdout.buffer.write(pickle.dumps([split.read(n) for n in range(len(split))]));"
        "assert not {'jax', 'PIL'} & set(sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(split), capture_output=True, cwd="/"
    )
    assert out.returncode == 0, out.stderr.decode()
    assert pickle.loads(out.stdout) == everything(split)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images_have_one_channel_if_all_are_grey(tmp_path, mode, channels):
    fill(tmp_path / "train", ["a", "b"], kind="png", mode="L")
    fill(tmp_path / "test", ["a", "b"], kind="png", mode=mode)
    source = folder(tmp_path, OWN, "refuse")
    assert (source.train.channels, source.test.channels) == (channels, channels)


def thumbnail():
    exif = Image.Exif()
    exif[0x9286] = encoded(1)  # a whole image in the header of another
    return encoded(2, exif=exif)


@pytest.mark.parametrize("data", [encoded(0), encoded(0, "png"), thumbnail(), encoded(0, "webp")])
def test_a_file_that_is_cut_anywhere_is_seen(data, tmp_path):
    path = tmp_path / "image"
    for length in range(len(data) - 1):
        path.write_bytes(data[:length])
        assert isinstance(look_at_image(path), str), length
    for whole in (data, data + b"written by a camera", data + bytes(5000), data + VIDEO):
        path.write_bytes(whole)
        assert look_at_image(path) == (len(whole), False)


VIDEO = np.random.default_rng(0).bytes(20_000)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "tiff", "gif", "ppm", "mpo"])
def test_what_is_whole_to_the_scan_is_whole_to_what_decodes_it(kind, tmp_path):
    data, path = encoded(0, kind), tmp_path / "image"
    for length in (*range(0, len(data), 7), len(data) - 1, len(data)):
        for behind in (b"", VIDEO):
            path.write_bytes(data[:length] + behind)
            try:
                decode(data[:length] + behind, 3)
            except ValueError:
                assert isinstance(look_at_image(path), str), (length, behind)
            else:
                assert look_at_image(path) == (length + len(behind), False), (length, behind)


SUFFIXES = {
    "webp": "webp", "bmp": "bmp", "tif": "tiff", "tiff": "tiff", "jfif": "jpeg", "jpe": "jpeg",
    "gif": "gif", "ppm": "ppm", "JP2": "jpeg2000", "avif": "avif",
}  # fmt: skip


def test_a_file_with_any_suffix_of_an_image_is_one(images):
    for suffix, kind in SUFFIXES.items():
        (images / f"train/cat/x.{suffix}").write_bytes(encoded(1, kind))
    assert len(folder(images, OWN, "refuse").train) == 12 + len(SUFFIXES)


def test_images_in_folders_of_a_class_folder_are_of_the_class(images):
    (images / "train/cat/images/more").mkdir(parents=True)
    (images / "train/cat/images/more/deep.png").write_bytes(encoded(1, "png"))
    for number in range(4):
        (images / f"train/cat/{number}.jpeg").rename(images / f"train/cat/images/{number}.jpeg")
    split = folder(images, OWN, "refuse").train
    cats = {split.name(n) for n in range(len(split)) if split.labels[n] == 1}
    assert cats == {str(file) for file in (images / "train/cat").rglob("*.*")}


@pytest.mark.filterwarnings("ignore:1 of")
def test_a_link_to_a_folder_above_is_followed_once(images):
    (images / "train/cat/loop").symlink_to(images / "train/cat")
    assert len(folder(images, OWN, "refuse").train) == 12


def test_what_operating_systems_leave_behind_is_no_class_and_no_image(images):
    (images / "train/__MACOSX").mkdir()
    for name in ("__MACOSX/._cat", ".DS_Store", "cat/Thumbs.db", "cat/._0.jpg", "cat/desktop.ini"):
        (images / "train" / name).write_bytes(b"x")
    assert len(folder(images, OWN, "refuse").train) == 12


def test_what_is_not_taken_is_counted_by_reason_in_one_line(images):
    for number in range(3):
        (images / f"train/cat/{number}.heic").write_bytes(b"x")
    (images / "train/dog/notes.txt").write_text("x")
    (images / "train/dog/.1.jpg").write_bytes(encoded(1))
    (images / "train/ant.jpg").write_bytes(encoded(1))
    (images / "train/elk").symlink_to("/nonexistent/elk")
    with pytest.warns(UserWarning, match="^7 of 25 files") as told:
        assert len(folder(images, OWN, "refuse").train) == 12
    (line,) = {str(warning.message) for warning in told}
    for part in (
        "(3 with suffix .heic, 1 hidden, 1 with suffix .txt, 1 in no class folder, "
        "1 a link that leads nowhere)",
        f"of the 7 in {images}/train/cat 4 remain",
    ):
        assert part in line
    assert "\n" not in line


def test_links_that_lead_nowhere_are_images_that_cannot_be_read(images):
    for number in range(2):
        (images / f"train/cat/annexed{number}.jpg").symlink_to("/nonexistent/objects/abc")
    message = r"2 of 20 images in .* \(2 a link that leads nowhere\); the first is .*annexed0.jpg "
    with pytest.raises(ConfigError, match=message + r"\(a link .* \(to /nonexistent/objects/abc"):
        folder(images, OWN, "refuse")
    with pytest.warns(UserWarning, match="of the 6 in .*/cat 4 remain"):
        assert len(folder(images, OWN, "skip").train) == 12


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert look_at_image(tmp_path / "pipe.jpg") == "not a file"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_with_too_many_pixels_is_found_by_the_scan(images):
    for number, side in enumerate((8_200, 10_000, 14_000)):  # Pillow warns of one, refuses another
        Image.new("1", (side, side)).save(images / f"train/cat/large{number}.png")
    with pytest.raises(ConfigError, match=r"3 of 21 .* read \(3 more than 67108864 pixels\); "):
        folder(images, OWN, "refuse")
    with pytest.warns(UserWarning, match="3 more than 67108864 pixels"):
        assert len(folder(images, OWN, "skip").train) == 12


BAD = {
    "train/cat/2.jpeg": (b"", "empty"),
    "train/cat/3.jpeg": (b"<html>not found</html>", "not an image"),
    "val/dog/1.png": (encoded(0, "png")[:-20], "truncated"),
}


def test_classes_that_cannot_be_learnt_are_told(tmp_path):
    fill(tmp_path / "few", ["ant", "bee", "cat", "dog", "eel"], images=1)
    told = r"1 of 5 classes in .*few have no image to train on, the first is (\w+);"
    with pytest.warns(UserWarning, match=told) as warned:
        source = folder(
            tmp_path / "few", OWN._replace(train="train[:80%]", test="train[80%:]"), "skip"
        )
    [unseen] = source.test.labels
    assert re.search(told, str(warned[0].message))[1] == source.class_names[unseen]
    assert unseen not in source.train.labels
    fill(tmp_path / "one/train", ["ant"])
    fill(tmp_path / "one/test", ["ant"])
    with pytest.warns(UserWarning, match="has one class, ant"):
        folder(tmp_path / "one", OWN, "refuse")
    folder(tmp_path / "one", Splits(test_only=True), "refuse")  # to evaluate on


def test_a_class_is_one_however_unicode_spells_its_letters(tmp_path):
    names = ["caf\u00e9", "m\u00fcsli", "zebra"]
    apart = [unicodedata.normalize("NFD", name) for name in names]
    assert apart[0] != names[0]
    fill(tmp_path / "train", names)
    fill(tmp_path / "test", apart, images=2)
    source = folder(tmp_path, OWN, "refuse")
    assert source.class_names == tuple(names)
    for number in range(len(source.test)):
        data, label = source.test.read(number)
        assert Path(source.test.name(number)).read_bytes() == data
        assert Path(source.test.name(number)).parent.name == apart[label]
    assert sorted(source.test.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    fill(tmp_path / "test", names[:1])
    with pytest.raises(ConfigError, match=r"two folders caf\u00e9.*u0301.*xe9.*put them together"):
        folder(tmp_path, OWN, "refuse")


def test_bad_files_are_refused_with_their_number_and_the_first(images):
    for name, (data, _) in BAD.items():
        (images / name).write_bytes(data)
    message = (
        r"3 of 18 images in .* cannot be read \(1 empty, 1 not an image, 1 truncated\); "
        r"the first is .*/train/cat/2.jpeg \(empty\); "
    )
    with pytest.raises(ConfigError, match=message + r"repair or remove .* data.on_bad=skip$"):
        folder(images, OWN, "refuse")


def test_bad_files_are_skipped_with_one_warning(images):
    whole = folder(images, OWN, "refuse")
    for name, (data, _) in BAD.items():
        (images / name).write_bytes(data)
    message = r"^3 of 18 files in .* are left out \(1 e.* \(empty\); of the 4 in .*/cat 2 remain$"
    with pytest.warns(UserWarning, match=message) as told:
        source = folder(images, OWN, "skip")
    assert len(told) == 1
    assert (len(source.train), len(source.test)) == (10, 5)
    assert source.left_out == {
        "train": {
            f"{images}/train/cat/2.jpeg": "empty",
            f"{images}/train/cat/3.jpeg": "not an image",
        },
        "test": {f"{images}/val/dog/1.png": "truncated"},
    }
    assert source.fingerprint != whole.fingerprint


@pytest.mark.filterwarnings("ignore:3 of")
def test_bad_files_of_a_split_that_is_cut_are_listed_once(images):
    for name, (data, _) in BAD.items():
        (images / name).write_bytes(data)
    source = folder(images, Splits("train[:50%]", "train[50%:]"), "skip")
    assert {name: len(bad) for name, bad in source.left_out.items()} == {
        "train": 2, "validation": 0, "test": 1,
    }  # fmt: skip


def test_an_example_is_named_by_its_path(images):
    split = folder(images, OWN, "refuse").train
    for number in range(len(split)):
        with open(split.name(number), "rb") as file:
            assert split.read(number)[0] == file.read()


@pytest.mark.parametrize(("data", "reason"), BAD.values())
def test_what_is_wrong_with_a_file_is_said(data, reason, tmp_path):
    (tmp_path / "x.jpg").write_bytes(data)
    assert look_at_image(tmp_path / "x.jpg") == reason


def test_an_image_of_floats_is_not_called_truncated(images):
    Image.fromarray(np.zeros((5, 4), np.float32)).save(images / "train/ant/depth.tif")
    fault = "with 32 bits a channel (save it with 8 or 16)"
    assert look_at_image(images / "train/ant/depth.tif") == fault
    assert f"(1 with 32 bits a channel); the first is {images}/train/ant/depth.tif" in message(
        images
    )


def test_splits_that_are_not_read_are_not_looked_at(images):
    fill(images / "test", ["ant"])
    (images / "val/dog/1.png").write_bytes(b"")
    assert len(folder(images, OWN, "refuse").test) == 4


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (
            lambda p: shutil.rmtree(p),
            "is not a directory; name one with a folder of images for each",
        ),
        (lambda p: [shutil.rmtree(d) for d in p.iterdir()], "has no files; put images in .*/CLASS"),
        (
            lambda p: [shutil.rmtree(d) for d in p.iterdir()] and (p / "a.jpg").touch(),
            "has no class folders; put images in .*/CLASS",
        ),
        (
            lambda p: (p / "train/elk").mkdir(),
            r"train/elk has no image that can be read; fill or remove it",
        ),
        (lambda p: (p / "val/elk").mkdir(), "val/elk is of a class that is not trained on; known"),
        (lambda p: (p / "val/cats").mkdir(), "val/cats is of a class .* nearest: cat"),
    ],
)
def test_directories_that_cannot_be_read_are_refused_with_the_remedy(images, break_it, message):
    break_it(images)
    with pytest.raises(ConfigError, match=message) as error:
        folder(images, OWN, "refuse")
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:4 of")
def test_a_class_of_bad_files_only_is_refused(images):
    for file in (images / "train/cat").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"train/cat has no image that can be read \(4 empty\);"):
        folder(images, OWN, "skip")


def test_what_to_do_about_bad_files_is_one_of_two(images):
    with pytest.raises(ConfigError, match=r"unknown data.on_bad 'no'; choose one of: refuse, skip"):
        folder(images, OWN, "no")


def test_part_of_a_split_is_trained_on_only_with_one_to_test_on(images):
    shutil.rmtree(images / "val")
    with pytest.raises(ConfigError, match=r"no split to test on, only train; write data.train="):
        folder(images, Splits("train[:50%]"), "refuse")
