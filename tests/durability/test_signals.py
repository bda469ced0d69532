"""Asked to end, a run saves its state and leaves, whatever it does, and goes on when started."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resjax.runs import checkpoint, disk, rundir
from tests.durability.attempts import Attempts
from tests.durability.test_kill import TWO_DEVICES, assert_same_end

KEYS = {"train.duration": "30 steps", "eval.every": "10 steps", "checkpoint.seconds": 1e6}

UNCACHED = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
"""So that compiling takes seconds."""

ROOT = Path(__file__).parents[2]

UNFINISHED = 75

PAIR = [0, 5]


@pytest.fixture(scope="module")
def attempt(zygote):
    return Attempts(zygote)


@pytest.fixture(scope="module")
def whole(attempt, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    assert attempt(KEYS, run)[0] == 0
    return run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
@pytest.mark.parametrize(
    ("number", "phase", "step"),
    [
        (signal.SIGTERM, "training", 1),
        (signal.SIGINT, "training", 25),
        (signal.SIGTERM, "evaluating", 20),
        (signal.SIGHUP, "training", 12),
        (signal.SIGUSR1, "evaluating", 10),
    ],
)
def test_a_signal_ends_a_run_within_seconds_and_loses_no_step(
    attempt, whole, tmp_path, number, phase, step
):
    run, seen = tmp_path / "run", []

    def act(told):
        if told.get("phase") == phase and told["step"] >= step:
            seen.append(time.monotonic())

    status, told = attempt(KEYS, run, act, send=(number, phase, step, 0.0))
    assert status == UNFINISHED, told[-1]
    assert time.monotonic() - seen[0] < 10
    assert rundir.run_state(run) == rundir.UNFINISHED
    last = disk.read_lines(run / "timing.jsonl")[-1]
    assert (last["event"], last["why"]) == ("stopped", signal.Signals(number).name)
    assert step <= last["step"] < 30
    status, told = attempt(KEYS, run)
    assert status == 0
    reached = next(fact["step"] for fact in told if fact.get("phase") == "training")
    assert reached == last["step"] + 1
    assert any(f"goes on from step {last['step']}" in str(fact.get("note")) for fact in told)
    assert_same_end(run, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_signal_ends_a_run_that_compiles_which_starts_anew(zygote, attempt, whole, tmp_path):
    run, seen = tmp_path / "run", []
    status, told = Attempts(zygote, UNCACHED)(
        KEYS,
        run,
        lambda told: seen.append(time.monotonic()),
        send=(signal.SIGTERM, "compiling", 0, 0.2),
    )
    assert status == UNFINISHED, told[-1]
    assert time.monotonic() - seen[0] < 10
    assert {fact["phase"] for fact in told} == {"compiling"}
    assert rundir.run_state(run) == rundir.UNFINISHED
    assert attempt(KEYS, run)[0] == 0
    assert_same_end(run, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_signal_while_a_checkpoint_is_written_waits_for_it(attempt, whole, tmp_path):
    run = tmp_path / "run"
    keys = KEYS | {"checkpoint.seconds": 0.0}  # at every step, so nearly always
    status, _ = attempt(keys, run, send=(signal.SIGTERM, "training", 5, 0.03))
    assert status == UNFINISHED
    assert attempt(KEYS, run)[0] == 0
    assert_same_end(run, whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_a_group_on_two_devices_that_is_asked_to_end_loses_no_step_of_any_run(zygote, tmp_path):
    """While it trains, and between the probes of two runs; each run is what it is alone."""
    keys = KEYS | {
        "model.dtype": "float64", "train.side_by_side": 2, "train.duration": "20 steps",
        "eval.probes": "gradients,branches", "eval.probe_examples": 64,
    }  # fmt: skip
    whole, cut, alone = (tmp_path / name for name in ("whole", "cut", "alone"))
    attempt = Attempts(zygote, TWO_DEVICES)
    assert attempt(keys, whole, seeds=PAIR, x64=True)[0] == 0
    for phase, step in (("training", 7), ("evaluating", 10)):
        send = signal.SIGTERM, phase, step, 0.0
        status, told = attempt(keys, cut, send=send, seeds=PAIR, x64=True)
        assert status == UNFINISHED, told[-1]
        runs = [cut / str(seed) for seed in PAIR]
        assert {rundir.run_state(run) for run in runs} == {rundir.UNFINISHED}
        stops = [disk.read_lines(run / "timing.jsonl")[-1] for run in runs]
        assert {(stop["event"], stop["why"]) for stop in stops} == {("stopped", "SIGTERM")}
        [reached] = {stop["step"] for stop in stops}
        assert step <= reached < 20
        assert [checkpoint.newest(run)[1].step for run in runs] == [reached] * 2
    status, told = attempt(keys, cut, seeds=PAIR, x64=True)
    assert status == 0, told[-1]
    notes = [fact["note"] for fact in told if fact.get("note")]
    assert notes == [f"goes on from step {reached}"] * 2
    own = keys | {"train.side_by_side": 1, "seed": PAIR[1]}
    assert attempt(own, alone, x64=True)[0] == 0
    for seed in PAIR:
        assert_same_end(cut / str(seed), whole / str(seed))
        probes = [(run / str(seed) / "probes.jsonl").read_bytes() for run in (cut, whole)]
        assert probes[0] == probes[1]
        execution = disk.read_json(cut / str(seed) / "manifest.json")["execution"]
        assert (execution["devices"], execution["side_by_side"]) == (2, PAIR)
    for name in ("metrics.jsonl", "probes.jsonl"):  # after 10 steps
        got, expected = (disk.read_lines(run / name)[0] for run in (whole / str(PAIR[1]), alone))
        assert_close(got, expected)


def assert_close(got, expected):
    """All numbers of two objects, to 1e-9 of the largest of an array."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_close(got[name], value)
        else:
            scale = np.abs(value).max()
            np.testing.assert_allclose(got[name], value, 0, 1e-9 * scale, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("clear", "expected"), [
    ("sys.stderr.write('cleared')", "cleared\nstopped at once"),
    ("time.sleep(60)", "\nstopped at once"),  # a terminal that does not answer
])  # fmt: skip
def test_what_is_drawn_on_the_terminal_is_cleared_before_the_last_words(clear, expected):
    code = (
        "import os, signal, sys, time\n"
        "from resjax.interruption import cleared_at_the_end, deferred, interruptible\n"
        f"with interruptible(75, 'last words'), cleared_at_the_end(lambda: {clear}):\n"
        "    with deferred():\n"
        "        for _ in range(2): os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2)\n"
        "        time.sleep(60)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 75
    assert done.stderr.startswith(expected)


ASKED = (
    "import os, signal, time\n"
    "from resjax.interruption import deferred, interruptible\n"
    "with interruptible(75, 'last words'):\n"
    "    with deferred() as request:\n"
    "        request.patience = 30\n"
    "        for number in ({signals}): os.kill(os.getpid(), number); time.sleep(0.2)\n"
    "        print(request.name if request() else 'not asked')\n"
)
"""A process that is sent signals, and is still there to tell what it has noted."""


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "told"), [
    ("signal.SIGHUP, signal.SIGHUP, signal.SIGTERM", "SIGHUP"),  # a terminal that is closed
    ("signal.SIGUSR1, signal.SIGUSR1, signal.SIGINT", "SIGUSR1"),
    ("signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP", "SIGUSR1"),  # Slurm, ahead of the end
    ("signal.SIGTERM, signal.SIGUSR1", "SIGTERM"),
    ("signal.SIGUSR1, signal.SIGTERM, signal.SIGINT", ""),
])  # fmt: skip
def test_a_warning_may_come_again_and_who_insists_ends_the_process(signals, told):
    done = subprocess.run(
        [sys.executable, "-c", ASKED.format(signals=signals)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == (told, 0 if told else 75), done.stderr


def test_under_nohup_a_terminal_may_be_closed():
    code = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    code += ASKED.format(signals="signal.SIGHUP,")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.stdout, done.returncode) == ("not asked\n", 0), done.stderr


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
def test_a_terminal_that_is_gone_fails_nobody(told):
    """What is written after it was closed goes nowhere, also while no signal has told of that."""
    own = "fcntl.ioctl(0, termios.TIOCSCTTY, 0)" if told else "pass"
    code = (
        "import fcntl, os, sys, termios, time\n"
        f"{own}\n"
        "from resjax.cli.terminal.closed import outliving\n"
        "from resjax.interruption import deferred, interruptible\n"
        "sys.stdout, sys.stderr = map(outliving, (sys.stdout, sys.stderr))\n"
        "with interruptible(75, 'last words'):\n"
        "    with deferred() as request:\n"
        "        print('ready', flush=True)\n"
        "        while os.isatty(1): time.sleep(0.01)\n"
        "        for stream in (sys.stdout, sys.stderr): print('more', file=stream, flush=True)\n"
        f"        while request() != {told}: time.sleep(0.01)\n"
        "        sys.exit(75)\n"
    )
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=child, stdout=child, stderr=child,
        start_new_session=True,
    )  # fmt: skip
    os.close(child)
    assert b"ready" in os.read(parent, 100)
    os.close(parent)  # the kernel sends SIGHUP
    assert process.wait(timeout=300) == 75


UNHEARD = (
    "import sys\n"
    "from resjax.cli.terminal.closed import outliving\n"
    "print('ready', flush=True)\n"
    "sys.stdin.read()\n"
    "sys.stdout, sys.stderr = {}, outliving(sys.stderr)\n"
    "for stream in (sys.stderr, sys.stdout): print('more', file=stream, flush=True)\n"
    "sys.exit(75)\n"
)
"""A process that prints after the reader of its output has gone."""


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(("stdout", "code"), [("outliving(sys.stdout)", 75), ("sys.stdout", 1)])
def test_a_pipe_that_nobody_reads_fails_who_does_not_outlive_it(stdout, code, buffered):
    options = [] if buffered else ["-u"]
    process = subprocess.Popen(
        [sys.executable, *options, "-c", UNHEARD.format(stdout)], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    process.stdin.close()
    assert process.wait(timeout=300) == code


@pytest.mark.slow
def test_a_run_trains_on_when_nobody_reads_its_output(tmp_path):
    words = [
        sys.executable, "-m", "resjax", "train", "--config=experiments/degradation.py",
        "--config.model.depth=8", "--config.model.width=2", "--config.train.duration=20 steps",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert "1 device" in process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=300) == 0
    assert rundir.run_state(tmp_path / "run") == rundir.DONE
