import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from resjax import accelerators, job
from resjax.config import ConfigError
from resjax.runs.loop import train_and_evaluate
from resjax.training import hosts
from tests.ports import free_port

FLAGS = "--xla_force_host_platform_device_count=2"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch):
    names = (
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES",
        "MEGASCALE_NUM_SLICES",
    )  # fmt: skip
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(job, "on_tpu_vm", lambda: False)


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
    {"TPU_PROCESS_ADDRESSES": "worker-0:8476,worker-1:8476"},
    {"MEGASCALE_NUM_SLICES": "2"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"},
])  # fmt: skip
def test_the_environment_of_a_job_makes_it_find_the_others(monkeypatch, environment):
    called = []
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **given: called.append(given))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hosts.connect()
    assert len(called) == 1
    assert "coordinator_address" not in called[0]


@pytest.mark.parametrize("environment", [
    {"TPU_PROCESS_ADDRESSES": "local"},
    {"TPU_WORKER_HOSTNAMES": "localhost"},
    {"TPU_PROCESS_ADDRESSES": "localhost:8476", "TPU_WORKER_HOSTNAMES": "worker-0,worker-1"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": ""},
])  # fmt: skip
def test_a_tpu_vm_whose_variables_name_one_host_connects_to_nobody(monkeypatch, environment):
    monkeypatch.setattr(job, "on_tpu_vm", lambda: True)
    monkeypatch.setattr(hosts.jax.distributed, "initialize", lambda **_: pytest.fail("connected"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    hosts.connect()


class Unreachable(OSError):
    """As requests raises it, where the server of a VM's metadata is not there."""


@pytest.mark.parametrize("error", [Unreachable("\nno route"), TypeError("no route"), KeyError()])
@pytest.mark.parametrize("named", [True, False])
def test_whatever_keeps_jax_from_finding_the_hosts_is_refused_in_a_line(monkeypatch, error, named):
    def fail(**_):
        raise error

    monkeypatch.setattr(job, "on_tpu_vm", lambda: True)
    if named:
        monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "worker-0,worker-1")
    monkeypatch.setattr(hosts.jax.distributed, "initialize", fail)
    line = (
        r"^cannot join the other hosts of this job \((no route|KeyError)\); name them to each by "
    )
    with pytest.raises(ConfigError, match=line) as refused:
        hosts.connect()
    alone = "set TPU_WORKER_HOSTNAMES=localhost if there are none"
    assert (alone in str(refused.value)) is not named


@pytest.mark.parametrize(("arguments", "message"), [
    (("node0:1", 2, None), "need all of --coordinator, --processes and --process"),
    (("node0", 2, 0), "--coordinator=node0 is not HOST:PORT, such as node0:1234"),
    (("node0:99999", 2, 0), "is not HOST:PORT"),
    (("node0:1", 2, 2), "--process=2 is none of 0 to 1"),
])  # fmt: skip
def test_incomplete_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        hosts.connect(*arguments)


@pytest.mark.slow
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


def test_training_on_a_cpu_that_is_asked_for_is_prepared_whatever_else_is_there(monkeypatch):
    found = []
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(hosts, "set_up", lambda: found.append(accelerators.is_expected()))
    hosts.require_platform("cpu")
    assert found == [False]


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


FINDS_NOTHING = """
import os, sys
from resjax import accelerators, job
from resjax.config import ConfigError
from resjax.training import hosts
job.on_tpu_vm = lambda: True
os.environ.update(variable.split("=") for variable in sys.argv[1:])
try:
    hosts.connect()
except ConfigError as error:
    sys.exit(str(error))
print(hosts.jax.process_count())
"""


@pytest.mark.slow
def test_a_tpu_vm_for_which_jax_finds_no_hosts_goes_on_alone_and_says_so(zygote):
    done = zygote.run("-c", FINDS_NOTHING)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert "this TPU VM trains alone, as nothing tells JAX of other hosts" in done.stderr
    assert "name them to each by --coordinator=HOST:PORT, --processes and --process" in done.stderr
    # A pod of which each host trained alone would do the same work several times.
    named = zygote.run("-c", FINDS_NOTHING, "TPU_WORKER_HOSTNAMES=worker-0,worker-1")
    assert named.returncode == 1
    assert named.stderr.startswith("cannot join the other hosts of this job (coordinator_address ")


CONNECTS = """
import sys
from resjax.config import ConfigError
from resjax.training import hosts
try:
    hosts.connect(timeout=60)
except ConfigError as error:
    sys.exit(str(error))
print(hosts.jax.process_index(), "of", hosts.jax.process_count())
"""


def pods_of_gke(own):
    """Two processes for which JAX believes to be in the pods of a slice, without metadata."""
    shared = {
        "JAX_FORCE_TPU_INIT": "1", "TPU_LIBRARY_PATH": __file__, "JAX_PLATFORMS": "cpu",
        "GCE_METADATA_IP": "127.0.0.1:1", "TPU_WORKER_HOSTNAMES": "localhost,localhost",
        "JAX_COORDINATOR_PORT": str(free_port()),
    }  # fmt: skip
    pods = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECTS], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | shared | own | {"TPU_WORKER_ID": str(number)},
        ) for number in range(2)
    ]  # fmt: skip
    return [(*pod.communicate(timeout=300), pod.returncode) for pod in pods]


@pytest.mark.slow
def test_the_hosts_of_the_jobset_meet_without_a_metadata_server():
    jobset = yaml.safe_load(Path("experiments/launch/gke_jobset.yaml").read_text())
    [slices] = jobset["spec"]["replicatedJobs"]
    [container] = slices["template"]["spec"]["template"]["spec"]["containers"]
    own = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    name = jobset["metadata"]["name"]
    first = f"{name}-{slices['name']}-$(JOB_INDEX)-0.{name}"
    assert own["MEGASCALE_COORDINATOR_ADDRESS"] == first
    variables = {key: value for key, value in own.items() if key.startswith("MEGASCALE_")}
    variables["MEGASCALE_COORDINATOR_ADDRESS"] = "localhost"
    ended = pods_of_gke(variables)
    assert [end[0] for end in ended] == ["0 of 2\n", "1 of 2\n"], ended
    del variables["MEGASCALE_SLICE_ID"]
    for output, error, code in pods_of_gke(variables):
        assert (output, code) == ("", 1)
        assert error.startswith("cannot join the other hosts of this job (HTTP"), error


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
    # Threads of Gloo write at once, so that its lines may be torn.
    assert all("[Gloo]" in line or "peer ranks" in line for line in second[0].splitlines())
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
