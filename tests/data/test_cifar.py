"""CIFAR-10 and CIFAR-100 in the files of their authors."""

import io
import pickle
import re
import shutil
import struct
import tarfile

import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.data.cifar import EDITIONS, choose_cifar, cifar_source
from resjax.data.slices import Splits
from resjax.data.sources import DataRequest, load
from tests.buckets.fixtures import uploaded

ROWS = 6
"""Images of a file; the authors' have 10,000, or 50,000."""

CLASSES = {"CIFAR-10": 10, "CIFAR-100": 100}
NAMES = {name: [f"class_{n}" for n in range(count)] for name, count in CLASSES.items()}
BINARY = [edition for edition in EDITIONS if edition.test.endswith(".bin")]


class Python2(pickle._Pickler):
    """Writes bytes and texts as Python 2 did, in which CIFAR was written: both are its strings."""

    def save_text(self, text):
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch = pickle._Pickler.dispatch | {str: save_text, bytes: save_text}


def by_python2(content):
    file = io.BytesIO()
    Python2(file, 2).dump(content)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def by_python3(content):
    return pickle.dumps(content)


def by_protocol_5(content):
    return pickle.dumps(content, 5)


def examples(name, file):
    """Pixels `[n, 3, 32, 32]`, and labels, of a file; the same in both editions of a set."""
    stem = file.removesuffix(".bin")
    rng = np.random.default_rng(list(f"{name}{stem}".encode()))
    pixels = rng.integers(0, 256, (ROWS, 3, 32, 32), np.uint8)
    return pixels, rng.integers(0, CLASSES[name], ROWS)


def written(directory, edition, pickled=by_python2):
    """Writes the files of an edition, in its own directory."""
    place = directory / edition.directory
    place.mkdir(parents=True)
    coarse = edition.name == "CIFAR-100"
    for file in (*edition.train, edition.test):
        pixels, labels = examples(edition.name, file)
        rows = pixels.reshape(ROWS, -1)
        if edition in BINARY:
            labels = np.stack([labels % 20, labels] if coarse else [labels], -1)
            data = np.concatenate([labels.astype(np.uint8), rows], -1).tobytes()
        else:
            fine = {"coarse_labels": (labels % 20).tolist(), "fine_labels": labels.tolist()}
            data = pickled(
                {"filenames": ["a.png"] * ROWS, "batch_label": file, "data": rows}
                | (fine if coarse else {"labels": labels.tolist()})
            )
        (place / file).write_bytes(data)
    names = NAMES[edition.name]
    if edition in BINARY:
        (place / edition.meta).write_text("\n".join(names) + "\n\n")
    else:
        (place / edition.meta).write_bytes(
            pickled({"fine_label_names" if coarse else "label_names": names})
        )
    return place


def packed(place, edition):
    """The archive of the files of an edition, beside their directory."""
    archive = place.parent / edition.archive
    with tarfile.open(archive, "w:gz") as file:
        file.add(place, edition.directory)
    return archive


@pytest.fixture(params=EDITIONS, ids=lambda edition: edition.directory)
def edition(request):
    return request.param


@pytest.mark.parametrize("pickled", [by_python2, by_python3, by_protocol_5])
def test_images_labels_and_names_are_those_of_the_files_in_order(edition, pickled, tmp_path):
    source = cifar_source(written(tmp_path, edition, pickled))
    for split, files in ((source.train, edition.train), (source.test, [edition.test])):
        pixels, labels = zip(*(examples(edition.name, file) for file in files), strict=True)
        np.testing.assert_array_equal(split.images, np.moveaxis(np.concatenate(pixels), 1, -1))
        np.testing.assert_array_equal(split.labels, np.concatenate(labels))
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int32)
    assert source.class_names == tuple(NAMES[edition.name])


def test_an_archive_is_the_same_as_its_files_whatever_it_is_called(edition, tmp_path):
    place = written(tmp_path / "files", edition)
    archive = packed(place, edition)
    one = cifar_source(place).fingerprint
    assert cifar_source(tmp_path / "files").fingerprint == one
    shutil.rmtree(place)
    assert cifar_source(tmp_path / "files").fingerprint == one
    assert cifar_source(archive).fingerprint == one
    assert cifar_source(archive.rename(tmp_path / "download.tgz")).fingerprint == one


@pytest.mark.slow  # torchvision is imported
@pytest.mark.parametrize("name", CLASSES)
def test_both_editions_of_a_set_are_the_same_and_torchvision_reads_it_so(name, tmp_path):
    from tests.interop.peers import torchvision

    of_set = {e.directory: e for e in EDITIONS if e.name == name}
    fingerprints = {
        cifar_source(written(tmp_path, edition)).fingerprint for edition in of_set.values()
    }
    assert len(fingerprints) == 1

    class Theirs(getattr(torchvision.datasets, name.replace("-", ""))):
        """Reads files of other contents than the authors', too."""

        def _check_integrity(self):
            return True

    Theirs.meta = Theirs.meta | {"md5": None}
    source = cifar_source(tmp_path)
    for split, train in ((source.train, True), (source.test, False)):
        read = Theirs(str(tmp_path), train=train)
        np.testing.assert_array_equal(split.images, read.data)
        np.testing.assert_array_equal(split.labels, read.targets)
    assert list(source.class_names) == read.classes


def test_slices_are_cut_as_of_any_source(tmp_path):
    place = written(tmp_path, EDITIONS[0])
    request = DataRequest(splits=Splits("train[:20]", "train[20:]"))
    source, whole = load(f"cifar:{place}", request), cifar_source(place)
    np.testing.assert_array_equal(source.validation.images, whole.train.images[20:])
    np.testing.assert_array_equal(source.test.labels, whole.test.labels)


def test_a_pickle_that_names_anything_but_arrays_is_refused_and_nothing_is_run(tmp_path):
    class Malice:
        def __reduce__(self):
            return open, (str(tmp_path / "was here"), "w")

    place = written(tmp_path, EDITIONS[0])
    (place / "test_batch").write_bytes(pickle.dumps({"data": Malice(), "labels": []}))
    with pytest.raises(ConfigError, match=r"a pickle that wants to run _?io\.open\); fetch it"):
        cifar_source(place)
    assert not (tmp_path / "was here").exists()


def test_files_that_are_cut_off_are_refused(edition, tmp_path):
    place = written(tmp_path, edition)
    archive = packed(place, edition)
    archive.write_bytes(archive.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=f"^{archive} cannot be read .*; fetch it again$"):
        cifar_source(archive)
    test = place / edition.test
    test.write_bytes(test.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=f"^{place} cannot be read .*; fetch it again$"):
        cifar_source(place)


def test_labels_that_do_not_fit_the_images_are_refused(tmp_path):
    place = written(tmp_path, EDITIONS[0])
    few = {"data": np.zeros((3, 3072), np.uint8), "labels": [0, 1]}
    (place / "test_batch").write_bytes(by_python3(few))
    with pytest.raises(ConfigError, match="cannot be read"):
        cifar_source(place)


def message(path):
    with pytest.raises(ConfigError) as raised:
        cifar_source(path)
    return str(raised.value)


def test_what_is_no_cifar_or_not_all_of_it_is_refused_with_a_remedy(tmp_path):
    assert message(tmp_path / "none") == (
        f"{tmp_path}/none does not exist; name cifar-10-python.tar.gz, or its directory"
    )
    assert message(tmp_path) == (
        f"{tmp_path} has no files of CIFAR; name cifar-10-python.tar.gz, or the directory that is "
        "in it, such as data.name=cifar:data/cifar-10-batches-py"
    )
    ten, _, hundred, _ = EDITIONS
    place = written(tmp_path, ten)
    (place / "data_batch_3").unlink()
    assert message(place) == (
        f"{place} has CIFAR-10 without data_batch_3; fetch cifar-10-python.tar.gz again"
    )
    archive = packed(place, ten)
    assert message(place / "test_batch") == (
        f"{place}/test_batch is no tar archive; name cifar-10-python.tar.gz, or the directory "
        "that is in it"
    )
    archive.unlink()
    written(tmp_path, hundred)
    assert message(tmp_path) == (
        f"{tmp_path} has CIFAR-10 and CIFAR-100; name one: data.name=cifar:{place} or "
        f"data.name=cifar:{tmp_path}/cifar-100-python"
    )


def test_files_of_both_sets_in_a_directory_are_refused(tmp_path):
    ten, _, hundred, _ = EDITIONS
    for file in [*written(tmp_path, ten).iterdir(), *written(tmp_path, hundred).iterdir()]:
        file.rename(tmp_path / file.name)
    assert message(tmp_path) == (
        f"{tmp_path} has the files of CIFAR-10 and CIFAR-100; put each into a directory of its own"
    )


def test_a_set_that_is_not_prepared_may_be_read_from_the_files_of_its_authors(tmp_path):
    with pytest.raises(ConfigError) as raised:
        load("cifar10", DataRequest(directory=str(tmp_path)))
    assert str(raised.value) == (
        f"cifar10 is not in {tmp_path}; run: resjax prepare cifar10 --data-dir={tmp_path}; or read "
        "the files of its authors by data.name=cifar:PATH"
    )


@pytest.mark.usefixtures("copies")
def test_files_in_a_bucket_are_the_same_as_those_of_a_directory(bucket, fresh, tmp_path):
    place = written(tmp_path / "set", EDITIONS[0])
    archive = packed(place, EDITIONS[0])
    here = cifar_source(place).fingerprint
    there = uploaded(tmp_path / "set", bucket.address(fresh)).address
    assert choose_cifar(["other/train", "train", "cifar-100-python/meta"]) == [
        "train", "cifar-100-python/meta",
    ]  # fmt: skip
    for name in (there / archive.name, there / place.name, there):
        assert load(f"cifar:{name}").fingerprint == here
    with pytest.raises(ConfigError, match=re.escape(f"{there}/none has no files of CIFAR")):
        load(f"cifar:{there}/none")
