"""Runs on images in files: decoded to memory, or streamed."""

import dataclasses
import io
import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from resjax.config import ConfigError
from resjax.data.decode import decode
from resjax.data.resident import refuse_no_room, refused_by_device
from resjax.interop.predicting import predict
from resjax.interop.scoring import evaluate
from resjax.runs import disk
from resjax.runs.loop import train_and_evaluate
from resjax.runs.plans import Plans
from resjax.runs.weights import read_weights
from resjax.training.feeds import make_feed
from resjax.training.parallel import Parallel
from resjax.training.plan import make_plan

COLOURS = {"green": (60, 200, 60), "red": (200, 60, 60)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """JPEGs of two colours and many sizes, 40 to train on and 14 to test."""
    return draw(tmp_path_factory.mktemp("photos"), lambda random: random.integers(20, 60, 2))


@pytest.fixture(scope="module")
def thumbnails(tmp_path_factory):
    """The same in one size."""
    return draw(tmp_path_factory.mktemp("thumbnails"), lambda random: (8, 8))


def draw(root, size):
    random = np.random.default_rng(0)
    for split, examples in (("train", 20), ("test", 7)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(examples):
                pixels = np.array(colour) + random.normal(0, 30, (*size(random), 3))
                image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
                image.save(root / split / name / f"{number}.jpg", quality=95)
    return root


@pytest.fixture
def streamed(tiny, photos):
    tiny.data.name = f"folder:{photos}"
    tiny.data.size, tiny.data.resize, tiny.data.standardise = 8, 9, "imagenet"
    tiny.train.batch_size, tiny.eval.batch_size = 12, 9
    tiny.train.duration, tiny.eval.every = "12 steps", "6 steps"
    return tiny


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("double")
def test_streamed_images_are_learned_and_workers_change_nothing(streamed, tmp_path):
    streamed.model.dtype = "float64"
    alone = train_and_evaluate(streamed, tmp_path / "thread")
    assert alone.train_error < 0.2
    streamed.data.workers = 2
    train_and_evaluate(streamed, tmp_path / "workers")
    streamed.data.workers, streamed.train.steps_per_call = 0, 4
    train_and_evaluate(streamed, tmp_path / "calls")
    files = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("thread", "workers")]
    assert files[0] == files[1]
    losses = [
        [line["test_loss"] for line in lines(tmp_path / name)] for name in ("thread", "calls")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("style", ["jit", "pmap"])
def test_a_net_grows_on_streamed_images_and_computes_what_it_did(streamed, tmp_path, style):
    streamed.train.parallel, streamed.model.depth, streamed.train.grow_from = style, 14, 8
    streamed.model.dtype = "float64"
    train_and_evaluate(streamed, tmp_path)
    at_growth = lines(tmp_path)[0]
    assert at_growth["grown_test_loss"] == pytest.approx(at_growth["test_loss"], rel=1e-9)


@pytest.mark.slow
def test_images_of_one_size_are_resident(tiny, thumbnails, tmp_path):
    tiny.data.name = f"folder:{thumbnails}"
    tiny.train.batch_size, tiny.train.duration = 20, "20 steps"
    plan = make_plan(tiny)
    assert plan.source.train.images.shape == (40, 8, 8, 3)
    first = np.asarray(Image.open(thumbnails / "train" / "red" / "0.jpg"))
    assert any((first == image).all() for image in plan.source.train.images)
    assert train_and_evaluate(tiny, tmp_path).train_error < 0.2


@pytest.mark.slow
def test_an_evaluation_may_be_of_a_part_of_the_training_set(streamed, tmp_path):
    streamed.eval.train_examples = 10
    streamed.train.duration = "6 steps"
    summary = train_and_evaluate(streamed, tmp_path)
    assert summary.train_error * 10 == pytest.approx(round(summary.train_error * 10))


@pytest.mark.slow
def test_the_best_evaluation_on_the_validation_split_is_selected(tiny, tmp_path):
    tiny.data.train, tiny.data.validation = "train[:1200]", "train[1200:]"
    tiny.eval.select, tiny.eval.every = "best", "4 steps"
    summary = train_and_evaluate(tiny, tmp_path)
    evaluations = lines(tmp_path)
    best = min(evaluations, key=lambda line: line["validation_error"])
    assert summary.selection == "best"
    assert summary.best_step == best["step"]
    assert summary.best_test_error == best["test_error"]
    assert summary.validation_error == evaluations[-1]["validation_error"]
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["data"]["train"], manifest["data"]["validation"]) == (1200, 237)


def damage(path):
    """Changes pixels of an image whose header and end stay there."""
    file = io.BytesIO()
    Image.open(path).save(file, "PNG")
    png = bytearray(file.getvalue())
    png[len(png) // 2 - 20 : len(png) // 2 + 20] = bytes(40)
    path.write_bytes(png)


def damage_all_to_test_on(root):
    """Damages the images of `damaged` that are whole."""
    for path in (*root.glob("test/*/[1-9].jpg"), root / "test/green/0.jpg"):
        damage(path)


@pytest.fixture
def damaged(tmp_path_factory, photos, thumbnails):
    """Copies of both with two damaged images to train on and one to test on."""
    copies = {}
    for root in (photos, thumbnails):
        copies[root] = tmp_path_factory.mktemp("damaged") / "images"
        shutil.copytree(root, copies[root])
        for name in ("train/green/7.jpg", "train/red/3.jpg", "test/red/0.jpg"):
            damage(copies[root] / name)
    return copies[photos], copies[thumbnails]


@pytest.mark.slow
@pytest.mark.parametrize("resident", [False, True])
def test_damaged_images_end_the_run_with_their_path_or_are_counted_nowhere_and_listed(
    streamed, damaged, tmp_path, resident
):
    root = damaged[resident]
    streamed.data.name = f"folder:{root}"
    if resident:
        streamed.data.size = 0
    with pytest.raises(ConfigError, match=rf"^{root}/t.*jpg cannot be decoded: .*=skip leaves it"):
        train_and_evaluate(streamed, tmp_path / "refused")
    streamed.data.on_bad = "skip"
    message = "left out, 2 of train and 1 of test; the first is .*jpg .*; all are in .*left_out.jso"
    notes = []
    summary = train_and_evaluate(streamed, tmp_path / "skipped", lambda p: notes.append(p.note))
    told = list(filter(None, notes))
    assert len(told) == 1
    assert re.search(message, told[0])
    for error, whole in ((summary.train_error, 38), (summary.test_error, 13)):
        assert error * whole == pytest.approx(round(error * whole))
    listed = disk.read_json(tmp_path / "skipped" / "left_out.json")
    assert {split: sorted(found) for split, found in listed.items()} == {
        "train": [f"{root}/train/green/7.jpg", f"{root}/train/red/3.jpg"],
        "test": [f"{root}/test/red/0.jpg"],
    }
    manifest = json.loads((tmp_path / "skipped" / "manifest.json").read_text())
    assert manifest["data"]["left_out"] == {"train": 2, "test": 1}


@pytest.mark.slow
@pytest.mark.parametrize("resident", [False, True])
def test_a_split_of_which_nothing_can_be_decoded_ends_the_run_with_a_line(
    streamed, damaged, tmp_path, resident
):
    root = damaged[resident]
    damage_all_to_test_on(root)
    streamed.data.name, streamed.data.on_bad = f"folder:{root}", "skip"
    if resident:
        streamed.data.size = 0
    message = "none of the 14 images of test that are ev|no image of a split can be decoded; the f"
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(streamed, tmp_path / "run")
    assert (tmp_path / "run").exists() != resident


@pytest.mark.slow
def test_scores_of_images_none_of_which_can_be_decoded_are_refused(streamed, damaged, tmp_path):
    streamed.train.duration, streamed.eval.every = "1 steps", "1 steps"
    train_and_evaluate(streamed, tmp_path / "run")
    data = streamed.data.copy_and_resolve_references()
    data.name, data.on_bad = f"folder:{damaged[0]}", "skip"
    weights = read_weights(tmp_path / "run")
    scores = evaluate(weights, data, 9)
    assert (scores.examples, scores.skipped) == (13, 1)
    damage_all_to_test_on(damaged[0])
    with pytest.raises(ConfigError, match=r"none of the 14 images of folder:.* can be decoded; f"):
        evaluate(weights, data, 9)


class Small:
    """A device of some MiB, a quarter of them in use."""

    process_index, platform, device_kind = 0, "gpu", "NVIDIA H100"

    def __init__(self, size):
        self.memory = size and {"bytes_limit": size * 2**20, "bytes_in_use": size * 2**18}

    def memory_stats(self):
        return self.memory

    def __str__(self):
        return "gpu:3"


def test_resident_images_that_a_device_has_no_room_for_are_refused_before_anything(
    tiny, tmp_path, monkeypatch
):
    refuse_no_room(30 * 2**20, [Small(None), Small(40)])
    message = (
        "32.5 MB of images do not fit into the 31.5 MB that are free on gpu:3; set data.size to "
        "stream them, or take fewer, such as data.train='train[:50%]' (data.resident_bytes is the "
        "most allowed)"
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        refuse_no_room(31 * 2**20, [Small(None), Small(400), Small(40)])
    monkeypatch.setattr("resjax.data.resident.free_bytes", lambda device: 100_000)
    with pytest.raises(ConfigError, match="of images do not fit into the 0"):
        train_and_evaluate(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_memory_that_is_full_while_images_are_put_there_is_told_in_one_line(tiny, monkeypatch):
    plan = make_plan(tiny)

    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to\n7 G")

    monkeypatch.setattr("resjax.training.feeds.to_device", full)
    with pytest.raises(ConfigError, match="do not fit into the memory of cpu; set") as error:
        make_feed(plan)
    assert "\n" not in str(error.value)
    size = plan.source.image_bytes / 2**20
    spacious = Small(10 * size), Small(4 * size)
    with pytest.raises(ConfigError, match=r"no room for .* of images, though JAX") as error:
        make_feed(dataclasses.replace(plan, parallel=Parallel(spacious)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("size", "devices", "message"), [
    (30, [Small(400), Small(80)], "NVIDIA H100 has no room for 31.5 MB of images, though JAX may "
     "take 62.9 MB; another process seems to hold its memory: find it with nvidia-smi and end it, "
     "or start each with XLA_PYTHON_CLIENT_MEM_FRACTION=0.45 or so"),
    (31, [Small(400), Small(80)], "32.5 MB of images do not fit into the memory of NVIDIA H100; "),
    (1, [Small(None)], "1.0 MB of images do not fit into the memory of NVIDIA H100; "),
])  # fmt: skip
def test_memory_that_jax_takes_to_be_free_and_does_not_get_is_that_of_another_process(
    size, devices, message
):
    assert str(refused_by_device(size * 2**20, devices)).startswith(message)


@pytest.mark.parametrize(("keys", "message"), [
    ({"data.size": 0}, "images of .* cannot be resident together; set data.size=224 or so"),
    ({"data.feed": "resident"}, "data.feed=resident does not fit .* with data.size=8; streamed"),
    ({"data.feed": "streaming", "data.size": 0}, "streamed images are made of one size, such as"),
    ({"data.standardise": "channel"}, "choose one of: imagenet, half, none"),
    ({"data.pad": 4}, "data.pad=4 is for resident images; streamed ones are cropped"),
    ({"data.on_bad": "hide"}, "unknown data.on_bad 'hide'; choose one of: refuse, skip"),
    ({"data.resize": 7}, "size 8 is not in 1 to resize 7"),
    ({"data.area": (0.5, 0.1)}, r"area=\(0.5, 0.1\) is not two shares above 0"),
    ({"data.name": "digits"}, "data.size=8 has no effect on digits"),
    ({"data.name": "digits", "data.size": 0}, "data.standardise=imagenet is of 3 colours"),
    ({"data.name": "digits", "data.size": 0, "data.resident_bytes": 1000, "data.standardise":
      "none"}, "0.1 MB of images are more than data.resident_bytes=1000"),
    ({"data.name": "digits", "data.size": 0, "data.standardise": "none", "eval.select": "best"},
     "eval.select=best needs a validation split"),
    ({"data.name": "digits", "data.size": 0, "data.standardise": "none", "data.test": "train[:9]"},
     "share 9 examples; cut them apart"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(streamed, tmp_path, keys, message):
    streamed.update_from_flattened_dict(keys)
    with pytest.raises(ConfigError, match=message):
        train_and_evaluate(streamed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("keys", [{}, {"data.name": "digits", "data.size": 0}], ids=str)
def test_the_first_examples_of_a_split_are_those_that_evaluation_begins_with(streamed, split, keys):
    streamed.update_from_flattened_dict(keys | {"data.standardise": "none"})
    feed = make_feed(make_plan(streamed))
    first = feed.first_examples(split, 9)
    batch, _ = next(iter(feed.evaluation_batches(split, 9)))
    feed.close()
    assert len(first.labels) == 9
    np.testing.assert_array_equal(first.labels, batch.labels)
    np.testing.assert_allclose(first.images, batch.images, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("resident", [True, False])
def test_a_network_sees_grey_and_coloured_images_alike(streamed, thumbnails, tmp_path, resident):
    """Trained on coloured ones as grey, it takes their grey copies for the same ones, anywhere."""
    grey = tmp_path / "grey"
    for path in thumbnails.rglob("*.jpg"):
        copy = grey / path.relative_to(thumbnails).with_suffix(".png")
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decode(path.read_bytes(), 1)[..., 0]).save(copy)
    streamed.data.name, streamed.data.channels = f"folder:{thumbnails}", 1
    streamed.data.standardise, streamed.data.resize = "half", 8
    streamed.data.size = 0 if resident else 8
    summary = train_and_evaluate(streamed, tmp_path / "run")
    weights = read_weights(tmp_path / "run")
    assert weights.about.image_shape == (8, 8, 1)
    data = streamed.data.copy_and_resolve_references()
    data.channels = 0
    losses = []
    for root in (thumbnails, grey):
        data.name = f"folder:{root}"
        losses.append(evaluate(weights, data, 9).loss)
    assert losses == pytest.approx([summary.test_loss] * 2, rel=1e-5)
    pairs = [
        [found.classes for found in predict(weights, data, sorted(root.glob("test/*/*")))]
        for root in (thumbnails, grey)
    ]
    assert pairs[0] == pairs[1]
    streamed.data.name, streamed.data.channels = f"folder:{grey}", 3
    streamed.train.init_from = str(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"sees 1 channels, .* have 3; set data.channels=1"):
        Plans().of(streamed)
    streamed.data.channels = 1
    assert Plans().of(streamed).start.name == str(tmp_path / "run")
