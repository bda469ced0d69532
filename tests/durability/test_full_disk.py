"""On a disk that is full a run stops with a line, and goes on when there is room."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resjax.training import rundir

ROOT = Path(__file__).parents[2]

SCRIPT = """
mount -t tmpfs -o size=3m none "$1" || exit 99
shift
"$@" --config.checkpoint.seconds=0 --config.checkpoint.keep=1000; echo "code $?"
"$PYTHON" -m resjax.cli doctor "$DISK"; echo "code $?"
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
        sys.executable, "-m", "resjax.cli", "train", "--config=experiments/degradation.py",
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
    assert "start it again: it goes on from checkpoint" in ended.stdout
    assert "goes on from step" in ended.stderr
    assert "Traceback" not in ended.stderr
    whole = tmp_path / "whole"
    subprocess.run([*words, f"--workdir={whole}"], cwd=ROOT, check=True, capture_output=True)
    assert rundir.read_metrics(copy) == rundir.read_metrics(whole)
