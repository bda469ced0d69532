import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resjax import accelerators
from resjax.config import ConfigError
from resjax.process import CORES
from resjax.runs import claims, disk, rundir
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
    """JAX has its plugin for GPUs, which CUDA_VISIBLE_DEVICES names; there is no TPU."""
    monkeypatch.setattr(workers, "on_tpu_vm", lambda: False)
    monkeypatch.setattr(accelerators, "cuda_is_installed", lambda: True)
    for name in ("JAX_PLATFORMS", *accelerators.MEMORY_SHARES):
        monkeypatch.delenv(name, raising=False)


def test_gpus_are_handed_out_one_to_each_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert workers.environments(2) == [
        {"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "5"},
    ]  # fmt: skip


def test_more_workers_than_gpus_share_them_and_their_memory(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")

    def shared(gpu, memory):
        return {"CUDA_VISIBLE_DEVICES": gpu, "XLA_PYTHON_CLIENT_MEM_FRACTION": memory}

    assert workers.environments(5) == [
        shared("2", "0.45"), shared("5", "0.45"), {"CUDA_VISIBLE_DEVICES": "7"},
        shared("2", "0.45"), shared("5", "0.45"),
    ]  # fmt: skip
    assert workers.environments(9) == 3 * [shared(gpu, "0.3") for gpu in "257"]
    for name in accelerators.MEMORY_SHARES:  # JAX refuses a second one
        with monkeypatch.context() as user:
            user.setenv(name, "0.2")
            assert workers.environments(9) == 3 * [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in "257"]


def grid(tiny, number, **keys):
    with tiny.unlocked():
        tiny.train.update(keys)
    return {Path("nowhere", str(run)): tiny for run in range(number)}


@pytest.mark.parametrize(
    ("runs", "keys", "jobs", "line"),
    [
        (8, {}, 4, "4 processes share the 8 runs, each on one GPU; --jobs=1 trains each run on"),
        (4, {}, 4, "4 processes share the 4 runs, each on one GPU; --jobs=1 trains each run on"),
        (3, {}, 1, "each run trains on all 4 GPUs; --jobs=3 trains 3 at a time, each on one GPU"),
        (1, {}, None, ""),
        (8, {"devices": 2}, None, ""),
        (8, {"devices": 1}, 4, "4 processes share"),
        (8, {"side_by_side": 4}, 1, "each run trains on all 4 GPUs; --jobs=2 trains 2 at a time"),
        (8, {"side_by_side": 8}, None, ""),
    ],
)
def test_each_of_several_gpus_trains_runs_of_its_own_if_there_are_enough(
    monkeypatch, tiny, runs, keys, jobs, line
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    found, told = workers.jobs_on_gpus(grid(tiny, runs, **keys), None)
    assert found == jobs
    assert told.startswith(line)
    assert bool(told) == bool(line)


def test_gpus_do_not_decide_the_number_of_processes_where_none_would_train(monkeypatch, tiny):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert workers.jobs_on_gpus(grid(tiny, 4), "gpu")[0] == 2
    assert workers.jobs_on_gpus(grid(tiny, 4), "cpu") == (None, "")
    with monkeypatch.context() as alone:
        alone.setenv("CUDA_VISIBLE_DEVICES", "0")
        assert workers.jobs_on_gpus(grid(tiny, 4), None) == (None, "")
    monkeypatch.setattr(accelerators, "cuda_is_installed", lambda: False)
    assert workers.jobs_on_gpus(grid(tiny, 4), None) == (None, "")


def test_a_sweep_that_is_continued_has_as_many_processes_as_before(monkeypatch, tiny):
    """Otherwise the bits of a run would depend on when it was interrupted."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    runs = grid(tiny, 4)
    done = {"0", "1", "2"}
    monkeypatch.setattr(workers, "run_state", lambda run: "done" if run.name in done else "absent")
    assert workers.jobs_on_gpus(runs, None)[0] == 2
    done.add("3")
    assert workers.jobs_on_gpus(runs, None) == (None, "")


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


def test_no_more_processes_share_a_gpu_than_have_memory_to_train(monkeypatch):
    monkeypatch.setattr(workers, "visible_gpus", lambda: ["0", "1"])
    assert len(workers.environments(32)) == 32
    with pytest.raises(ConfigError, match="--jobs=33 and 2 GPUs; use --jobs=32 or less"):
        workers.environments(33)


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


PLUGIN = """
import os
def initialize():
    with open(os.environ["LOOKED"], "a") as file:
        print(os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"], file=file)
"""
"""A plugin of JAX that brings no device, and records which process looks for one."""


@pytest.mark.slow
def test_workers_save_and_leave_when_the_process_that_started_them_fails(tmp_path, monkeypatch):
    def fail_once_one_has_begun():
        if begun():
            raise SystemExit(1)

    def begun():
        return [path.parent for path in tmp_path.glob("*/timing.jsonl")]

    monkeypatch.chdir(ROOT)
    words = [*SWEEP[2:], "--config.train.duration=90000 steps", f"--workdir={tmp_path}"]
    parts = workers.environments(2, "cpu")
    with pytest.raises(SystemExit):
        workers.run_workers(words, parts, tmp_path, fail_once_one_has_begun)
    assert begun()
    assert not [run for run in begun() if claims.owner(run)]
    last = [disk.read_lines(run / "timing.jsonl")[-1] for run in begun()]
    assert {(line["event"], line.get("why")) for line in last} == {("stopped", "SIGTERM")}


@pytest.mark.slow
def test_a_sweep_gives_each_gpu_a_process_before_it_looks_for_devices_itself(tmp_path):
    plugin = tmp_path / "jax_plugins" / "xla_cuda12"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(PLUGIN)
    added = {
        "PYTHONPATH": f"{ROOT}:{tmp_path}", "CUDA_VISIBLE_DEVICES": "0,1",
        "LOOKED": str(tmp_path / "looked"),
    }  # fmt: skip
    words = [*SWEEP[:-1], "--only=shortcut=none,identity", f"--workdir={tmp_path / 'runs'}"]
    sweep = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=os.environ | added, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    output, error = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, error
    assert error.startswith("2 processes share the 2 runs, each on one GPU; --jobs=1 trains"), error
    assert "report: " in output
    looked = [line.split() for line in (tmp_path / "looked").read_text().splitlines()]
    assert sorted(gpus for _, gpus in looked[:2]) == ["0", "1"]
    assert all(process != str(sweep.pid) for process, _ in looked[:2])


def test_every_process_is_told_how_many_share_the_runs(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\necho "$RESJAX_WORKERS $OWN"\n')
    program.chmod(0o755)
    monkeypatch.setattr(workers.sys, "executable", str(program))
    parts = [{"OWN": "first"}, {"OWN": "second"}]
    assert workers.run_workers([], parts, tmp_path, lambda: None) == [0, 0]
    told = [(tmp_path / f"worker{number}.log").read_text() for number in range(2)]
    assert told == ["2 first\n", "2 second\n"]
