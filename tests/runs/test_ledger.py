"""The cost of runs, of which some are really killed."""

import json
import shutil
import signal

import pytest

from resjax.cli.main import main
from resjax.runs import claims, disk, doctor, rundir
from resjax.runs.ledger import Ledger, known_total, read_ledger
from resjax.runs.loop import train_and_evaluate
from resjax.runs.status import look
from tests.durability.attempts import Attempts
from tests.report import fabricate


def spent(run, *kinds):
    """Seconds of a run by its file alone, which is read as any other JSON."""
    lines = map(json.loads, (run / "timing.jsonl").read_text().splitlines())
    return sum(line[kind] for line in lines for kind in kinds)


def counted(run):
    return sum(json.loads((run / "result.json").read_text())["seconds"].values())


def test_status_tells_what_interruptions_cost_if_there_were_any(tmp_path, capsys):
    fabricate.write_run(tmp_path, "whole", 0.1)
    assert main(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("compile 1.0 s, train + eval 2.5 device seconds\n")
    cut = fabricate.begin_run(tmp_path, "cut", seed=1)
    fabricate.note(cut, "saved", 1.0, train=1.5)
    assert main(["status", str(tmp_path)]) == 0
    assert "; 0.5 s lost to 1 interruption\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_without_interruption_lost_nothing_and_its_times_are_those_of_its_result(
    tiny, tmp_path
):
    tiny.checkpoint.seconds = 0.0  # one after every call
    seconds = train_and_evaluate(tiny, tmp_path / "run").seconds
    ledger = read_ledger(tmp_path / "run")
    assert (ledger.lost_seconds, ledger.interruptions) == (0.0, 0)
    assert ledger.compile_seconds == pytest.approx(seconds["compile"], abs=1e-5)
    assert ledger.device_seconds == pytest.approx(seconds["train"] + seconds["eval"], abs=1e-5)
    assert spent(tmp_path / "run", "compile", "train", "eval") == pytest.approx(
        sum(seconds.values())
    )


@pytest.mark.slow
def test_a_run_that_was_killed_lost_what_its_result_does_not_count(zygote, tmp_path):
    run = tmp_path / "run"
    keys = {"train.duration": "400 steps", "eval.every": "50 steps", "checkpoint.seconds": 1e6}
    kill, attempt = (signal.SIGKILL, "training", 120, 0.0), Attempts(zygote)
    assert attempt(keys, run, send=kill, write_every=0.0)[0] == -9
    assert attempt(keys, run)[0] == 0
    events = [line["event"] for line in disk.read_lines(run / "timing.jsonl")]
    assert events[events.index("killed") + 1] == "begun"
    ledger = read_ledger(run)
    in_vain = spent(run, "compile", "train", "eval") - counted(run)
    assert ledger.interruptions == 1
    assert ledger.lost_seconds == pytest.approx(in_vain, abs=1e-5)
    # There was no checkpoint: all of the first attempt is lost, which two evaluations are part of.
    lines = disk.read_lines(run / "timing.jsonl")
    first = lines[: events.index("killed") + 1]
    assert sum(line["event"] == "evaluated" for line in first) >= 2
    whole = sum(line[kind] for line in first for kind in ("compile", "train", "eval"))
    assert ledger.lost_seconds == pytest.approx(whole, abs=1e-5)
    assert ledger.lost_seconds > 0
    assert ledger.device_seconds == pytest.approx(spent(run, "train", "eval"), abs=1e-5)


@pytest.mark.slow
def test_a_run_that_was_stopped_lost_only_starting_again(zygote, tmp_path):
    """It saved its state: no step is repeated, and all steps count in the result."""
    run = tmp_path / "run"
    keys = {"train.duration": "300 steps", "eval.every": "300 steps", "checkpoint.seconds": 1e6}
    attempt = Attempts(zygote)
    assert attempt(keys, run, send=(signal.SIGTERM, "training", 60, 0.0))[0] == 75
    assert attempt(keys, run)[0] == 0
    lines = disk.read_lines(run / "timing.jsonl")
    [stop] = [n for n, line in enumerate(lines) if line["event"] == "stopped"]
    assert lines[stop]["step"] == lines[stop + 1]["step"] > 0
    again = next(line["compile"] for line in lines[stop + 2 :] if line["compile"])
    starting = lines[stop + 1]["compile"] + again
    waiting = lines[stop]["train"]  # until the state that was saved was on the disk
    assert read_ledger(run).lost_seconds == pytest.approx(starting + waiting, abs=1e-5)
    assert starting > 0
    trained = disk.read_json(run / "result.json")["seconds"]["train"]
    assert trained == pytest.approx(spent(run, "train") - waiting, abs=1e-5)


def note(run, event, train, counted, **more):
    seconds = {"compile": 1.0, "train": train, "eval": 0.0, "counted": counted}
    disk.append_line(run / "timing.jsonl", {"event": event, **seconds, **more})


def test_an_interruption_counts_before_the_run_goes_on(tiny, tmp_path):
    rundir.begin_run(tmp_path, tiny)
    note(tmp_path, "begun", 0.0, 1.0, devices=1)
    with claims.claimed(tmp_path):
        assert read_ledger(tmp_path).interruptions == 0
    note(tmp_path, "stopped", 10.0, 12.0)
    assert read_ledger(tmp_path).interruptions == 1  # it waits
    with claims.claimed(tmp_path):
        note(tmp_path, "begun", 0.0, 12.0, devices=1)
        assert read_ledger(tmp_path).interruptions == 1  # the same, after which it went on
    assert read_ledger(tmp_path).interruptions == 2  # killed, with no time to note it
    (tmp_path / "error.txt").write_text("the loss became nan")
    assert read_ledger(tmp_path).interruptions == 1


def test_each_attempt_counts_its_own_devices(tmp_path):
    note(tmp_path, "begun", 0.0, 1.0, devices=8)
    note(tmp_path, "saved", 10.0, 12.0)
    note(tmp_path, "killed", 5.0, 12.0)
    note(tmp_path, "begun", 0.0, 12.0, devices=2)
    note(tmp_path, "done", 20.0, 32.0)
    assert read_ledger(tmp_path) == Ledger(8 * 15.0 + 2 * 20.0, 5.0, 40.0 - 32.0, 1)


def test_seconds_that_count_and_that_no_line_tells_of_are_no_ledger(tmp_path):
    note(tmp_path, "begun", 0.0, 1.0, devices=1)
    note(tmp_path, "evaluated", 9.0, 11.0)
    assert read_ledger(tmp_path).lost_seconds == 0.0
    note(tmp_path, "begun", 0.0, 30.0, devices=1)  # from a checkpoint after lines that are gone
    assert read_ledger(tmp_path) is None


@pytest.fixture
def cut(tiny, tmp_path, monkeypatch):
    """A run that was ended at step 15, with a checkpoint of about that."""
    monkeypatch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)
    tiny.checkpoint.seconds = 0.0

    def observe(progress):
        if progress.step >= 15 and progress.phase == "training":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(tiny, tmp_path / "cut", observe)
    return tmp_path / "cut"


def events(run):
    return [line["event"] for line in disk.read_lines(run / "timing.jsonl")]


@pytest.mark.slow
def test_a_line_that_was_half_written_is_as_if_it_had_never_been(tiny, tmp_path, cut):
    whole = tmp_path / "whole"
    shutil.copytree(cut, whole)
    with (cut / "timing.jsonl").open("ab") as file:
        file.write((cut / "timing.jsonl").read_bytes().split(b"\n")[-2][:-7])
    assert read_ledger(cut) == read_ledger(whole)
    found = doctor.examine(cut)
    assert (found.state, found.step) == ("interrupted", doctor.examine(whole).step)
    assert look(cut).resumed == 0
    for run in (cut, whole):
        train_and_evaluate(tiny, run)
    assert [*dict.fromkeys(events(cut))] == [*dict.fromkeys(events(whole))]
    ledger = read_ledger(cut)
    assert (ledger.interruptions, events(cut).count("begun")) == (1, 2)
    in_vain = spent(cut, "compile", "train", "eval") - counted(cut)
    assert ledger.lost_seconds == pytest.approx(in_vain, abs=1e-5)


DAMAGE = {
    "last": lambda lines: [*lines[:-1], lines[-1][:20]],
    "between": lambda lines: [lines[0], lines[1].replace(b'"train"', b'"trein"'), *lines[2:]],
    "first": lambda lines: [b"\x00\xff\xfe", *lines[1:]],
}
"""Of lines that are whole."""


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_makes_the_cost_unknown_and_a_run_goes_on_and_says_where_it_was(
    tiny, tmp_path, cut, damage, capsys
):
    train_and_evaluate(tiny, tmp_path / "whole")
    path = cut / "timing.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    path.write_bytes(b"".join(line + b"\n" for line in DAMAGE[damage](lines)))
    assert read_ledger(cut) is None
    assert main(["status", str(tmp_path)]) == 0
    assert "1 done, 1 interrupted" in capsys.readouterr().out
    found = doctor.examine(cut)
    assert (found.state, found.damaged) == ("damaged", [])
    assert found.advice.startswith("start it again: it resumes from checkpoint ")

    train_and_evaluate(tiny, cut)  # as it says
    metrics = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("cut", "whole")]
    assert metrics[0] == metrics[1]
    assert doctor.examine(cut).state == "done"
    place = {"last": len(lines) - 1, "between": 1, "first": 0}[damage]
    assert [n for n, event in enumerate(events(cut)) if event == "damaged"] == [place]
    assert read_ledger(cut) is None  # what the line told is not made up
    assert main(["status", str(tmp_path)]) == 0


def test_of_a_run_that_is_done_damaged_times_may_be_removed(tiny, tmp_path, capsys):
    run = tmp_path / "run"
    train_and_evaluate(tiny, run)
    with (run / "timing.jsonl").open("a") as file:
        file.write("garbage\n")
    assert main(["doctor", str(run)]) == 1
    path = run / "timing.jsonl"
    assert doctor.examine(run).advice.startswith(
        f"remove {path}: it only records what the run has cost"
    )
    assert main(["status", str(run)]) == 0
    path.unlink()
    assert main(["doctor", str(run)]) == 0
    assert read_ledger(run) is None
    assert "1 done" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "", "{\n", '{"event": "begun"}\n'])
def test_times_that_are_not_there_or_damaged_are_no_ledger(tmp_path, content):
    if content is not None:
        (tmp_path / "timing.jsonl").write_text(content)
    assert read_ledger(tmp_path) is None


def test_a_total_is_of_the_ledgers_that_are_known():
    assert known_total([Ledger(1.0, 2.0, 3.0, 1), None, Ledger(0.5, 0.5, 0.5, 2)]) == Ledger(
        1.5, 2.5, 3.5, 3
    )
    assert known_total([]) == Ledger()
