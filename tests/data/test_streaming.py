import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import resjax.data.streaming as streaming
from resjax.data.orders import TrainingOrder, rows_of_host
from resjax.data.random_crop import RandomCrop
from resjax.data.streaming import ReadError, evaluation_feed, training_feed
from resjax.data.transforms import CentreCrop, ImageKey, uniforms
from tests.data.pictures import encoded, picture
from tests.data.test_orders import HOSTS, devices_of


@dataclasses.dataclass
class Files:
    """Encoded images in memory; the label of an image is its number."""

    data: list[bytes]
    channels: int = 3
    fingerprint: str = "of a test"

    def __len__(self):
        return len(self.data)

    def read(self, number):
        return self.data[number], number

    def name(self, number):
        return f"example {number}"


@dataclasses.dataclass(frozen=True)
class Recorder:
    """A view that shows the random numbers it would draw, and decodes nothing."""

    size: int = 2

    def __call__(self, data, channels, key, out):
        if data == b"bad":
            raise ValueError("a bad image; fetch it again")
        out[:] = shown(key)


def shown(key):
    return (uniforms(key, 12) * 256).astype(np.uint8).reshape(2, 2, 3)


def blank(examples, bad=()):
    return Files([b"bad" if number in bad else b"" for number in range(examples)])


PICTURES = Files([encoded(picture(number, 30, 40)) for number in range(11)])


def take(feed, steps):
    batches = [next(feed) for _ in range(steps)]
    feed.close()
    return batches


def joined(batches):
    """Images, labels and marks of valid ones; the images are not mixed."""
    fields = list(zip(*batches, strict=True))
    assert set(fields.pop()) == {None}
    return [np.concatenate(field) for field in fields]


def assert_equal(batches, others):
    for ours, theirs in zip(joined(batches), joined(others), strict=True):
        np.testing.assert_array_equal(ours, theirs)


sizes = st.integers(1, 12)
few = settings(max_examples=25, deadline=None)


@few
@given(seed=st.integers(0, 2**32 - 1), examples=sizes, batch=sizes)
def test_a_batch_has_the_examples_of_the_order_with_their_keys(seed, examples, batch):
    order = TrainingOrder(seed, batch, examples)
    feed = training_feed(blank(examples), Recorder(), seed, batch)
    for step, found in enumerate(take(feed, 4)):
        epochs, expected, _ = order.places(step, np.arange(batch))
        np.testing.assert_array_equal(found.labels, expected)
        assert found.images.dtype == np.uint8
        assert found.labels.dtype == np.int32
        assert found.valid.all()
        for image, epoch, example in zip(found.images, epochs, expected, strict=True):
            np.testing.assert_array_equal(image, shown(ImageKey(seed, int(epoch), int(example))))


@few
@given(
    examples=sizes, each=st.integers(1, 3), hosts=st.sampled_from(HOSTS),
    micro_batches=st.integers(1, 2), turns=st.booleans(),
)  # fmt: skip
def test_the_hosts_together_read_the_examples_with_the_keys_that_one_would(
    examples, each, hosts, micro_batches, turns
):
    devices, batch = devices_of(hosts, 2, turns), 2 * hosts * each * micro_batches
    whole = take(training_feed(blank(examples), Recorder(), 0, batch), 3)
    parts = [rows_of_host(devices, host, batch, micro_batches) for host in range(hosts)]
    theirs = [
        take(training_feed(blank(examples), Recorder(), 0, batch, rows=rows), 3) for rows in parts
    ]
    for step, together in enumerate(whole):
        for field, of_all in enumerate(together[:3]):  # which are not mixed
            placed = np.empty_like(of_all)
            for rows, own in zip(parts, theirs, strict=True):
                placed[rows] = own[step][field]
            np.testing.assert_array_equal(placed, of_all)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(batch))


@few
@given(examples=sizes, batch=sizes, step=st.integers(0, 30))
def test_a_feed_goes_on_from_any_step(examples, batch, step):
    whole = training_feed(blank(examples, bad=[0]), Recorder(), 3, batch, on_bad="skip")
    if examples == 1:
        return
    for _ in range(step):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    resumed = training_feed(blank(examples, bad=[0]), Recorder(), 3, batch, on_bad="skip")
    resumed.set_state(state)
    assert_equal(take(whole, 3), take(resumed, 3))
    assert whole.get_state() == resumed.get_state()


def test_a_late_step_costs_no_more_than_the_first():
    start = time.perf_counter()
    take(training_feed(blank(1000), Recorder(), 0, 64, step=10**7), 1)
    assert time.perf_counter() - start < 5


@few
@given(examples=st.integers(1, 40), batch=sizes)
def test_every_pass_has_every_example_once(examples, batch):
    feed = evaluation_feed(blank(examples), Recorder(), batch)
    for _ in range(2):
        found = list(feed)
        assert len(found) == feed.steps == -(-examples // batch)
        assert {len(batch_.labels) for batch_ in found} == {batch}
        _, labels, valid = joined(found)
        np.testing.assert_array_equal(labels[valid], np.arange(examples))
    feed.close()


def test_a_pass_that_was_left_begins_again():
    feed = evaluation_feed(blank(10), Recorder(), 4)
    next(iter(feed))
    assert_equal(list(feed), list(evaluation_feed(blank(10), Recorder(), 4)))
    feed.set_state({"step": 2, "skipped": 0})
    assert next(feed).valid.tolist() == [True, True, False, False]
    with pytest.raises(StopIteration):
        next(feed)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers, monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_ROWS", 3)
    crop, centre = RandomCrop(size=16, contrast=0.4), CentreCrop(16, 20)
    own = take(training_feed(PICTURES, crop, 5, 7, step=2), 4)
    theirs = training_feed(PICTURES, crop, 5, 7, step=2, workers=workers)
    assert_equal(own, take(theirs, 4))
    theirs.set_state({"step": 2, "skipped": 0})
    assert_equal(own, take(theirs, 4))
    passes = evaluation_feed(PICTURES, centre, 4, workers=workers)
    for _ in range(2):
        assert_equal(list(evaluation_feed(PICTURES, centre, 4)), list(passes))
    passes.close()


@pytest.mark.slow
def test_memory_shared_with_workers_is_used_again(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_ROWS", 1)
    monkeypatch.setattr(streaming, "chunks_that_fit", lambda shape, least: least)
    feed = training_feed(blank(50), Recorder(), 1, 5, workers=2)
    batches, memory = [], set()
    for _ in range(200):
        batches.append(next(feed))
        memory |= shared_memory_of_workers()
    feed.close()
    assert_equal(take(training_feed(blank(50), Recorder(), 1, 5), 200), batches)
    assert len(memory) == 1


def shared_memory_of_workers():
    """Names of the Python shared memory that the processes which this one started have mapped."""
    maps = (Path(f"/proc/{child.pid}/maps") for child in multiprocessing.active_children())
    return {name for text in maps for name in re.findall(r"/dev/shm/psm_\w+", text.read_text())}


def test_a_chunk_is_not_written_over_before_it_was_copied():
    ring, out = streaming.Ring(3, (2, 2, 2, 1)), np.zeros((1, 2, 2, 1), np.uint8)
    ring.begin(4)[:] = 7
    worker = threading.Thread(target=lambda: ring.begin(7).fill(9))
    worker.start()
    time.sleep(0.05)
    ring.copy(4, out)
    assert (out == 7).all()
    worker.join()
    ring.copy(7, out)
    assert (out == 9).all()
    ring.close()


def test_an_epoch_of_pictures_is_made_of_their_views():
    crop = RandomCrop(size=16)
    images, labels, _ = joined(take(training_feed(PICTURES, crop, 5, 11), 1))
    for image, label in zip(images, labels.tolist(), strict=True):
        out = np.zeros_like(image)
        crop(PICTURES.data[label], 3, ImageKey(5, 0, label), out)
        np.testing.assert_array_equal(image, out)


# ----------------------------------------------------------------------------------------- failures


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_ends_the_feed_with_its_number(workers):
    feed = training_feed(blank(6, bad=[4]), Recorder(), 0, 6, workers=workers)
    with pytest.raises(ReadError) as caught:
        next(feed)
    assert str(caught.value) == (
        "example 4 cannot be decoded: a bad image; fetch it again; data.on_bad=skip leaves it out"
    )


def test_a_bad_image_is_replaced_by_the_next_good_one():
    bad, good = blank(6, bad=[4, 5]), blank(6)
    left_out = {}
    feed = training_feed(bad, Recorder(), 0, 6, on_bad="skip", left_out=left_out)
    found, whole = next(feed), take(training_feed(good, Recorder(), 0, 6), 1)[0]
    expected = [0 if label in (4, 5) else label for label in whole.labels.tolist()]
    assert found.labels.tolist() == expected
    np.testing.assert_array_equal(found.images, whole.images)  # random numbers stay in place
    assert feed.get_state() == {"step": 1, "skipped": 3}
    next(feed)
    assert feed.skipped == 6
    assert left_out == dict.fromkeys(("example 4", "example 5"), "a bad image; fetch it again")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_counted_in_no_evaluation(workers):
    bad = blank(6, bad=[1, 5])
    feed = evaluation_feed(bad, Recorder(), 4, on_bad="skip", workers=workers)
    for _ in range(2):
        images, labels, valid = joined(list(feed))
        assert labels[valid].tolist() == [0, 2, 3, 4]
        assert not images[[1, 5]].any()
        assert feed.skipped == 2
        assert feed.left_out.keys() == {"example 1", "example 5"}
    feed.close()
    with pytest.raises(ReadError, match="example 4 cannot be decoded"):
        list(evaluation_feed(blank(6, bad=[4]), Recorder(), 4))


@pytest.mark.parametrize(("examples", "others"), [(1, 0), (3, 2), (200, 99)])
def test_nothing_but_bad_images_ends_the_feed(examples, others):
    files = blank(examples, bad=range(examples))
    with pytest.raises(ReadError, match=f"and the {others} after it cannot be decoded: a bad"):
        next(training_feed(files, Recorder(), 0, 1, on_bad="skip"))


@dataclasses.dataclass
class Failing(Files):
    """Fails at the example 3, in one of the ways in which sources and workers do."""

    how: str = "raise"

    def read(self, number):
        if number == 3 and self.how == "raise":
            raise OSError("Input/output\nerror")
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.data[number], number


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_fails_ends_the_feed_with_the_example(workers):
    files = Failing([b""] * 5)
    feed = evaluation_feed(files, Recorder(), 5, workers=workers, on_bad="skip")
    message = "^example 3 cannot be read: OSError: Input/output error$"
    with pytest.raises(ReadError, match=message):
        next(feed)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_feed(monkeypatch):
    monkeypatch.setattr(streaming, "CHUNK_ROWS", 1)
    feed = evaluation_feed(Failing([b""] * 5, how="die"), Recorder(), 5, workers=2)
    start = time.perf_counter()
    message = (
        r"^a worker ended while step 0 was read: .* exit code -9.*; if memory ran out, use few"
    )
    with pytest.raises(ReadError, match=message):
        next(feed)
    assert time.perf_counter() - start < 60


ENDLESS = """
from resjax.data.streaming import training_feed
from tests.data.test_streaming import Recorder, blank

if __name__ == "__main__":
    feed = training_feed(blank(9), Recorder(), 0, 4, workers=2)
    next(feed)
    print("reading", flush=True)
    next(open("/dev/stdin"))
"""


@pytest.mark.slow
def test_workers_end_with_a_process_that_is_killed(tmp_path):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == b"reading\n"
        process.kill()
        # Workers have the pipe as well, so it ends when the last of them does.
        assert process.stdout.read() == b""


SIGNALLED = """
import os, signal
from resjax.data.streaming import training_feed
from tests.data.test_streaming import Recorder, blank

if __name__ == "__main__":
    feed = training_feed(blank(9), Recorder(), 0, 4, workers=2)
    for _ in range(8):
        next(feed)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
        os.killpg(0, number)
    for _ in range(100):
        next(feed)
    feed.close()
    print("read")
"""


@pytest.mark.slow
def test_workers_leave_the_signals_of_a_terminal_to_the_process_that_they_read_for(tmp_path):
    script = tmp_path / "signalled.py"
    script.write_text(SIGNALLED)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=100,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, start_new_session=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("read\n", "", 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "drop"}, "unknown data.on_bad 'drop'; choose one of: refuse, skip"),
        ({"rows": [0, 4]}, "rows of a batch of 4 are some of 0 to 3"),
        ({"rows": []}, "rows of a batch of 4 are some of 0 to 3"),
        ({"workers": -1}, "5 examples and -1 workers; use at least 1 and 0"),
    ],
)
def test_options_without_a_meaning_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        training_feed(blank(5), Recorder(), 0, 4, **options)


def test_a_container_with_too_little_shared_memory_is_refused(monkeypatch):
    little = os.statvfs_result((4096, 4096, 16384, 16384, 2000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: little)
    feed = training_feed(blank(5), RandomCrop(), 0, 256, workers=8)
    with pytest.raises(ValueError, match=r"need 192\.7 MB in /dev/shm, which has 4\.8 MB; use few"):
        next(feed)


@pytest.mark.parametrize(
    ("script", "runs_again"),
    [("train()", True), ("if __name__ == '__main__':\n    train()", False), (None, False)],
)
def test_workers_that_would_run_a_script_again_are_refused(
    script, runs_again, tmp_path, monkeypatch
):
    path = tmp_path / "mine.py"
    if script:
        path.write_text(script)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(path), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    if not runs_again:
        streaming._refuse_unguarded(2)
        return
    feed = training_feed(blank(5), Recorder(), 0, 4, workers=2)
    with pytest.raises(ReadError, match=rf"runs {path} again.*if __name__ == '__main__':"):
        next(feed)


@pytest.mark.slow
def test_a_package_that_is_run_as_a_program_has_workers(tmp_path):
    """As every process of `resjax sweep --jobs` is, by `python -m resjax`."""
    package = tmp_path / "streams"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "from resjax.data.streaming import training_feed\n"
        "from tests.data.test_streaming import Recorder, blank\n"
        "feed = training_feed(blank(5), Recorder(), 0, 4, workers=1)\n"
        "print(len(next(feed).labels))\n"
        "feed.close()\n"
    )
    paths = os.pathsep.join([str(tmp_path), os.getcwd()])
    done = subprocess.run(
        [sys.executable, "-m", "streams"], env=os.environ | {"PYTHONPATH": paths},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "4\n", done.stderr
