import hashlib
import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared import Tiny, png, write

from resjax.cli import main as cli
from resjax.config import ConfigError
from resjax.data import prepare as preparing
from resjax.data.prepare import prepare_set
from resjax.data.slices import Splits
from resjax.data.tfds import tfds_source

HERE = Path(__file__).parent

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def needs_tensorflow(test):
    missing = importlib.util.find_spec("tensorflow") is None
    return pytest.mark.prepare(pytest.mark.skipif(missing, reason="needs TensorFlow")(test))


@pytest.fixture
def without_tensorflow(monkeypatch):
    """TFDS needs none for sets whose images are encoded already, such as those of the tests."""
    monkeypatch.setattr(preparing, "load_tensorflow", lambda wanted: None)


class Failing(Tiny):
    def example(self, name, number):
        if (name, number) == ("test", 7):
            raise RuntimeError("the disk\nis full")
        return super().example(name, number)


def test_a_prepared_set_is_read_and_prepared_only_once(without_tensorflow, tmp_path, capsys):
    command = ["prepare", "tiny", f"--data-dir={tmp_path}"]
    assert cli.main(command) == 0
    told = f"prepared: {tmp_path}/tiny/1.0.0 (train 600, test 30)\n"
    assert capsys.readouterr().out.endswith(told)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"already {told}"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files
    assert len(tfds_source("tiny", tmp_path, Splits()).train) == 600


def test_what_is_prepared_already_must_be_whole(tmp_path):
    directory = Path(write(Tiny, tmp_path))
    file = next(directory.glob("*test*00001-of-00003"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        ConfigError, match=r"test\S* is damaged: 0 of its 10 .*; delete .* and run: "
    ):
        prepare_set("tiny", tmp_path)


def test_a_set_that_fails_is_not_there(without_tensorflow, tmp_path):
    message = r"failing cannot be prepared \(.*the disk is full.*\); run it again$"
    with pytest.raises(ConfigError, match=message) as error:
        prepare_set("failing", tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("failing/*"))


def test_a_set_that_another_process_prepared_meanwhile_is_taken(
    without_tensorflow, tmp_path, monkeypatch
):
    def late(builder, manual_dir):
        write(Tiny, tmp_path)
        raise OSError("Directory not empty")

    monkeypatch.setattr(preparing, "_download_and_prepare", late)
    assert prepare_set("tiny", tmp_path).examples == {"train": 600, "test": 30}


KILLED = """
import os, signal, sys
import prepared
from pathlib import Path
from resjax.data import prepare

class Killed(prepared.Tiny):
    def example(self, name, number):
        if (name, number) == ("test", int(sys.argv[2])):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().example(name, number)

prepare.load_tensorflow = lambda wanted: None
prepare.prepare_set("killed", Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_set_whose_preparation_was_killed_is_not_there_and_can_be_prepared(tmp_path):
    def run(number):
        command = [sys.executable, "-c", KILLED, str(tmp_path), str(number)]
        return subprocess.run(command, cwd=HERE, capture_output=True).returncode

    assert run(29) == -9
    assert list(tmp_path.glob("killed/*"))
    with pytest.raises(ConfigError, match=r"killed is not in .*; run: resjax prepare killed --dat"):
        tfds_source("killed", tmp_path, Splits())
    assert run(-1) == 0
    source = tfds_source("killed", tmp_path, Splits())
    images = [source.test.read(number) for number in range(30)]
    assert sorted(images) == sorted((png(number), number % 3) for number in range(30))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar_10", "TFDS has no set 'cifar_10'; nearest: cifar10, cifar100, "),
        ("mnist/x", "mnist/x cannot be prepared: .*BuilderConfig x not found"),
        ("mnist:9.9.9", "mnist:9.9.9 cannot be prepared: .* only: 3.0.1"),
        ("digits", "digits needs no preparing; train with --config.data.name=digits"),
        ("huggingface:mnist", "'huggingface:mnist' is not a set of TFDS; write NAME"),
        (
            "imagenet2012",
            "imagenet2012 is not downloaded; put ILSVRC2012_img_train.tar and ILSVRC2",
        ),
    ],
)
def test_what_cannot_be_prepared_is_refused_with_the_remedy(name, message, tmp_path, capsys):
    assert cli.main(["prepare", name, f"--data-dir={tmp_path}"]) == 2
    with pytest.raises(ConfigError, match=message):
        prepare_set(name, tmp_path)
    assert capsys.readouterr().err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_tensorflow_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    message = r"preparing cifar10 needs TensorFlow, which .* pip install -e '\.\[prepare\]'"
    with pytest.raises(ConfigError, match=message):
        prepare_set("cifar10", tmp_path)
    assert not list(tmp_path.iterdir())


def test_archives_must_be_in_the_directory_that_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"--manual-dir=.*/no is not a directory; name one with the a"
    ):
        prepare_set("cifar10", tmp_path, tmp_path / "no")
    with pytest.raises(
        ConfigError, match=r"has no cifar-10-binary.tar.gz; put it there, or leave o"
    ):
        prepare_set("cifar10", tmp_path, tmp_path)
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(b"cut")
    with pytest.raises(ConfigError, match=r"\(ILSVRC2012_img_val.tar not found\)"):
        prepare_set("imagenet2012", tmp_path, tmp_path)
    (tmp_path / "ILSVRC2012_img_val.tar").write_bytes(b"cut")
    with pytest.raises(
        ConfigError, match=r"img_train.tar has 3 of 147897477120 bytes; download it"
    ):
        prepare_set("imagenet2012", tmp_path, tmp_path)


CONVERT = """
import os, sys
from contextlib import contextmanager
from pathlib import Path
import prepared
from resjax.cli import main as cli
from resjax.data import prepare
@contextmanager
def killed_before_it_replaces(path):
    yield path.with_name("incomplete")
    os._exit(9)
command = ["prepare", "tiny", f"--data-dir={sys.argv[1]}"]
if sys.argv[2] == "interrupted":
    file = Path(prepared.write(prepared.Tiny, sys.argv[1], "tfrecord")) / sys.argv[3]
    whole = file.read_bytes()
    for damaged in (whole[:-10], whole[:9000] + b"x" + whole[9001:], whole + whole):
        file.write_bytes(damaged)
        assert cli.main(command) == 2
    file.write_bytes(whole)
    prepare.replacing = killed_before_it_replaces
sys.exit(cli.main(command) or cli.main(command))
"""


@needs_tensorflow
def test_tfrecord_is_converted_once_and_only_if_it_is_whole(tmp_path):
    file = "tiny-train.tfrecord-00001-of-00003"

    def run(what):
        return subprocess.run(
            [sys.executable, "-c", CONVERT, str(tmp_path), what, file],
            capture_output=True, text=True, cwd=HERE, env=os.environ | QUIET,
        )  # fmt: skip

    out = run("interrupted")
    assert out.returncode == 9, out.stderr
    told = [line for line in out.stderr.splitlines() if line.startswith("resjax: ")]
    assert len(told) == 3
    assert all(file in line and line.endswith("; restore it") for line in told)
    with pytest.raises(
        ConfigError, match="not as array_record; to convert it, run: resjax prepare"
    ):
        tfds_source("tiny", tmp_path, Splits())
    out = run("whole")
    assert out.returncode == 0, out.stderr
    told = f"{tmp_path}/tiny/1.0.0 (train 600, test 30)\n"
    assert out.stdout == f"converted: {told}already prepared: {told}"
    train = tfds_source("tiny", tmp_path, Splits()).train
    write(Tiny, tmp_path / "other")
    other = tfds_source("tiny", tmp_path / "other", Splits()).train
    assert [train.read(n) for n in range(600)] == [other.read(n) for n in range(600)]


# ------------------------------------------------------------------------ the real thing, but small


FILES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
LABELS = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def archive(path):
    """An archive like cifar-10-binary.tar.gz with 20 random images a file; its images and labels.

    A record is a label and the red, the green and the blue values, 1 + 3 x 1024 bytes.
    """
    records = np.random.default_rng(0).integers(0, 256, (len(FILES), 20, 3073), np.uint8)
    records[..., 0] %= 10
    contents = {f"{name}.bin": part.tobytes() for name, part in zip(FILES, records, strict=True)}
    contents["batches.meta.txt"] = "\n".join([*LABELS, ""]).encode()
    with tarfile.open(path, "w:gz") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    images = records[..., 1:].reshape(len(FILES), 20, 3, 32, 32).transpose(0, 1, 3, 4, 2)
    examples = [
        [(image.tobytes(), int(label)) for image, label in zip(*part, strict=True)]
        for part in zip(images, records[..., 0], strict=True)
    ]
    return [example for part in examples[:5] for example in part], examples[5]


NO_NETWORK = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit(f"the network was touched: {arguments}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""

PREPARE = """
import tensorflow_datasets as tfds
from resjax.cli import main as cli
data_dir, manual_dir, size, checksum = sys.argv[1:]

class Cifar(tfds.image_classification.Cifar10):
    url_infos = {
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz": tfds.download.checksums.UrlInfo(
            tfds.core.utils.Size(int(size)), checksum, "cifar-10-binary.tar.gz"
        )
    }

sys.exit(cli.main(["prepare", "cifar", f"--data-dir={data_dir}", f"--manual-dir={manual_dir}"]))
"""

READ = """
import pickle, sys
from pathlib import Path
from resjax.data.tfds import Splits, tfds_source
source = tfds_source("cifar", Path(sys.argv[1]), Splits())
read = [[split.read(n) for n in range(len(split))] for split in (source.train, source.test)]
assert not {"tensorflow", "jax"} & set(sys.modules)
sys.stdout.buffer.write(pickle.dumps((source.class_names, read)))
"""


TRAIN = """
from resjax.cli import main as cli
assert cli.main(["train", *sys.argv[1:]]) == 0
assert "tensorflow" not in sys.modules
"""


def run(code, *arguments):
    """A process without a network."""
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK + code, *map(str, arguments)],
        capture_output=True, env=os.environ | QUIET,
    )  # fmt: skip


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """The data directory of a set that TFDS prepared of an archive, and the examples in that."""
    root = tmp_path_factory.mktemp("cifar")
    file = root / "cifar-10-binary.tar.gz"
    examples = archive(file)
    whole = file.read_bytes()
    arguments = (root / "data", root, len(whole), hashlib.sha256(whole).hexdigest())

    file.write_bytes(whole[:-1])
    out = run(PREPARE, *arguments)
    assert out.returncode == 2, out.stderr.decode()
    last = out.stderr.decode().splitlines()[-1]
    assert "cifar cannot be prepared (NonMatchingChecksumError: Artifact https://www.cs" in last
    assert last.endswith(
        "put cifar-10-binary.tar.gz into a directory and name it with --manual-dir"
    )

    file.write_bytes(whole)
    out = run(PREPARE, *arguments)
    assert out.returncode == 0, out.stderr.decode()
    assert out.stdout.decode().endswith("/cifar/3.0.2 (train 100, test 20)\n")
    return root / "data", examples


@needs_tensorflow
def test_cifar_is_prepared_from_an_archive_without_a_network_and_read_without_tensorflow(cifar):
    data_dir, examples = cifar
    out = run(READ, data_dir)
    assert out.returncode == 0, out.stderr.decode()
    names, splits = pickle.loads(out.stdout)
    assert names == tuple(LABELS)
    for read, wanted in zip(splits, examples, strict=True):
        pixels = [
            (np.asarray(Image.open(io.BytesIO(data))).tobytes(), label) for data, label in read
        ]
        assert sorted(pixels) == sorted(wanted)


@needs_tensorflow
@pytest.mark.parametrize("size", [0, 16], ids=["resident", "streamed"])
def test_cifar_that_is_prepared_is_trained_on_without_tensorflow_and_a_network(
    cifar, tmp_path, size
):
    streamed = [f"--config.data.size={size}", "--config.data.resize=18", "--config.data.pad=0"]
    streamed += ["--config.data.standardise=imagenet"]
    out = run(
        TRAIN, "--config=experiments/cifar10.py:8", f"--workdir={tmp_path}",
        "--config.data.name=tfds:cifar", f"--config.data.dir={cifar[0]}",
        "--config.model.width=2", "--config.train.batch_size=20",
        "--config.train.duration=6 steps", "--config.eval.every=6 steps",
        "--config.optim.schedule=cosine",
        *(streamed if size else []),
    )  # fmt: skip
    assert out.returncode == 0, out.stderr.decode()
    result = json.loads((tmp_path / "result.json").read_text())
    # Random labels: whatever the net has learned, an error is a fraction of the 20 images.
    assert result["test_error"] * 20 == pytest.approx(round(result["test_error"] * 20))
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["data"]["train"], manifest["data"]["test"]) == (100, 20)
