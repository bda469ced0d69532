"""On a disk that is full a run stops with a line, and goes on when there is room."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resjax.runs import checkpoint, disk, rundir
from resjax.runs.loop import train_and_evaluate
from resjax.runs.room import NoRoom
from resjax.sweeps.local import run_sweep

ROOT = Path(__file__).parents[2]

SCRIPT = """
mount -t tmpfs -o size=3m none "$1" || exit 99
shift
"$@" --config.checkpoint.seconds=0 --config.checkpoint.keep=1000; echo "code $?"
"$PYTHON" -m resjax doctor "$DISK"; echo "code $?"
mount -o remount,size=30m "$DISK"
"$@"; echo "code $?"
cp -r "$DISK/run" "$COPY"
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a file system of its own")
def test_a_run_on_a_full_disk_keeps_its_checkpoints_and_goes_on_when_there_is_room(tmp_path):
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    words = [
        sys.executable, "-m", "resjax", "train", "--config=experiments/degradation.py",
        "--config.model.depth=8", "--config.model.width=2", "--config.train.duration=60 steps",
        "--config.eval.every=20 steps",
    ]  # fmt: skip
    environment = os.environ | {"PYTHON": sys.executable, "DISK": str(disk), "COPY": str(copy)}
    ended = subprocess.run(
        ["unshare", "-rm", "bash", "-c", SCRIPT, "bash", disk, *words, f"--workdir={disk / 'run'}"],
        env=environment, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    if ended.returncode == 99 or "unshare" in ended.stderr:
        pytest.skip("this machine allows no mounts")
    codes = [line for line in ended.stdout.splitlines() if line.startswith("code")]
    assert codes == ["code 1", "code 0", "code 0"], ended.stdout + ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.startswith("resjax: ")]
    assert len(told) == 1
    assert "no space left (a checkpoint takes 1.1 MB" in told[0]
    assert "start it again: it resumes from checkpoint" in ended.stdout
    assert "goes on from step" in ended.stderr
    assert "Traceback" not in ended.stderr
    whole = tmp_path / "whole"
    subprocess.run([*words, f"--workdir={whole}"], cwd=ROOT, check=True, capture_output=True)
    assert rundir.read_metrics(copy) == rundir.read_metrics(whole)


class Silent:
    """Observes runs."""

    def __getattr__(self, name):
        return lambda *_: None


def lines(number, monkeypatch):
    """A lack of room as the system tells it, where a line is written."""
    append = disk.append_line

    def fail(path, content):
        if content.get("event") == "evaluated":
            raise OSError(number, os.strerror(number))
        append(path, content)

    monkeypatch.setattr(disk, "append_line", fail)


def tensors(number, monkeypatch):
    """One that a library tells in its own words, where weights are."""

    def fail(*_):
        raise RuntimeError(f"I/O error: {os.strerror(number)} (os error {number})")

    monkeypatch.setattr("safetensors.numpy.save_file", fail)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("lacking", [lines, tensors])
def test_without_room_of_any_kind_a_run_is_left_to_go_on(
    tiny, tmp_path, number, lacking, monkeypatch
):
    tiny.checkpoint.seconds = 0.0
    with monkeypatch.context() as full:
        lacking(number, full)
        with pytest.raises(
            NoRoom, match="those before are kept, make room and start again"
        ) as told:
            run_sweep({tmp_path / "run": tiny}, Silent())
    assert told.value.errno == number
    assert rundir.run_state(tmp_path / "run") == rundir.UNFINISHED
    assert checkpoint.newest(tmp_path / "run")[0] is not None
    train_and_evaluate(tiny, tmp_path / "run")
    train_and_evaluate(tiny, tmp_path / "whole")
    metrics = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("run", "whole")]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_files_may_be_limited_in_size(tmp_path):
    """By a shell; the checkpoints of this run take a megabyte, and all else a few kilobytes."""
    words = [
        sys.executable, "-m", "resjax", "train", "--config=experiments/degradation.py",
        "--config.model.depth=8", "--config.model.width=64", "--config.train.duration=2 steps",
        "--config.checkpoint.seconds=0", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *words]
    for command, code in ((limited, 1), (words, 0)):
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert rundir.run_state(tmp_path / "run") == rundir.DONE
