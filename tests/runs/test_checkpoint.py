import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.runs import checkpoint, disk
from resjax.runs.checkpoint import Checkpoints, Facts
from resjax.runs.divergence import Diverged
from resjax.runs.loop import train_and_evaluate
from resjax.training import hosts
from resjax.training.parallel import Parallel


@pytest.fixture
def checkpoints(tmp_path):
    import jax

    writer = Checkpoints(tmp_path, Parallel(tuple(jax.devices()[:1])), keep=2)
    yield writer
    writer.close()


def facts(step, evaluated=0, best=None):
    return Facts(
        run="run", data={}, execution={}, step=step, evaluated=evaluated, grown=False, lines=[],
        best=best or {}, seconds={},
    )  # fmt: skip


STATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": np.int32(7)}}


def save(checkpoints, *arguments, **keywords):
    checkpoints.save(STATE, facts(*arguments, **keywords))
    checkpoints.wait()


def test_what_is_restored_is_what_was_saved(checkpoints, tmp_path):
    save(checkpoints, 10)
    path, found, complaints = checkpoint.newest(tmp_path)
    assert (path.name, found, complaints) == ("10", facts(10), [])
    restored = checkpoints.restore(path, found, STATE)
    np.testing.assert_array_equal(restored["a"], STATE["a"])
    assert (restored["a"].dtype, int(restored["b"]["c"])) == (np.float32, 7)


def test_a_checkpoint_after_an_evaluation_without_a_finite_loss_holds_null(checkpoints, tmp_path):
    line = {"step": 10, "test_loss": math.nan}
    checkpoints.save(STATE, dataclasses.replace(facts(10), lines=[line]))
    checkpoints.wait()
    assert checkpoint.newest(tmp_path)[1].lines == [{"step": 10, "test_loss": None}]


def test_what_is_saved_is_the_state_of_then(checkpoints, tmp_path):
    """A step may take the memory of the state while it is being written."""
    state = {"a": np.zeros(1 << 20, np.float32)}
    checkpoints.save(state, facts(1))
    state["a"][:] = 1.0
    checkpoints.wait()
    path, found, _ = checkpoint.newest(tmp_path)
    assert not np.asarray(checkpoints.restore(path, found, state)["a"]).any()


def test_the_newest_are_kept_and_that_of_the_best_evaluation(checkpoints, tmp_path):
    for step in (10, 20, 30, 40, 50):
        save(checkpoints, step, step, best={"best_step": 20})
    assert [path.name for path in checkpoint.found(tmp_path)] == ["50", "40", "20"]


def test_a_step_is_saved_again_after_its_evaluation_only(checkpoints, tmp_path):
    for evaluated in (0, 0, 10, 10):
        save(checkpoints, 10, evaluated)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["10.2", "10"]
    assert checkpoint.newest(tmp_path)[1].evaluated == 10


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(checkpoints, tmp_path):
    save(checkpoints, 10)
    save(checkpoints, 20)
    files = (tmp_path / "checkpoints/20/state").rglob("*")
    data = max(filter(Path.is_file, files), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    path, _, complaints = checkpoint.newest(tmp_path)
    assert path.name == "10"
    assert len(complaints) == 1
    assert "checkpoint 20 is damaged (state/" in complaints[0]
    assert "another SHA-256" in complaints[0]


def test_a_checkpoint_without_its_last_file_is_none(checkpoints, tmp_path):
    save(checkpoints, 10)
    save(checkpoints, 20)
    (tmp_path / "checkpoints/20/checkpoint.json").unlink()
    assert checkpoint.newest(tmp_path)[0].name == "10"
    checkpoint.remove_partial(tmp_path)
    assert [path.name for path in checkpoint.found(tmp_path)] == ["10"]


def test_a_checkpoint_names_no_file_outside_of_it(checkpoints, tmp_path):
    (tmp_path / "secret").write_text("not yours")
    save(checkpoints, 10)
    path = tmp_path / "checkpoints/10/checkpoint.json"
    content = disk.read_json(path)
    disk.write_json(path, content | {"files": {"../../secret": "0" * 64}})
    with pytest.raises(checkpoint.Damaged, match=r"\.\./\.\./secret is outside of"):
        checkpoint.verified(path.parent)


def test_a_state_of_another_structure_is_refused(checkpoints, tmp_path):
    save(checkpoints, 10)
    path, found, _ = checkpoint.newest(tmp_path)
    with pytest.raises(ConfigError, match="holds another state"):
        checkpoints.restore(path, found, {"a": STATE["a"], "d": STATE["a"]})
    with pytest.raises(ConfigError, match=r"another state \(the shape .* is \(2, 3\), not \(3,\)"):
        checkpoints.restore(path, found, STATE | {"a": STATE["a"][0]})


def test_a_full_disk_is_refused_before_anything_is_written(checkpoints, tmp_path, monkeypatch):
    save(checkpoints, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(OSError, match=r"no space left .* those before are kept"):
        checkpoints.save(STATE, facts(20))
    assert [path.name for path in checkpoint.found(tmp_path)] == ["10"]


# ------------------------------------------------------------------------------------- whole runs


def stopped_at(step, config, run, monkeypatch):
    """A run that was ended after some steps, with a checkpoint of each."""
    monkeypatch.setattr("resjax.runs.loop.SECONDS_BETWEEN_REPORTS", -1.0)

    def observe(progress):
        if progress.step >= step and progress.phase == "training":
            raise KeyboardInterrupt

    often = config.copy_and_resolve_references()
    often.checkpoint.seconds = 0.0
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(often, run, observe)


def test_a_run_goes_on_from_its_checkpoint_to_the_same_end(tiny, tmp_path, monkeypatch):
    expected = train_and_evaluate(tiny, tmp_path / "whole")
    stopped_at(13, tiny, tmp_path / "cut", monkeypatch)
    notes = []
    summary = train_and_evaluate(tiny, tmp_path / "cut", lambda p: notes.append(p.note))
    assert "goes on from step 13" in notes
    assert (summary.train_loss, summary.test_error) == (expected.train_loss, expected.test_error)
    curves = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"optim.name": "adamw", "optim.learning_rate": 0.01, "optim.clip_norm": 0.5,
         "data.mixup": 0.4, "data.cutmix": 1.0, "train.on_nan": "skip"},
    ],
    ids=["sgd", "adamw and mixed"],
)  # fmt: skip
def test_a_grown_run_goes_on_from_before_and_from_after_it_grew(tiny, tmp_path, monkeypatch, keys):
    tiny.update_from_flattened_dict(keys)
    tiny.model.shortcut, tiny.model.depth = "none", 14
    tiny.train.grow_from, tiny.train.grow_at = 8, "10 steps"
    train_and_evaluate(tiny, tmp_path / "whole")
    for step in (5, 15):
        run = tmp_path / str(step)
        stopped_at(step, tiny, run, monkeypatch)
        train_and_evaluate(tiny, run)
        expected = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
        assert (run / "metrics.jsonl").read_bytes() == expected


def test_data_that_have_changed_since_are_refused(tiny, tmp_path, monkeypatch):
    stopped_at(5, tiny, tmp_path, monkeypatch)
    path, *_ = checkpoint.newest(tmp_path)
    content = disk.read_json(path / "checkpoint.json")
    content["data"]["fingerprint"] = "of other data"
    disk.write_json(path / "checkpoint.json", content)
    with pytest.raises(ConfigError, match=r"the data of digits have changed since .* was begun"):
        train_and_evaluate(tiny, tmp_path)


def test_checkpoints_of_another_run_are_refused(tiny, tmp_path, monkeypatch):
    stopped_at(5, tiny, tmp_path, monkeypatch)
    (tmp_path / "config.json").unlink()
    tiny.seed = 9
    with pytest.raises(ConfigError, match="is of another run, identity-8-seed0-"):
        train_and_evaluate(tiny, tmp_path)


def test_a_run_of_a_later_resjax_is_refused(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path)
    path = tmp_path / "config.json"
    content = disk.read_json(path)
    for later in ({"resjax": "99.0"}, {"layout": 99}):
        disk.write_json(path, content | later)
        with pytest.raises(ConfigError, match=r"is of resjax .*, and this is .*; use that version"):
            train_and_evaluate(tiny, tmp_path)


def test_a_run_that_diverges_names_its_last_good_checkpoint(tiny, tmp_path, monkeypatch):
    tiny.optim.schedule, tiny.optim.warmup = "constant", "10 steps"
    tiny.optim.learning_rate, tiny.checkpoint.seconds = 1e12, 0.0
    tiny.optim.warmup_factor = 0.0
    with pytest.raises(Diverged, match=r"steps \d+ and \d+, .* the last checkpoint is of step \d"):
        train_and_evaluate(tiny, tmp_path)


def test_several_hosts_decide_by_the_first_and_leave_for_any(monkeypatch):
    import jax.experimental.multihost_utils as utilities

    told = iter([[[0, 1, 3], [0, 0, 9]], [[0, 0, 1], [1, 0, 9]]])
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 2)
    monkeypatch.setattr(utilities, "process_allgather", lambda own: np.array(next(told)))
    agreement = hosts.Agreement(lambda: False, 60.0)
    decided = [agreement(lambda: None) for _ in range(4)]
    assert decided == [hosts.SAVE, hosts.GO_ON, hosts.GO_ON, hosts.LEAVE]
