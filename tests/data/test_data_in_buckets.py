"""Prepared sets and folders of images in a bucket: the same sources as in a directory."""

import io

import numpy as np
import pytest
from PIL import Image
from prepared import Tiny, write

from resjax.buckets.store import Store
from resjax.config import ConfigError, Notice
from resjax.config.addresses import Address
from resjax.data.slices import Splits
from resjax.data.sources import DataRequest, load
from resjax.data.tfds import tfds_source
from tests.buckets.fixtures import uploaded

pytestmark = pytest.mark.usefixtures("copies")


def everything(split):
    return [split.read(number) for number in range(len(split))]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("data")
    write(Tiny, data_dir)
    return data_dir


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("ant", "bee")):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for n in range(3):
                pixels, file = np.full((8, 8), 100 * number + n, np.uint8), io.BytesIO()
                Image.fromarray(pixels).save(file, "png")
                (tmp_path / "photos" / split / name / f"{n}.png").write_bytes(file.getvalue())
    return tmp_path / "photos"


def test_a_prepared_set_is_the_same_wherever_it_lies(data_dir, bucket, fresh):
    there = uploaded(data_dir, bucket.address(fresh)).address
    here, copy = (tfds_source("tiny", place, Splits()) for place in (data_dir, there))
    assert copy.fingerprint == here.fingerprint
    assert copy.class_names == here.class_names
    assert everything(copy.train) == everything(here.train)
    bucket.faults.seen.clear()
    assert tfds_source("tiny", there, Splits()).fingerprint == here.fingerprint
    assert len(bucket.faults.seen) == 2  # listings


def test_files_of_splits_that_are_not_read_are_not_fetched(data_dir, one_bucket, fresh, copies):
    there = uploaded(data_dir, one_bucket.address(fresh)).address
    splits = Splits("test[:20]", "", "test[20:]")
    copy = tfds_source("tiny", there, splits)
    assert copy.fingerprint == tfds_source("tiny", data_dir, splits).fingerprint
    assert {path.name.split("-")[1].split(".")[0] for path in copies.rglob("*array_record*")} == {
        "test"
    }


def test_a_set_that_is_not_in_a_bucket_is_to_be_prepared_and_copied(data_dir, one_bucket, fresh):
    there = uploaded(data_dir, one_bucket.address(fresh)).address
    with pytest.raises(ConfigError) as raised:
        tfds_source("mnist", there, Splits())
    assert str(raised.value) == (
        f"mnist is not in {there}; run: resjax prepare mnist --data-dir=DIR, and copy DIR/mnist to "
        f"{there}"
    )


def test_a_truncated_record_in_a_bucket_is_told_of_by_its_address(data_dir, one_bucket, fresh):
    store = uploaded(data_dir, one_bucket.address(fresh))
    name = next(entry.name for entry in store.list() if "test.array_record" in entry.name)
    store.put(name, b"short")
    with pytest.raises(ConfigError, match=f"^{store.address / name} is damaged: 0 of its 10"):
        tfds_source("tiny", store.address, Splits())


def test_a_folder_of_images_is_the_same_wherever_it_lies(photos, bucket, fresh):
    uploaded(photos, bucket.address(fresh))
    request = DataRequest(size=8)
    here, copy = (load(f"folder:{p}", request) for p in (photos, bucket.address(fresh)))
    assert copy.fingerprint == here.fingerprint
    assert everything(copy.train) == everything(here.train)


def test_what_is_not_in_a_bucket_is_not_called_one_without_classes(one_bucket, fresh):
    there = one_bucket.address(fresh)
    with pytest.raises(ConfigError, match=f"^{there} has no files; put images in {there}/CLASS or"):
        load(f"folder:{there}", DataRequest())


def test_a_folder_of_images_that_has_a_bad_one_is_told_of_by_its_address(photos, one_bucket, fresh):
    (photos / "train" / "ant" / "0.png").write_bytes(b"")
    there = uploaded(photos, one_bucket.address(fresh)).address
    with pytest.raises(ConfigError, match=f"the first is {there}/train/ant/0.png"):
        load(f"folder:{there}", DataRequest())
    Store(Address.of(str(there))).delete(["train/ant/0.png"])
    assert len(load(f"folder:{there}", DataRequest()).train) == 5


def test_a_notice_names_the_address_and_not_the_copy(photos, one_bucket, fresh, copies):
    (photos / "train" / "bee" / "0.png").write_bytes(b"no image")
    there = uploaded(photos, one_bucket.address(fresh)).address
    with pytest.warns(Notice) as told:
        load(f"folder:{there}", DataRequest(on_bad="skip"))
    (message,) = (str(each.message) for each in told)
    assert message.startswith(f"1 of 12 files in {there} are left out")
    assert f"of the 3 in {there}/train/bee 2 remain" in message
    assert str(copies) not in message
