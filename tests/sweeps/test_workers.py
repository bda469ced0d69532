import os
import time
from pathlib import Path

import pytest

from resjax import accelerators
from resjax.config import ConfigError
from resjax.process import CORES
from resjax.runs import disk, rundir
from resjax.sweeps import workers

ROOT = Path(__file__).parents[2]

SWEEP = (
    "-m", "resjax", "sweep", "--config=experiments/degradation.py",
    "--config.model.width=2", "--sweep=shortcut", "--config.model.depth=8",
    "--config.train.duration=90 steps", "--config.eval.every=30 steps",
    "--config.checkpoint.seconds=0.2", "--jobs=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def gpus(monkeypatch):
    monkeypatch.setattr(accelerators, "cuda_is_installed", lambda: True)
    monkeypatch.setattr(workers, "on_tpu_vm", lambda: False)


def test_gpus_are_handed_out_one_to_each_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert workers.environments(2) == [
        {"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"},
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="--jobs=4 and 3 GPUs; use --jobs=3 or less"):
        workers.environments(4)


@pytest.mark.parametrize(
    ("visible", "platform", "jax_platforms"),
    [("-1", None, ""), ("0,1", "cpu", ""), ("0,1", None, "cpu"), ("-1,0", None, "")],
)
def test_without_gpus_to_train_on_cores_are_shared_out(
    monkeypatch, visible, platform, jax_platforms
):
    """CUDA itself sees no device that comes after -1."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("JAX_PLATFORMS", jax_platforms)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert workers.environments(2, platform) == [{CORES: "0"}, {CORES: "1"}]


@pytest.mark.parametrize(
    ("found", "platform", "jax_platforms"),
    [(True, None, ""), (False, "tpu", ""), (False, None, "tpu,cpu")],
)
def test_processes_that_would_contend_for_a_tpu_are_refused(
    monkeypatch, found, platform, jax_platforms
):
    """Chips belong to one process, on a TPU VM that is recognised and where one asks for them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1" if platform else "")
    monkeypatch.setenv("JAX_PLATFORMS", jax_platforms)
    monkeypatch.setattr(workers, "on_tpu_vm", lambda: found)
    with pytest.raises(ConfigError, match=r"--jobs=2 and a TPU, .*; leave --jobs out") as refused:
        workers.environments(2, platform)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("platform", "jax_platforms"), [("cpu", ""), (None, "cpu")])
def test_on_a_tpu_vm_cores_are_shared_out_where_one_asks_for_the_cpu(
    monkeypatch, platform, jax_platforms
):
    monkeypatch.setenv("JAX_PLATFORMS", jax_platforms)
    monkeypatch.setattr(workers, "on_tpu_vm", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert workers.environments(2, platform) == [{CORES: "0"}, {CORES: "1"}]


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 6})
    assert workers.environments(2) == [{CORES: "0,1"}, {CORES: "4,5"}]
    with pytest.raises(ConfigError, match="--jobs=6 and 5 cores"):
        workers.environments(6)


def steps_and_begins(directory):
    """Of every run, the steps of its evaluations and those at which it was begun."""
    found = {}
    for run in sorted(path.parent for path in directory.glob("*/config.json")):
        events = disk.read_lines(run / "timing.jsonl")
        found[run.name] = (
            [line["step"] for line in rundir.read_metrics(run)],
            [event["step"] for event in events if event["event"] == "begun"],
        )
    return found


@pytest.mark.slow
def test_four_processes_with_the_same_command_of_which_one_is_killed_train_each_run_once(
    zygote, tmp_path
):
    words = [*SWEEP, f"--workdir={tmp_path}"]
    processes = [zygote.start(*words) for _ in range(4)]
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/checkpoints/*/checkpoint.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run = next(tmp_path.glob("*/checkpoints/*/checkpoint.json")).parents[2]
    victim = disk.read_json(run / "claim.json")["pid"]
    next(process for process in processes if process.pid == victim).kill()
    ended = {
        process.pid: (process.communicate(timeout=300)[1], process.returncode)
        for process in processes
    }
    assert sorted(code for _, code in ended.values()) == [-9, 0, 0, 0], ended
    found = steps_and_begins(tmp_path)
    assert len(found) == 4
    for name, (steps, begins) in found.items():
        assert steps == [30, 60, 90], name
        assert begins == sorted(begins), name
        assert begins[0] == 0, name
        assert len(begins) == 1 or name == run.name, found
    assert (tmp_path / "report" / "index.html").is_file()
    assert not list(tmp_path.glob("*/claim.json*"))


@pytest.mark.slow
def test_jobs_share_the_runs_and_tell_how_they_ended(zygote, tmp_path):
    words = [*SWEEP, f"--workdir={tmp_path}", "--only=shortcut=none,identity"]
    done = zygote.run(*words, "--jobs=2")
    assert done.returncode == 0, done.stderr
    assert "2 done" in zygote.run("-m", "resjax", "status", tmp_path).stdout
    assert "report: " in done.stdout
    cores = {disk.read_json(p)["execution"]["cpus"] for p in tmp_path.glob("*/manifest.json")}
    assert cores == {len(os.sched_getaffinity(0)) // 2}
    wrong = [*words, "--jobs=2", "--config.model.order=none"]
    refused = zygote.run(*wrong)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("resjax: unknown model.order 'none'")
