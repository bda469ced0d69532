"""Sweeps on Ray: on a cluster of a head and two nodes, whose processes and drivers are killed."""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.config.naming import run_id
from resjax.runs import checkpoint, claims, disk, manifest, planned, rundir
from resjax.sweeps import local
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.grid import expand
from tests.ports import free_port

pytest.importorskip("ray")

import resjax.sweeps.ray.cluster
import resjax.sweeps.ray.driver as launcher
from resjax.sweeps.ray import worker
from resjax.sweeps.ray.cluster import cluster as connected
from resjax.sweeps.ray.cluster import needs, refuse_unoffered

# Processes of the cluster are forked from this one.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork")

ROOT = Path(__file__).parents[2]
STEPS, EVERY, RUNS = 400, 100, 4
KEYS = {
    "model.depth": 8,
    "model.width": 2,
    "optim.learning_rate": 0.05,
    "train.batch_size": 64,
    "train.duration": f"{STEPS} steps",
    "eval.every": f"{EVERY} steps",
    "checkpoint.seconds": 0.2,
}
SMALL = [f"--config.{key}={value}" for key, value in KEYS.items()]


def config_of(seed=0, **keys):
    _, config = load_experiment(str(ROOT / "experiments" / "degradation.py"))
    config.update_from_flattened_dict(KEYS | {"seed": seed} | keys)
    return config


def ended(process, seconds=300):
    output, errors = process.communicate(timeout=seconds)
    return process.returncode, output + errors


HEALTH = {
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
    "health_check_timeout_ms": 120_000,
}
"""A node that refuses connections is gone at once, and one that is slow to answer is not.

With the 10 s of Ray a node of a busy machine counts as gone, and a driver waits 300 s for it.
"""


class Cluster:
    """A head that runs nothing, and nodes for a run each."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 100 * 2**20}
        self.node_settings = {"num_cpus": 1, "num_gpus": 0, **memory}
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, **memory}
        self.cluster = Cluster(
            initialize_head=True, head_node_args=head | {"_system_config": HEALTH}
        )
        self.address = self.cluster.address
        self.nodes = [self.add() for _ in range(2)]

    def add(self):
        return self.cluster.add_node(**self.node_settings)

    def kill(self, node):
        """Ends all processes of a node at once, those of the runs first."""
        raylet = node.all_processes["raylet"][0].process.pid
        listed = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True)
        for pid in [*map(int, listed.stdout.split()), raylet]:
            os.kill(pid, signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)


@pytest.fixture(scope="module")
def cluster():
    made = Cluster()
    yield made
    made.cluster.shutdown()


@pytest.fixture
def drive(zygote, cluster):
    """Starts a driver of a sweep over seeds, in a process of its own; none outlives its test."""
    drivers = []

    def start(workdir, *words, runs=RUNS, **options):
        driver = zygote.start(
            "-m", "resjax", "sweep", "--config=experiments/degradation.py",
            "--sweep=seed", f"--seeds={runs}", *SMALL, "--launcher=ray",
            f"--address={cluster.address}", f"--workdir={workdir}", *words, **options,
        )  # fmt: skip
        drivers.append(driver)
        return driver

    yield start
    for driver in drivers:
        if driver.returncode is None:
            driver.kill()
            driver.communicate()


def runs_in(workdir):
    return sorted(path.parent for path in workdir.glob("*/config.json"))


def events(run, *kinds):
    lines = disk.read_lines(run / "timing.jsonl") if (run / "timing.jsonl").exists() else []
    return [line for line in lines if line["event"] in kinds]


def wait_until(condition, looks=12_000):
    """What a condition gives once it is true; no time passes for a machine that stands still."""
    for _ in range(looks):
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def done(workdir):
    return [run for run in runs_in(workdir) if rundir.run_state(run) == rundir.DONE]


def at_work(workdir):
    """{run: its last step that is saved}, of those at work."""
    found = {run: checkpoint.newest(run)[1] for run in runs_in(workdir) if claims.owner(run)}
    return {run: facts.step for run, facts in found.items() if facts and facts.step}


def held(workdir):
    """A run at work that has a checkpoint and is not near its end; its process stands still."""
    for run in at_work(workdir):
        with contextlib.suppress(ConfigError, ProcessLookupError):  # it has ended meanwhile
            process = disk.read_json(run / "claim.json")["pid"]
            os.kill(process, signal.SIGSTOP)
            if run in at_work(workdir) and rundir.read_progress(run).get("step", STEPS) < STEPS / 2:
                return run
            os.kill(process, signal.SIGCONT)
    return None


def process_of(run):
    """Of the run, and of the node that it is on."""
    worker = disk.read_json(run / "claim.json")["pid"]
    return int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])


def result(run):
    content = disk.read_json(run / "result.json")
    del content["seconds"]
    return content, (run / "metrics.jsonl").read_bytes()


class Silent:
    def __getattr__(self, name):
        return lambda *_: None


def planned_by_name(workdir):
    """The work of the planned runs by their names."""
    return {run.name: work for run, work in planned.planned_in(workdir).items()}


@pytest.mark.slow
def test_a_sweep_whose_node_and_driver_are_killed_ends_as_the_local_launcher_does(
    cluster, drive, tmp_path
):
    here, there = tmp_path / "here", tmp_path / "there"
    grid = expand(config_of(), [[{"seed": seed} for seed in range(RUNS)]])
    here.mkdir()
    local.run_sweep({here / name: config for name, config in grid.items()}, Silent())

    driver = drive(there)
    hit = wait_until(lambda: held(there))
    wait_until(lambda: done(there))
    raylet = process_of(hit)
    [node] = [n for n in cluster.nodes if n.all_processes["raylet"][0].process.pid == raylet]
    cluster.kill(node)
    cluster.nodes.remove(node)
    before = len(done(there))
    wait_until(lambda: len(done(there)) > before and at_work(there))
    driver.kill()
    driver.communicate()
    cut = len(done(there))
    assert cut < RUNS
    assert planned_by_name(there) == planned_by_name(here)
    cluster.nodes.append(cluster.add())
    code, output = ended(drive(there))
    assert code == 0, output

    assert [run.name for run in done(there)] == sorted(grid)
    for run in done(there):
        assert result(run) == result(here / run.name), run
        steps = [line["step"] for line in rundir.read_metrics(run)]
        assert steps == list(range(EVERY, STEPS + 1, EVERY))
        checkpoints = [0]
        for event in events(run, "begun", "saved"):
            if event["event"] == "begun":  # the last one may not have been whole
                assert event["step"] in checkpoints[-2:]
            checkpoints.append(event["step"])
    begun = {run: [event["step"] for event in events(run, "begun")] for run in done(there)}
    assert len(begun[there / hit.name]) == 2
    assert begun[there / hit.name][1] > 0
    assert sum(map(len, begun.values())) <= RUNS + 3  # one on the node, two of the driver
    assert output.count("already done") >= cut


@pytest.mark.slow
def test_a_driver_that_is_asked_to_end_has_its_runs_save_their_state(drive, tmp_path):
    """Of runs that are too long to end before; the second driver has them go on from there."""
    words = [f"--config.{key}=100000 steps" for key in ("train.duration", "eval.every")]
    stopped, output = {}, tmp_path / "output"
    for _ in range(2):
        with output.open("w") as file:
            driver = drive(tmp_path / "runs", *words, runs=2, output=file.fileno())
        wait_until(
            lambda: (
                sum(s > stopped.get(run, 0) for run, s in at_work(tmp_path / "runs").items()) == 2
            )
        )
        for step in stopped.values():
            wait_until(lambda step=step: f"goes on from step {step}" in output.read_text())
        driver.send_signal(signal.SIGTERM)
        code, errors = ended(driver)
        assert code == 75, errors
        assert "resume with: resjax sweep" in errors
        for run in runs_in(tmp_path / "runs"):
            *_, (_, begun), (kind, step) = [
                (event["event"], event["step"]) for event in events(run, "begun", "stopped")
            ]
            assert kind == "stopped"
            assert step > begun == stopped.get(run, 0)
            stopped[run] = step
            assert not claims.owner(run)
    assert len(stopped) == 2


@pytest.mark.slow
def test_a_run_that_dies_every_time_stops_after_its_retries_and_the_others_go_on(
    cluster, tmp_path, monkeypatch
):
    short = {"train.duration": "20 steps", "eval.every": "20 steps", "resources.retries": 1}
    runs = {tmp_path / str(seed): config_of(seed, **short) for seed in range(3)}
    sound = launcher.run_there

    def run(place, directory, flat):  # in a worker
        import resjax.runs.together

        def train(run):
            if flat["seed"] == 1:
                raise ZeroDivisionError("in the middle")
            with (run.directory / "attempts").open("a") as file:
                file.write("x")
            os._exit(3)

        if flat["seed"] < 2:
            resjax.runs.together.fit = train
        return sound(place, directory, flat)

    monkeypatch.setattr(launcher, "run_there", run)
    with connected(cluster.address):
        died, raised, whole = launcher.run_on_cluster(runs, Silent())
    assert (tmp_path / "0" / "attempts").read_text() == "xx"
    assert "died 2 times (WorkerCrashedError), more often than resources.retries=1" in died.error
    assert died.error in (tmp_path / "0" / "error.txt").read_text()
    assert raised.error == "ZeroDivisionError: in the middle"
    assert "Traceback" in (tmp_path / "1" / "error.txt").read_text()
    assert whole.summary.steps == 20
    states = [rundir.run_state(directory) for directory in runs]
    assert states == [rundir.FAILED, rundir.FAILED, rundir.DONE]


@pytest.mark.slow
def test_what_no_node_has_is_refused_with_what_the_cluster_offers(drive, tmp_path):
    code, output = ended(drive(tmp_path, "--config.resources.gpus=2"), 60)
    assert code == 2
    assert "needs 1 CPU, 2 GPU, and no node has that; the cluster offers 1 CPU" in output
    code, output = ended(drive(tmp_path, "--config.resources.tpu=TPU-v4-8-head"), 60)
    assert code == 2
    assert "needs 1 CPU, 1 TPU-v4-8-head, and no node has that" in output
    code, output = ended(drive(tmp_path, "--platform=gpu"), 60)
    assert code == 2
    assert "--platform=gpu, and none is reserved for a run; add --config.resources.gpus=1" in output
    assert not runs_in(tmp_path)


@pytest.fixture
def a_slice(cluster):
    """Two hosts that Ray takes for a TPU slice, with four chips each."""
    nodes = [
        cluster.cluster.add_node(
            **cluster.node_settings,
            resources={"TPU": 4} | ({} if number else {"TPU-x-head": 1}),
            labels={"ray.io/tpu-slice-name": "mine", "ray.io/tpu-worker-id": str(number)},
        )
        for number in range(2)
    ]
    yield nodes
    for node in nodes:
        cluster.cluster.remove_node(node)


@pytest.mark.slow
def test_the_hosts_of_a_slice_train_a_run_together(a_slice, drive, tmp_path):
    words = ["--config.resources.tpu=TPU-x-head", "--config.train.duration=40 steps"]
    words += ["--config.eval.every=20 steps", "--config.checkpoint.seconds=60"]
    code, output = ended(drive(tmp_path, *words, runs=2))
    assert code == 0, output
    for run in done(tmp_path):
        execution = disk.read_json(run / "manifest.json")["execution"]
        assert (execution["hosts"], execution["devices"]) == (2, 2)
        assert [line["step"] for line in rundir.read_metrics(run)] == [20, 40]
    assert len(done(tmp_path)) == 2


@pytest.mark.slow
def test_a_run_on_a_slice_goes_on_when_the_process_of_a_host_dies(a_slice, drive, tmp_path):
    words = ["--config.resources.tpu=TPU-x-head", "--config.train.duration=100 steps"]
    words.append("--config.checkpoint.seconds=0.5")
    driver = drive(tmp_path, *words, runs=1)
    [run] = wait_until(lambda: at_work(tmp_path))
    raylet = a_slice[1].all_processes["raylet"][0].process.pid
    [follower] = subprocess.run(
        ["pgrep", "-P", str(raylet), "-f", "ray::run"], capture_output=True, text=True
    ).stdout.split()
    os.kill(int(follower), signal.SIGKILL)
    code, output = ended(driver)
    assert code == 0, output
    begun = [event["step"] for event in events(run, "begun")]
    assert len(begun) == 2
    assert begun[1] > 0
    assert [line["step"] for line in rundir.read_metrics(run)] == [100]


def test_the_port_of_a_slice_is_free_and_none_of_an_outgoing_connection(monkeypatch):
    assert worker.PORTS[-1] < 32_768  # where Linux begins to give out ports, unless told otherwise
    with socket.create_server(("", 0)) as server:
        free = free_port()
        monkeypatch.setattr(worker, "PORTS", [server.getsockname()[1], free])
        assert {worker._free_port() for _ in range(20)} == {free}


def test_a_run_takes_all_chips_of_the_first_host_of_a_slice(monkeypatch):
    nodes = [
        {"Alive": True, "NodeID": "0", "Resources": {"CPU": 8.0, "TPU": 4.0, "TPU-x-head": 1.0}}
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    config = config_of(**{"resources.tpu": "TPU-x-head"})
    assert needs(config) == {"CPU": 1.0, "TPU-x-head": 1.0, "TPU": 4.0}
    refuse_unoffered(config)


def test_a_run_whose_only_node_is_gone_is_not_waited_for_longer_than_was_said(
    tmp_path, monkeypatch
):
    work = launcher._Work({tmp_path: config_of()}, None, Silent())
    work.tasks = {"a task": tmp_path}
    monkeypatch.setattr("ray.nodes", lambda: [])
    work._look()  # it may come back
    work.offered -= launcher.SECONDS_FOR_A_NODE
    with pytest.raises(ConfigError, match="no node has that; the cluster offers nothing"):
        work._look()
    resources = {"CPU": 1.0}
    monkeypatch.setattr(
        "ray.nodes", lambda: [{"Alive": True, "NodeID": "0", "Resources": resources}]
    )
    work._look()  # it did


def test_seeds_side_by_side_are_refused_before_a_cluster_is_asked_for_anything(tmp_path):
    """Also in a grid where only the last run has them."""
    settings = {"a": 0, "b": 1, "c": 4}
    runs = {
        tmp_path / "runs" / name: config_of(**{"train.side_by_side": most})
        for name, most in settings.items()
    }
    work = launcher._Work(runs, None, Silent())
    with pytest.raises(ConfigError, match=r"train.side_by_side=4 has no effect, .*; set it to 0"):
        work.check()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_a_run_is_refused_for_on_a_node_is_told_here(drive, tmp_path):
    code, output = ended(drive(tmp_path, "--config.model.depth=9"), 60)
    assert code == 2
    assert "resjax: CIFAR depth 9 is not 6n+2; nearest: 8" in output


@pytest.mark.slow
def test_a_shortcut_and_a_key_of_the_experiment_file_are_known_on_the_nodes(
    cluster, zygote, tmp_path
):
    assert main(["init", str(tmp_path / "mine")]) == 0
    with (tmp_path / "mine.py").open("a") as file:
        file.write(
            "from resjax.config.keys import KEYS, Key\nKEYS['optim.kept'] = Key(0.5, 'A share.')\n"
        )
    driver = zygote.start(
        "-m", "resjax", "sweep", "--config=mine.py", "--sweep=shortcut",
        "--only=shortcut=half", *SMALL, "--config.train.duration=20 steps",
        "--config.optim.kept=0.25",
        "--launcher=ray", f"--address={cluster.address}", "--workdir=runs", directory=tmp_path,
    )  # fmt: skip
    code, output = ended(driver)
    assert code == 0, output
    [run] = done(tmp_path / "runs")
    assert run.name.partition("-")[0] == "half"
    assert rundir.read_config(run)["optim.kept"] == 0.25


@pytest.mark.parametrize(("address", "message"), [
    ("auto", r"cannot be reached \(Could not find any running Ray instance\)"),
    ("127.0.0.1:1", r"cannot be reached \(Connection refused\); start it with ray start"),
    ("nonsense", "neither auto nor HOST:PORT"),
    ("ray://127.0.0.1:10001", "is that of a client"),
])  # fmt: skip
def test_a_cluster_that_is_out_of_reach_is_told_in_a_line(address, message, monkeypatch):
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda _: None)
    with pytest.raises(ConfigError, match=message), connected(address):
        pass


def test_a_cluster_that_does_not_answer_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(resjax.sweeps.ray.cluster, "SECONDS_TO_ANSWER", 0.2)

    def connect(place, timeout):
        raise TimeoutError(f"{place} {timeout}")

    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ConfigError, match="no answer within"), connected("10.1.2.3:6379"):
        pass


@pytest.mark.parametrize(("said", "message"), [
    (b"", r"no answer within"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "answers there is not Ray"),
], ids=["silent", "web"])  # fmt: skip
def test_a_server_that_is_no_cluster_is_told_from_one(said, message, monkeypatch):
    monkeypatch.setattr(resjax.sweeps.ray.cluster, "SECONDS_TO_ANSWER", 0.5)
    with socket.create_server(("", 0)) as server:

        def accept():
            connection, _ = server.accept()
            connection.sendall(said)
            held.append(connection)

        held = []
        answering = threading.Thread(target=accept)
        answering.start()
        address = f"{socket.gethostbyname(socket.gethostname())}:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match=message), connected(address):
            pass
        answering.join()
        held[0].close()


def test_a_copy_of_the_package_knows_the_commit_of_its_source(monkeypatch):
    expected = {"commit": "c0ffee", "changed": False}
    monkeypatch.setattr(manifest, "git_state", lambda: expected)
    shipped = resjax.sweeps.ray.cluster._shipped()["env_vars"]
    monkeypatch.undo()
    monkeypatch.setenv(manifest.GIT_STATE, shipped[manifest.GIT_STATE])
    assert manifest.describe_machine()["git"] == expected


@pytest.mark.parametrize(("words", "message"), [
    (["--address=auto"], "add --launcher=ray"),
    (["--launcher=ray", "--jobs=2"], "--jobs=2 has no effect"),
    (["--launcher=ray", "--process=1"], "--process has no effect"),
    (["--config.resources.gpus=1.5"], "neither a whole number nor a share"),
])  # fmt: skip
def test_options_that_have_no_effect_are_refused(words, message, capsys, tmp_path):
    words = ["sweep", "--config=experiments/degradation.py", f"--workdir={tmp_path}", *words]
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_resources_are_no_part_of_the_name_of_a_run():
    assert run_id(config_of(**{"resources.gpus": 1.0, "resources.tpu": "x"})) == run_id(config_of())
