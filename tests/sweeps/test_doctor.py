import os

import pytest

from resjax.cli import main
from resjax.config import ConfigError
from resjax.sweeps import doctor
from resjax.training import claims, rundir
from resjax.training.loop import Diverged, train_and_evaluate


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
        "unfinished", "start it again: it goes on from checkpoint 20",
    )  # fmt: skip
    assert found.why.startswith("ended without a word")
    rundir.append_line(done / "timing.jsonl", {"event": "stopped", "at": 0, "why": "SIGTERM"})
    assert doctor.examine(done).why == "stopped by SIGTERM"


def test_a_run_at_work_is_left_alone(done):
    (done / "result.json").unlink()
    with claims.claimed(done):
        found = doctor.examine(done)
        assert found.state == "running"
        assert f"process {os.getpid()}" in found.why
        assert found.partial == []


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl", "manifest.json", "config.json"])
def test_a_damaged_file_is_named_with_what_to_do(done, name):
    path = done / name
    path.write_text(path.read_text().replace("0", "1", 1).replace('"train', '"trein', 1))
    found = doctor.examine(done)
    assert found.state == "damaged"
    assert str(path) in found.why
    remedy = f"remove {done} and" if name == "config.json" else f"remove {done / 'result.json'} and"
    assert remedy in found.advice


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


def test_a_damaged_checkpoint_makes_the_exit_code_1(done, capsys):
    data = next(path for path in (done / "checkpoints/20/state").rglob("*") if path.is_file())
    data.write_bytes(data.read_bytes() + b"x")
    assert main(["doctor", str(done.parent)]) == 1
    assert "checkpoint 20: state/" in capsys.readouterr().out
    assert data.exists()


def test_a_directory_without_runs_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run in .*; start with"):
        doctor.examine_all(tmp_path)
