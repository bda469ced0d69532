"""A run goes on where there are other devices, and on several hosts, which leave together."""

import signal
import time

import numpy as np
import pytest

from resjax.runs import disk, rundir
from tests.durability.attempts import Attempts
from tests.durability.test_kill import arrays
from tests.ports import free_port
from tests.training.test_hosts import resjax


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_run_goes_on_from_8_devices_on_1_and_back(zygote, tmp_path):
    """In float64 to 1e-9 over 20 steps, with a line that says that the bits may differ."""
    keys = {"model.dtype": "float64", "train.duration": "20 steps", "eval.every": "10 steps"}
    run, whole = tmp_path / "run", tmp_path / "whole"
    one = Attempts(zygote)
    eight = Attempts(zygote, {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"})
    assert one(keys, whole, x64=True)[0] == 0
    notes = []
    for attempt, step in ((eight, 6), (one, 13), (eight, None)):
        send = {"send": (signal.SIGTERM, "training", step, 0.0)} if step else {}
        status, told = attempt(keys, run, x64=True, **send)
        assert status == (75 if step else 0), told[-1]
        notes += [fact["note"] for fact in told if fact.get("note")]
    assert "the bits may be others, since devices is 8 before, 1 now" in notes[0]
    assert "devices is 1 before, 8 now" in notes[1]
    (_, state), (_, expected) = arrays(run), arrays(whole)
    assert state.keys() == expected.keys()
    for name, array in state.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-9, atol=1e-9, err_msg=name)


STEPS = 60

SWEEP = (
    "sweep", "--config=experiments/degradation.py", "--sweep=seed", "--config.model.depth=8",
    "--config.model.width=2", f"--config.train.duration={STEPS} steps",
    "--config.eval.every=20 steps",
)  # fmt: skip


@pytest.mark.slow
def test_two_hosts_of_which_one_is_asked_to_end_leave_at_the_same_step_and_go_on(zygote, tmp_path):
    def start():
        place = ("--processes=2", f"--coordinator=localhost:{free_port()}", "--connect-timeout=60")
        words = (*SWEEP, f"--workdir={tmp_path}", *place)
        return [resjax(zygote, *words, f"--process={number}") for number in range(2)]

    processes = start()
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/events.*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)  # the one that writes nothing
    ended = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    assert [code for *_, code in ended] == [75, 75], ended
    assert all("resume with: resjax sweep" in error for _, error, _ in ended)
    run = next(tmp_path.glob("*/config.json")).parent
    stopped = disk.read_lines(run / "timing.jsonl")[-1]
    assert (stopped["event"], stopped["why"]) == ("stopped", "another host")
    assert stopped["step"] < STEPS
    for process in (again := start()):
        process.communicate(timeout=300)
    assert [process.returncode for process in again] == [0, 0]
    begun = [line["step"] for line in disk.read_lines(run / "timing.jsonl")
             if line["event"] == "begun"]  # fmt: skip
    assert begun == [0, stopped["step"]]
    steps = [line["step"] for line in rundir.read_metrics(run)]
    assert steps == list(range(20, STEPS + 1, 20))
