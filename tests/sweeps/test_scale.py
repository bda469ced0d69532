"""What the commands of a sweep do once, however many runs a grid has; no timing decides."""

from pathlib import Path

import pytest

from resjax.cli.main import main
from resjax.config import flatten
from resjax.models import trace
from resjax.runs import plans
from resjax.sweeps import local
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.grid import axes_of, expand, select_axes
from tests.report.fabricate import write_run

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

SHORTCUTS, DEPTHS, SEEDS = 4, 3, 5


@pytest.fixture
def words(tmp_path):
    """Of a sweep over all that the experiment has, and seeds."""
    return ["sweep", f"--config={EXPERIMENT}", f"--seeds={SEEDS}", f"--workdir={tmp_path}"]


def write_all(workdir):
    """All runs of that sweep, as if they were done."""
    module, config = load_experiment(str(EXPERIMENT))
    for name, own in expand(config, select_axes(axes_of(module, config), None, SEEDS)).items():
        keys = {key.replace(".", "__"): value for key, value in flatten(own).items()}
        write_run(workdir, name, 0.01 * (1 + own.seed), **keys)


def counting(monkeypatch, module, name):
    """The calls of a function."""
    calls, function = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given: calls.append(given) or function(*given))
    return calls


@pytest.mark.slow
def test_a_network_is_counted_once_for_all_its_seeds_and_learning_rates(words, capsys):
    trace._trace.cache_clear()
    assert main([*words, "--dry-run", "--axis=optim.learning_rate=0.01,0.02,0.05"]) == 0
    assert trace._trace.cache_info().misses == SHORTCUTS * DEPTHS
    assert f"{SHORTCUTS * DEPTHS * SEEDS * 3} runs: " in capsys.readouterr().out


@pytest.mark.slow
def test_a_sweep_of_which_all_is_done_trains_nothing_and_plans_no_seed_on_its_own(
    words, tmp_path, monkeypatch, capsys
):
    write_all(tmp_path)
    planned = counting(monkeypatch, plans, "make_plan")
    monkeypatch.setattr(local, "train_side_by_side", lambda runs, *_: {} if not runs else None)
    read = counting(monkeypatch, local, "read_summary")
    assert main(words) == 0
    assert len(planned) == SHORTCUTS * DEPTHS
    runs = SHORTCUTS * DEPTHS * SEEDS
    assert len(read) == 2 * runs  # before the first run, and where it would be trained
    assert capsys.readouterr().err.count("already done") == runs


@pytest.mark.slow
def test_a_sweep_that_changed_nothing_leaves_its_report_and_one_that_did_writes_it(
    words, tmp_path, capsys
):
    write_all(tmp_path)

    def swept():
        assert main(words) == 0
        assert f"report: {tmp_path / 'report' / 'index.html'}" in capsys.readouterr().out
        return written(tmp_path / "report")

    first = swept()
    assert len(first) == 4 + 9
    assert swept() == first
    write_run(tmp_path, "another", 0.5, data__name="shapes")
    changed = swept()
    assert changed.keys() > first.keys()  # those of another table
    assert all(changed[path] > first[path] for path in first)
    assert main(["report", str(tmp_path)]) == 0  # which is asked for, and so written
    assert all(when > changed[path] for path, when in written(tmp_path / "report").items())


def written(directory):
    """When each file was, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*.*")}
