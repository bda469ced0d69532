"""No pickle kills the process that reads it, keeps it for ever, fills its memory or changes it."""

import pickle
import subprocess
import sys
import zipfile

import pytest

from resjax.config import ConfigError
from resjax.interop.files import open_file
from resjax.interop.pickles import open_checkpoint, tables_in
from tests.interop.peers import ForCifar, randomised, torch

START, DEEP = b"\x80\x02", 400_000


def doubled(times):
    """Opcodes of a tuple of two tuples of two, and so on: 2^times empty ones, kept once each."""
    return b")" + b"".join(b"q%ch%c\x86" % (place, place) for place in range(times))


HOSTILE = {
    "a key that takes for ever to hash": START + b"}" + doubled(60) + b"Ns.",
    "one of a set": b"\x80\x04(" + doubled(60) + b"\x91.",
    "one in a mapping of the first protocol": START + b"(" + doubled(60) + b"Nd.",
    "a key of which the hash needs more stack than there is":
        START + b"}" + b")" + DEEP * b"\x85" + b"Ns.",
    "a place in a memo of 2^31": START + b"]r\xff\xff\xff\x7f.",
    "a name of a storage that is long to write":
        START + b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + doubled(60)
        + b"X\x03\x00\x00\x00cpuK\x01tQl.",
    "bytes that are not there": b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.",
    "lists in each other": START + DEEP * b"]" + (DEEP - 1) * b"a" + b".",
    "a number with too many digits to write":
        START + b"}" + pickle.dumps(10**5000, 2)[2:-1] + b"K\x01s.",
    "a mapping with a method of its own":
        START + b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemscfoo\nbar\nsb.",
    "a million numbers": pickle.dumps({"losses": list(range(1_000_000))}, 2),
}  # fmt: skip

READ = """
import resource, sys
from pathlib import Path
from resjax.config import ConfigError
from resjax.interop.pickles import open_checkpoint, tables_in
resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
for path in sys.argv[1:]:
    print(Path(path).name, flush=True)
    try:
        with open_checkpoint(Path(path)) as read:
            assert not dict(tables_in(read.content))
    except ConfigError as error:
        assert "cannot be read" in str(error), error
"""


def archive(path, pickled, **options):
    with zipfile.ZipFile(path, "w", **options) as opened:
        opened.writestr("net/data.pkl", pickled)
    return path


@pytest.mark.slow
def test_a_hostile_pickle_is_read_or_refused_by_a_process_that_goes_on(tmp_path):
    paths = [archive(tmp_path / name.replace(" ", "-"), HOSTILE[name]) for name in HOSTILE]
    done = subprocess.run(
        [sys.executable, "-c", READ, *map(str, paths)],
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.split() == [path.name for path in paths]


def state_of(function):
    """A pickle that sets attributes of what a name stands for."""
    module, _, name = function.rpartition(".")
    named = f"c{module}\n{name}\n".encode()
    return START + named + b"N}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."


@pytest.mark.parametrize("name", ["torch._utils._rebuild_tensor_v2", "collections.defaultdict"])
def test_a_pickle_changes_nothing_of_what_reads_it(name, tmp_path):
    with open_checkpoint(archive(tmp_path / "net.pth", state_of(name))) as read:
        assert read.content.__defaults__ is None


@pytest.fixture(scope="module")
def state():
    return randomised(ForCifar(1)).state_dict()


def test_tensors_larger_than_their_file_are_refused(state, tmp_path):
    """Such as views that repeat a number, and would be written out."""
    wide = {name: tensor.new_zeros(1).expand(1000, *tensor.shape) for name, tensor in state.items()}
    torch.save(wide, tmp_path / "net.pth")
    with (
        pytest.raises(ConfigError, match="says that its tensors are larger than itself, with"),
        open_file(tmp_path / "net.pth"),
    ):
        pass


def test_an_archive_that_unpacks_to_far_more_is_refused(state, tmp_path):
    torch.save({name: torch.zeros_like(tensor) for name, tensor in state.items()}, tmp_path / "0")
    with (
        zipfile.ZipFile(tmp_path / "0") as whole,
        zipfile.ZipFile(tmp_path / "net.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with (
        pytest.raises(ConfigError, match=r"an archive of \d+ bytes that unpacks to \d+"),
        open_file(tmp_path / "net.pth"),
    ):
        pass


@pytest.mark.parametrize("counter", [torch.ones(2), torch.tensor(float("nan")), torch.tensor(1j)])
def test_a_counter_of_batches_that_counts_nothing_is_refused(counter, state, tmp_path):
    torch.save(state | {"bn1.num_batches_tracked": counter}, tmp_path / "net.pth")
    with (
        pytest.raises(ConfigError, match=r"'bn1\.num_batches_tracked' is no number of batches"),
        open_file(tmp_path / "net.pth"),
    ):
        pass


def test_tables_deep_in_others_are_left_out(state, tmp_path):
    nested = {"weight": torch.ones(2)}
    for _ in range(20):
        nested = {"a": nested}
    torch.save({"net": {"weight": torch.ones(3)}, "rest": nested}, tmp_path / "net.pth")
    with open_checkpoint(tmp_path / "net.pth") as read:
        assert dict(tables_in(read.content)).keys() == {"net"}
