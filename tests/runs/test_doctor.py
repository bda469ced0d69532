import itertools
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.runs import checkpoint, claims, disk, doctor, rundir, status
from resjax.runs.divergence import Diverged
from resjax.runs.loop import train_and_evaluate
from resjax.sweeps import local
from tests.report.fabricate import write_run


@pytest.fixture
def done(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path / "done")
    return tmp_path / "done"


def test_a_run_that_is_done_and_whole_needs_nothing(done):
    found = doctor.examine(done)
    assert (found.state, found.step, found.why, found.advice) == ("done", 20, "", "")
    assert (found.whole, found.damaged, found.partial) == (["20"], [], [])
    assert found.age < 60
    assert found.size == sum(p.stat().st_size for p in done.rglob("*") if p.is_file())


def test_a_run_that_failed_tells_why(tiny, tmp_path):
    tiny.optim.learning_rate = 1e20
    with pytest.raises(Diverged):
        train_and_evaluate(tiny, tmp_path / "failed")
    found = doctor.examine(tmp_path / "failed")
    assert found.state == "failed"
    assert found.why.startswith("the training loss became")
    assert "--retry" in found.advice


def test_a_run_that_was_killed_or_stopped_says_so_and_from_where_it_goes_on(done):
    (done / "result.json").unlink()
    found = doctor.examine(done)
    assert (found.state, found.advice) == (
        "interrupted", "start it again: it resumes from checkpoint 20",
    )  # fmt: skip
    assert found.why.startswith("ended without a message")
    disk.append_line(done / "timing.jsonl", {"event": "stopped", "at": 0, "why": "SIGTERM"})
    assert doctor.examine(done).why == "stopped: SIGTERM"


def test_a_run_at_work_is_left_alone(done):
    (done / "result.json").unlink()
    rundir.write_progress(done, {"phase": "evaluating"})
    with claims.claimed(done):
        found = doctor.examine(done)
        assert found.state == status.look(done).state == "evaluating"
        assert f"process {os.getpid()}" in found.why
        assert found.partial == []


def test_what_a_run_removes_while_it_is_examined_is_not_missed(done, tmp_path):
    (done / "result.json").unlink()
    rundir.write_progress(done, {"phase": "evaluating"})
    ended = threading.Event()

    def run():
        for step in itertools.takewhile(lambda _: not ended.is_set(), itertools.count(21)):
            new = shutil.copytree(done / "checkpoints/20", tmp_path / f"new{step}")
            checkpoint.remove(new.rename(done / f"checkpoints/{step}"))

    with claims.claimed(done), ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        try:
            found = [doctor.examine(done) for _ in range(50)]
        finally:
            ended.set()
        running.result()
    assert {each.state for each in found} == {"evaluating"}
    assert [each.damaged for each in found if each.damaged] == []


def test_a_checkpoint_that_is_gone_before_it_is_verified_is_not_damaged(done, monkeypatch):
    verified = checkpoint.verified

    def too_late(path):
        checkpoint.remove(path)
        return verified(path)

    monkeypatch.setattr(checkpoint, "verified", too_late)
    found = doctor.examine(done)
    assert (found.whole, found.damaged) == ([], [])


def test_repair_leaves_alone_what_was_completed_or_removed_meanwhile(done):
    facts = done / "checkpoints/20/checkpoint.json"
    content = facts.read_bytes()
    facts.unlink()
    (done / ".result.json.partial").write_text("{")
    found = doctor.examine(done)
    assert len(found.partial) == 2
    facts.write_bytes(content)
    (done / ".result.json.partial").unlink()
    assert doctor.repair(found) == []
    assert doctor.examine(done).whole == ["20"]


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "manifest.json", "config.json"])
def test_a_damaged_file_is_named_with_what_to_do(done, name):
    path = done / name
    path.write_text(path.read_text().replace("0", "1", 1).replace('"train', '"trein', 1))
    found = doctor.examine(done)
    assert found.state == "damaged"
    assert str(path) in found.why
    remedy = f"remove {done} and" if name == "config.json" else f"remove {done / 'result.json'} and"
    assert remedy in found.advice


@pytest.mark.parametrize("name", ["config.json.d", "timing.jsonl", "probes.jsonl"])
def test_the_advice_does_not_depend_on_the_name_of_a_directory(done, tmp_path, name):
    (tmp_path / name).mkdir()
    run = done.rename(tmp_path / name / "weights.safetensors has values that are old")
    (run / "metrics.jsonl").write_text("{}\n")
    advice = doctor.examine(run).advice
    assert advice == f"remove {run / 'result.json'} and start it again: checkpoint 20 is whole"


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "weights.safetensors"])
def test_a_file_that_is_gone_is_named_with_what_to_do(tiny, done, name, capsys):
    (done / name).unlink()
    assert main(["doctor", str(done.parent)]) == 1
    assert name in capsys.readouterr().out
    found = doctor.examine(done)
    assert found.state == "damaged"
    if name == "config.json":
        assert found.advice == f"remove {done} and start it again"
        assert main(["status", str(done.parent)]) == 0
        assert f"done: {done / name} is missing beside other files" in capsys.readouterr().out
        with pytest.raises(ConfigError, match=r"config.json is missing beside"):
            train_and_evaluate(tiny, done)
        return
    assert found.advice.startswith(f"remove {done / 'result.json'} and start it again")
    (done / "result.json").unlink()
    train_and_evaluate(tiny, done)
    assert doctor.examine(done).state == "done"


@pytest.mark.parametrize("gone", [0, 1, -1, slice(None)], ids=str)
def test_lines_of_the_times_that_are_gone_are_seen(done, gone):
    path = done / "timing.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[gone]
    path.write_bytes(b"".join(lines))
    found = doctor.examine(done)
    assert (found.state, found.why) == (
        "damaged", f"cannot read {path} (it is not what the run wrote)",
    )  # fmt: skip
    assert found.advice.startswith(f"remove {path}")


DEEP = b"[" * 3000 + b"]" * 3000


@pytest.mark.parametrize("name", [
    "config.json", "manifest.json", "result.json", "metrics.jsonl", "timing.jsonl", "claim.json",
    "progress.json", "left_out.json", "imported.json", "error.txt", "probes.jsonl",
    "checkpoints/1/checkpoint.json",
])  # fmt: skip
@pytest.mark.parametrize("content", [
    DEEP + b"\n", b'{"a":' * 990 + b"1" + b"}" * 990 + b"\n", b"\xff\xfe\x80\n",
], ids=["list", "objects", "bytes"])  # fmt: skip
@pytest.mark.parametrize("ended", [True, False])
def test_no_file_of_a_run_is_a_traceback(tmp_path, name, content, ended, capsys, monkeypatch):
    monkeypatch.setattr("resjax.report.report.FIGURES", {})  # which take long to draw
    run = write_run(tmp_path, "run", 0.1)
    write_run(tmp_path, "other", 0.1, seed=1)
    if not ended:
        (run / "result.json").unlink()
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(content)
    for command in (["doctor"], ["status"], ["status", "--json"], ["report"]):
        assert main([*command, str(tmp_path)]) in (0, 1, 2)
    assert "Traceback" not in capsys.readouterr().err
    states = ("done", "failed", "unfinished", "imported")
    if name == "claim.json" and not ended:  # a damaged claim stands until it is stale
        assert local.state_and_reason(run)[0] == local.RUNNING
        os.utime(run / name, (0, 0))
    assert local.state_and_reason(run)[0] in states


@pytest.mark.slow
@pytest.mark.parametrize("damage", [
    lambda text: text.replace("0", "1", 1), lambda text: text[:-9], lambda text: text + "{}\n",
], ids=["changed", "cut off", "added to"])  # fmt: skip
def test_lines_of_probes_are_verified(tiny, tmp_path, damage, capsys):
    tiny.eval.probes, tiny.eval.probe_examples = "responses", 20
    train_and_evaluate(tiny, tmp_path / "probed")
    assert doctor.examine(tmp_path / "probed").state == "done"
    path = tmp_path / "probed" / "probes.jsonl"
    path.write_text(damage(path.read_text()))
    found = doctor.examine(tmp_path / "probed")
    assert found.state == "damaged"
    assert found.why.startswith(f"cannot read {path} (")
    assert found.advice.startswith(f"remove {path}: ")
    assert main(["doctor", str(tmp_path)]) == 1
    path.unlink()
    assert main(["doctor", str(tmp_path)]) == 0


def test_following_the_advice_brings_the_run_back(tiny, done):
    expected = (done / "metrics.jsonl").read_bytes()
    (done / "metrics.jsonl").write_bytes(expected[:50])
    assert doctor.examine(done).advice.startswith(f"remove {done / 'result.json'}")
    (done / "result.json").unlink()
    train_and_evaluate(tiny, done)
    assert (done / "metrics.jsonl").read_bytes() == expected
    assert doctor.examine(done).state == "done"


def test_repair_removes_what_is_partial_and_nothing_else(done, capsys):
    whole = {path for path in done.rglob("*") if path.is_file()}
    (done / ".result.json.partial").write_text("{")
    (done / "checkpoints" / "30" / "state").mkdir(parents=True)
    (done / "checkpoints" / "30" / "state" / "array").write_text("...")
    assert len(doctor.examine(done).partial) == 2
    assert main(["doctor", str(done), "--repair"]) == 0
    told = capsys.readouterr()
    assert told.err.count("removed: ") == 2
    assert "1 run: 1 done" in told.out
    assert {path for path in done.rglob("*") if path.is_file()} == whole


def test_a_damaged_checkpoint_makes_the_exit_code_1_until_it_is_removed(done, capsys):
    data = next(path for path in (done / "checkpoints/20/state").rglob("*") if path.is_file())
    data.write_bytes(data.read_bytes() + b"x")
    assert main(["doctor", str(done.parent)]) == 1
    told = capsys.readouterr().out
    assert "checkpoint 20: state/" in told
    assert f"; remove {done / 'checkpoints/20'}, which nothing needs\n" in told
    assert data.exists()
    shutil.rmtree(done / "checkpoints/20")
    assert main(["doctor", str(done.parent)]) == 0


def test_a_directory_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run in .*; start with"):
        doctor.examine_all(tmp_path)
