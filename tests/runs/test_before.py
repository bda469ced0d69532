"""Runs that an earlier version left are read, reported and resumed as its own.

`before.zip` has two runs of `CONFIG`: `done`, and `cut`, which was killed after step 14.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from resjax.cli.main import main
from resjax.config import default_config
from resjax.config.naming import run_id
from resjax.report.runs import read_runs
from resjax.runs import doctor
from resjax.runs.loop import train_and_evaluate
from resjax.runs.summary import read_summary
from resjax.runs.weights import paths, read_weights
from tests.durability.attempts import TINY

CONFIG = TINY | {"train.duration": "20 steps", "eval.every": "10 steps", "log.writers": ()}


@pytest.fixture
def before(tmp_path):
    with zipfile.ZipFile(Path(__file__).with_name("before.zip")) as archive:
        archive.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def config():
    config = default_config()
    config.update_from_flattened_dict(CONFIG)
    return config


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_its_name_and_its_result_are_what_they_were(before, config):
    result = json.loads((before / "done" / "result.json").read_text())
    assert run_id(config) == json.loads((before / "done" / "manifest.json").read_text())["run"]
    summary = train_and_evaluate(config, before / "done")  # nothing is trained again
    assert summary == read_summary(before / "done")
    assert (summary.train_error, summary.params) == (result["train_error"], result["params"])


def test_it_is_reported_and_whole(before, capsys):
    done, missing = read_runs(before / "done")
    assert [run.name for run in done] == ["done"]
    assert len(done[0].curve) == 2
    assert not missing
    assert not any(doctor.examine(before / name).damaged for name in ("done", "cut"))
    assert main(["report", str(before / "done")]) == 0
    assert "identity" in capsys.readouterr().out


def test_its_weights_are_read(before):
    weights = read_weights(before / "done")
    assert sum(leaf.size for leaf in paths(weights.variables).values()) > 1320
    assert len(weights.about.class_names) == 10


def test_it_goes_on_from_its_checkpoint(before, config):
    """To what the run that was not cut ended with; another machine may round differently."""
    recorded, told = lines(before / "cut"), []
    train_and_evaluate(config, before / "cut", lambda progress: told.append(progress.note))
    assert any(note and note.startswith("goes on from step 14") for note in told)
    assert lines(before / "cut")[: len(recorded)] == recorded
    ended, expected = (read_weights(before / name) for name in ("cut", "done"))
    for path, leaf in paths(expected.variables).items():
        ours = np.asarray(paths(ended.variables)[path])
        scale = float(np.abs(leaf).max())
        np.testing.assert_allclose(ours, leaf, 0, 1e-3 * scale, err_msg=path)
