"""One call of a notebook trains what is missing, says how far it is, and returns the report."""

import csv
import os
import sys

import pytest

import resjax
from resjax.buckets.store import Store
from resjax.config import ConfigError
from resjax.config.addresses import Address
from resjax.notebook import sweep
from resjax.runs import claims, rundir
from tests.report.fabricate import begin_run, write_run, write_sweep

EXPERIMENT = """
from resjax.config import default_config

def get_config():
    config = default_config()
    config.model.depth, config.model.width = 8, 2
    config.train.batch_size, config.train.duration = 100, "5 steps"
    return config

def sweep_shortcut():
    for shortcut in ("none", "identity"):
        yield {"model.shortcut": shortcut}
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(EXPERIMENT)
    return str(path)


@pytest.fixture
def lines(monkeypatch):
    """What stands under the cell, one after another."""
    said = []

    class Handle:
        def display(self, data, raw):
            said.append(data["text/plain"])

        update = display

    monkeypatch.setattr("IPython.display.DisplayHandle", Handle)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # as in a kernel
    return said


@pytest.mark.slow
def test_a_sweep_is_trained_once_and_reported(experiment, tmp_path, lines):
    report = sweep(experiment, tmp_path / "runs")
    assert [run.shortcut for run in report.runs] == ["identity", "none"]
    assert lines[0] == "2 runs: 2 waiting"
    assert lines[-1] == "2 runs: 2 done"
    results = sorted((tmp_path / "runs").glob("*/result.json"))
    before = [path.stat().st_mtime_ns for path in results]
    wider = sweep(experiment, tmp_path / "runs", seeds=2, only=["shortcut=none"])
    assert len(wider.runs) == 3
    assert [path.stat().st_mtime_ns for path in results] == before


@pytest.mark.slow
def test_a_run_that_fails_is_named_and_the_rest_is_reported(experiment, tmp_path, lines):
    report = sweep(
        experiment, tmp_path / "runs", only=["shortcut=none"],
        added=["optim.learning_rate=0.05,1e20"],
    )  # fmt: skip
    assert len(report.runs) == 1
    assert [run.state for run in report.missing] == [rundir.FAILED]
    assert lines[-1].startswith("2 runs: 1 done, 1 failed\n")
    assert "failed: the training loss" in lines[-1]


def test_a_run_that_cannot_be_is_refused_before_any_is_trained(experiment, tmp_path, lines):
    with pytest.raises(ConfigError, match="CIFAR depth 57"):
        sweep(experiment, tmp_path / "runs", settings={"model.depth": 57})
    assert not lines
    assert not (tmp_path / "runs").exists()


def test_what_is_asked_for_is_what_is_run_and_reported_in_a_claim(
    experiment, tmp_path, lines, monkeypatch
):
    asked, prepared = [], []
    monkeypatch.setattr("resjax.notebook.run_sweep", lambda *arguments: asked.append(arguments))
    for name in ("set_up", "enable_cache"):
        monkeypatch.setattr(f"resjax.notebook.{name}", lambda name=name: prepared.append(name))
    monkeypatch.setattr("resjax.notebook.write_report", claims.owner)

    def swept(**options):
        assert str(os.getpid()) in sweep(experiment, tmp_path, **options)
        runs, _, retry, _ = asked.pop()
        return retry, sorted(
            (run.model.shortcut, run.train.batch_size, run.model.width, run.seed)
            for run in runs.values()
        )

    with open(experiment, "a") as file:
        file.write("\ndef sweep_width():\n    yield {'model.width': 4}\n")
    assert swept() == (False, [("identity", 100, 4, 0), ("none", 100, 4, 0)])
    assert prepared == ["set_up", "enable_cache"]
    assert swept(axes="shortcut", retry=True) == (
        True, [("identity", 100, 2, 0), ("none", 100, 2, 0)]
    )  # fmt: skip
    assert swept(
        axes="width", added=["train.batch_size=20,30"], seeds=2, only=["seed=1"],
        settings={"model.shortcut": "none"},
    ) == (False, [("none", 20, 4, 1), ("none", 30, 4, 1)])  # fmt: skip


@pytest.mark.slow
def test_a_script_is_told_on_the_terminal_and_has_a_table_and_verdicts(
    experiment, tmp_path, monkeypatch, capsys
):
    pandas = pytest.importorskip("pandas")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    report = resjax.sweep(experiment, tmp_path / "runs")
    assert "2/2 identity-8-seed0" in capsys.readouterr().err
    table = report.table
    with (tmp_path / "runs" / "report" / "results.csv").open() as file:
        [head, *rows] = csv.reader(file)
    assert [table.index.name, *table.columns] == head
    assert list(table.index) == [row[0] for row in rows]
    pandas.testing.assert_series_equal(
        table["train_error"], pandas.read_csv(tmp_path / "runs" / "report" / "results.csv",
                                              index_col="run")["train_error"],
    )  # fmt: skip
    read = resjax.read_sweep(str(tmp_path / "runs"))
    pandas.testing.assert_frame_equal(read.table, table)
    assert read.verdicts == report.verdicts


def test_a_sweep_is_read_without_writing(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1, 0.1], ("none", 56): [0.4, 0.41]})
    before = sorted(tmp_path.rglob("*"))
    [verdict] = resjax.read_sweep(tmp_path).verdicts
    assert "degrades with depth" in verdict.line
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_has_the_verdicts_of_all_recipes_and_the_runs_without_a_result(tmp_path):
    pytest.importorskip("pandas")
    for size in (32, 64):
        for depth, error in ((8, 0.1), (56, 0.4)):
            keys = {"model__depth": depth, "train__batch_size": size}
            write_run(tmp_path, f"{size}-{depth}", error, model__shortcut="none", **keys)
    begin_run(tmp_path, "begun", model__shortcut="none", train__batch_size=32)
    report = resjax.read_sweep(tmp_path)
    assert [verdict.arm for verdict in report.verdicts] == ["batch_size=32", "batch_size=64"]
    assert sorted(report.table.index) == ["32-56", "32-8", "64-56", "64-8", "begun"]
    assert list(report.table.index[report.table.train_error.isna()]) == ["begun"]
    assert report.table.state["begun"] == "interrupted"


def test_tables_without_pandas_say_what_to_install(tmp_path, monkeypatch):
    write_sweep(tmp_path, {("none", 8): [0.1]})
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[pandas\]'"):
        resjax.read_sweep(tmp_path).table  # noqa: B018 - it is made


@pytest.mark.slow
def test_a_sweep_in_a_bucket_writes_its_report_there(
    experiment, one_bucket, fresh, tmp_path, lines, monkeypatch
):
    monkeypatch.setattr("resjax.runs.scratch.cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr("resjax.buckets.places.cache_directory", lambda: tmp_path / "cache")
    address = one_bucket.address(fresh)
    assert len(sweep(experiment, address, only=["shortcut=identity"]).runs) == 1
    names = [entry.name for entry in Store(Address.of(address)).list("report")]
    assert "report/index.html" in names
