import json
import socket
import time

import numpy as np
import pytest
from PIL import Image

from resjax.config import ConfigError
from resjax.runs.loop import train_and_evaluate
from resjax.training import hosts
from tests.ports import free_port

FLAGS = "--xla_force_host_platform_device_count=2"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hosts, "on_tpu_vm", lambda: False)


def test_a_plain_machine_connects_to_nobody(monkeypatch):
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **_: pytest.fail("connected"))
    hosts.connect()
    monkeypatch.setenv("SLURM_PROCID", "0")  # one task, as of an array job
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    hosts.connect()


@pytest.mark.parametrize("environment", [
    {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"},
    {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"},
    {"TPU_WORKER_HOSTNAMES": "worker-0,worker-1"},
    {"MEGASCALE_NUM_SLICES": "2"},
])  # fmt: skip
def test_the_environment_of_a_job_makes_it_find_the_others(monkeypatch, environment):
    called = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **given: called.append(given))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hosts.connect()
    assert len(called) == 1
    assert "coordinator_address" not in called[0]


@pytest.mark.parametrize(("arguments", "message"), [
    (("node0:1", 2, None), "need all of --coordinator, --processes and --process"),
    (("node0", 2, 0), "--coordinator=node0 is not HOST:PORT, such as node0:1234"),
    (("node0:99999", 2, 0), "is not HOST:PORT"),
    (("node0:1", 2, 2), "--process=2 is none of 0 to 1"),
])  # fmt: skip
def test_incomplete_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        hosts.connect(*arguments)


def test_a_coordinator_that_does_not_answer_ends_in_time_with_a_line():
    began = time.monotonic()
    with pytest.raises(ConfigError, match=r"localhost:1 does not answer within 1 s \(.*refused"):
        hosts.connect("localhost:1", 2, 1, timeout=1)
    assert time.monotonic() - began < 10


def test_a_first_process_whose_port_is_taken_says_so_before_jax_listens_on_it():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        line = (
            rf"process 0 cannot listen at --coordinator=localhost:{port} \(Address already in use"
        )
        with pytest.raises(ConfigError, match=line):
            hosts.connect(f"localhost:{port}", 2, 0, timeout=1)


def test_a_platform_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="--platform=tpu, but JAX sees only cpu; install"):
        hosts.require_platform("tpu")


@pytest.mark.slow
@pytest.mark.parametrize("platforms", ["cuda", "cuda,tpu", "abacus"])
def test_every_command_says_in_a_line_that_jax_finds_no_device(zygote, tiny, tmp_path, platforms):
    tiny.data.name = "fake:8x8x1:10"
    train_and_evaluate(tiny, tmp_path / "run")
    image = tmp_path / "image.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    run, experiment = str(tmp_path / "run"), "--config=experiments/degradation.py"
    every = (
        ["train", experiment], ["sweep", experiment], ["sweep", experiment, "--dry-run"],
        ["sweep", experiment, "--jobs=2"], ["bench", experiment], ["describe", "resnet18"],
        ["describe", experiment], ["predict", run, image], ["evaluate", run], ["probe", run],
        ["export", run, f"--out={tmp_path / 'net.stablehlo'}"],
    )  # fmt: skip
    for words in every if platforms == "cuda" else every[:1]:
        done = zygote.run("-m", "resjax", *words, environment={"JAX_PLATFORMS": platforms})
        assert (done.returncode, done.stdout) == (2, ""), (words, done)
        assert done.stderr.startswith("resjax: JAX finds no device"), (words, done)
        assert done.stderr.count("\n") == 1, (words, done)
        remedy = f"it looks for JAX_PLATFORMS={platforms} alone; unset that, or set it to cpu\n"
        assert done.stderr.endswith(remedy)


def test_alone_everybody_is_first_and_agrees():
    assert hosts.is_first()
    assert hosts.on_first(lambda: {"a": [1]}) == {"a": [1]}
    hosts.refuse_different({"seed": 1})


# ------------------------------------------------------------------------------ real processes


def resjax(zygote, *words):
    return zygote.start("-m", "resjax", *words, environment={"XLA_FLAGS": FLAGS})


def on_two_hosts(zygote, words, *own):
    place = ("--processes=2", f"--coordinator=localhost:{free_port()}", "--connect-timeout=60")
    processes = [
        resjax(zygote, *words, *place, f"--process={i}", *own[i : i + 1]) for i in range(2)
    ]
    return [(*process.communicate(timeout=300), process.returncode) for process in processes]


SWEEP = (
    "sweep", "--config=experiments/degradation.py", "--sweep=seed", "--seeds=2",
    "--config.model.width=2",
    "--config.train.duration=3 steps", "--config.eval.every=3 steps", "--config.model.depth=8",
)  # fmt: skip


@pytest.mark.slow
def test_two_hosts_run_a_sweep_of_which_one_writes(zygote, tmp_path):
    first, second = on_two_hosts(zygote, (*SWEEP, f"--workdir={tmp_path}"))
    assert (first[2], second[2]) == (0, 0), first[1] + second[1]
    assert "report:" in first[0]
    assert all(line.startswith("[Gloo]") for line in second[0].splitlines())
    run, _ = [path.parent for path in tmp_path.glob("*/result.json")]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["execution"]["hosts"], manifest["execution"]["devices"]) == (2, 4)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    again, _ = on_two_hosts(zygote, (*SWEEP, f"--workdir={tmp_path}"))
    assert "already done" in again[1]


@pytest.mark.slow
def test_hosts_with_different_configs_are_refused_with_the_keys(zygote, tmp_path):
    ended = on_two_hosts(
        zygote, (*SWEEP, f"--workdir={tmp_path}"), "--config.data.pad=1", "--config.data.pad=2"
    )
    for _, error, code in ended:
        assert code == 2
        assert "resjax: the hosts have different configs (data.pad is 1 on process 0, 2 on" in error
        assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_first_process_that_nobody_joins_ends_in_time_with_a_line(zygote, tmp_path):
    place = (f"--coordinator=localhost:{free_port()}", "--processes=2", "--process=0")
    process = resjax(zygote, *SWEEP, f"--workdir={tmp_path}", *place, "--connect-timeout=2")
    _, error = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "have not met within 2 s; start them together, or raise --connect-timeout" in error
    assert "Traceback" not in error
