"""The grids of the experiments are those of the papers."""

from pathlib import Path

import pytest

from resjax.cli.commands.experiment import read_experiment
from resjax.config import ConfigError, default_config, flatten
from resjax.config.naming import deciding_keys
from resjax.runs import disk, rundir
from resjax.sweeps import experiment, grid
from resjax.training.plan import make_plan

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def runs_of(reference):
    module, config = experiment.load_experiment(str(EXPERIMENTS / reference))
    axes = grid.select_axes(grid.axes_of(module, config), None, None)
    return list(grid.expand(config, axes).values())


def test_identity_mappings_has_the_rows_of_tables_1_and_2():
    """He et al. 2016: nine rows of table 1 and five of table 2, which share the original unit."""
    runs = runs_of("identity_mappings.py:cifar10")
    assert len(runs) == 13
    assert {run.model.depth for run in runs} == {110}
    orders = [run.model.order for run in runs if run.model.shortcut == "identity"]
    assert orders == ["post", "bn_after_add", "relu_before_add", "relu_preact", "preact"]
    others = [
        (run.model.shortcut, run.model.shortcut_scale, run.model.branch_scale, run.model.gate_bias)
        for run in runs
        if run.model.shortcut in ("scaled", "exclusive_gate", "shortcut_gate")
    ]
    assert others == [
        ("scaled", 0.5, 1.0, -6.0), ("scaled", 0.5, 0.5, -6.0),
        ("exclusive_gate", 0.5, 0.5, 0.0), ("exclusive_gate", 0.5, 0.5, -6.0),
        ("shortcut_gate", 0.5, 0.5, 0.0), ("shortcut_gate", 0.5, 0.5, -6.0),
    ]  # fmt: skip
    kinds = [run.model.shortcut for run in runs]
    assert kinds.count("projection_all") == kinds.count("dropout") == 1


@pytest.mark.parametrize("size", ["digits", "shapes", "cifar10"])
@pytest.mark.parametrize("name", ["identity_vs_projection", "identity_mappings"])
def test_an_experiment_has_the_recipe_of_the_degradation_of_its_size(name, size, monkeypatch):
    runs, recipe = runs_of(f"{name}.py:{size}"), runs_of(f"degradation.py:{size}")[0]
    swept = {"model.depth", "model.shortcut", "seed"}
    same = {"data.name", "optim.learning_rate", "train.duration", "train.batch_size", "data.pad"}
    for run in runs:
        assert {key: flatten(run)[key] for key in same - swept} == {
            key: flatten(recipe)[key] for key in same - swept
        }
    if size == "digits":
        for run in runs:
            make_plan(run)
    if name == "identity_vs_projection":
        assert {run.model.shortcut for run in runs} == {"identity", "projection", "projection_all"}
        seeds = {run.seed for run in runs}
        assert len(seeds) >= 3  # so that differences have intervals


@pytest.mark.parametrize("name", ["degradation", "identity_vs_projection"])
def test_the_files_of_cifar_have_the_depths_of_its_prepared_set(name):
    def runs(**settings):
        found = grid.experiment_runs(f"{EXPERIMENTS / name}.py:cifar10", "runs", settings=settings)
        return {(run.model.depth, run.model.shortcut, run.seed) for run in found.values()}

    assert runs(**{"data.name": "cifar:cifar-10-python.tar.gz"}) == runs()


@pytest.mark.parametrize("size", ["digits", "shapes"])
def test_the_modern_recipe_is_one_for_plain_and_identity_networks(size):
    """Arms differ in their shortcut and depth alone, for three seeds each."""
    runs = runs_of(f"modern_recipe.py:{size}")
    arms = {(run.model.shortcut, run.model.depth, run.seed) for run in runs}
    assert len(arms) == len(runs) == 18
    recipes = set()
    for run in runs:
        flat = flatten(run) | {"model.shortcut": "", "model.depth": 0, "seed": 0}
        recipes.add(str(sorted(flat.items())))
        assert (run.optim.name, run.optim.schedule) == ("adamw", "cosine")
        assert min(run.optim.clip_norm, run.data.mixup, run.data.cutmix) > 0
        assert run.train.label_smoothing > 0
    assert len(recipes) == 1
    if size == "digits":
        make_plan(runs[0])


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "a\0b", "..", "x" * 300, "é/\n"])
def test_a_run_stays_in_its_sweep_whatever_its_shortcut_is_named(tmp_path, shortcuts, name):
    path = tmp_path / "experiment.py"
    path.write_text(
        "from resjax.config import default_config\n"
        "from resjax.models.shortcuts import SHORTCUTS, Identity\n"
        "class Mine(Identity):\n    ...\n"
        f"SHORTCUTS.update({{{name!r}: Mine, {name + '+'!r}: Mine}})\n"
        f"def get_config():\n    return default_config()\n"
        f"def sweep_shortcut():\n    for name in ({name!r}, {name + '+'!r}):\n"
        "        yield {'model.shortcut': name}\n"
    )
    workdir = tmp_path / "a" / "sweep"
    runs = grid.experiment_runs(str(path), workdir)
    assert len(runs) == 2  # names that become alike have another hash
    for run in runs:
        run.mkdir(parents=True)
        assert run.resolve().parent == workdir
        assert not run.name.startswith(".")


def test_an_experiment_file_gives_the_directory_of_its_runs_a_plain_name(tmp_path):
    for file, name in (("mine.py", "mine"), ("my mine.py", "my mine"), ("...py", "_")):
        (tmp_path / file).write_text("from resjax.config import default_config as get_config\n")
        assert read_experiment([f"--config={tmp_path / file}"])[0] == name


def test_the_config_of_a_run_is_an_experiment_of_that_one_run(tmp_path):
    config = runs_of("identity_mappings.py:digits")[-1]
    config.train.duration = "3 epochs"
    directory = tmp_path / "mine"
    directory.mkdir()
    rundir.begin_run(directory, config)
    words = [f"--config={directory / 'config.json'}", "--config.seed=7"]
    _, module, read, overridden = read_experiment(words)
    assert overridden == ["seed"]
    assert deciding_keys(read) == deciding_keys(config) | {"seed": 7}
    assert type(read.optim.milestones) is type(config.optim.milestones)
    assert grid.axes_of(module, read) == {}


def test_a_key_of_an_experiment_file_in_a_recorded_config_is_told_with_the_file(tmp_path):
    rundir.begin_run(tmp_path, default_config())
    recorded = disk.read_json(tmp_path / "config.json")
    recorded["model.alpha"] = 0.5
    recorded["added_keys"] = {"model.alpha": {"default": 0.5, "file": "mine.py"}}
    disk.write_json(tmp_path / "config.json", recorded)
    with pytest.raises(ConfigError, match=r"mine\.py"):
        read_experiment([f"--config={tmp_path / 'config.json'}"])


def test_a_config_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run in"):
        read_experiment([f"--config={tmp_path / 'config.json'}"])
