from types import SimpleNamespace

import numpy as np
import pytest

from resjax.cli import main as cli
from resjax.cli.commands import sweep
from resjax.config import ConfigError, default_config, flatten, use_own_values
from resjax.config.overrides import override
from resjax.sweeps import grid

AXES = {
    "depth": [{"model.depth": depth} for depth in (8, 20)],
    "shortcut": [{"model.shortcut": kind} for kind in ("none", "identity")],
    "seed": [{"seed": 0}],
}


def expand(names=None, seeds=None):
    return list(grid.expand(default_config(), grid.select_axes(AXES, names, seeds)).values())


def test_the_product_of_all_axes_is_the_default():
    points = [(run.model.depth, run.model.shortcut, run.seed) for run in expand()]
    assert points == [(8, "none", 0), (8, "identity", 0), (20, "none", 0), (20, "identity", 0)]


def test_axes_are_chosen_by_name_and_seeds_widen_the_grid():
    assert [run.model.shortcut for run in expand("shortcut")] == ["none", "identity"]
    assert [(run.model.depth, run.seed) for run in expand("depth", 3)] == [
        (8, 0), (8, 1), (8, 2), (20, 0), (20, 1), (20, 2),
    ]  # fmt: skip


def test_a_widened_grid_holds_the_runs_of_the_smaller():
    few, many = (grid.expand(default_config(), grid.select_axes(AXES, None, n)) for n in (None, 3))
    assert few.keys() < many.keys()


def test_axes_of_an_experiment_are_its_sweep_functions():
    def sweep_depth():
        yield {"model.depth": 8}

    module = SimpleNamespace(sweep_depth=sweep_depth, get_config=None, sweep_count=3)
    assert grid.axes_of(module, default_config()) == {"depth": [{"model.depth": 8}]}


def test_an_axis_may_depend_on_the_config():
    def sweep_depth(config):
        yield {"model.depth": config.model.depth + 6}

    module = SimpleNamespace(sweep_depth=sweep_depth)
    assert grid.axes_of(module, default_config()) == {"depth": [{"model.depth": 26}]}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("optim.learning_rate", np.logspace(-2, -1, 3)),
        ("model.depth", np.arange(8, 21, 6)),
        ("model.branch_scale", np.array([0.5, 2.0], np.float32)),
        ("data.flip", np.array([True, False])),
        ("data.area", [(np.float64(0.5), np.float32(1.0))]),
        ("model.shortcut", np.array(["none", "identity"])),
    ],
)
def test_numbers_of_numpy_are_those_of_python(key, values):
    plain = [tuple(map(float, v)) if isinstance(v, tuple) else v.item() for v in values]
    runs, expected = (
        grid.expand(default_config(), [[{key: value} for value in each]])
        for each in (values, plain)
    )
    assert list(runs) == list(expected)
    for run, value in zip(runs.values(), plain, strict=True):
        assert type(flatten(run)[key]) is type(flatten(default_config())[key])
        config = default_config()
        config.update_from_flattened_dict({key: value})
        assert run == config


def test_a_config_may_hold_numbers_of_numpy():
    config = default_config()
    config.optim.learning_rate = np.float64(0.2)
    config.data.area = (np.float64(0.5), np.float32(1.0))
    use_own_values(config)
    override(config, ["--config.optim.learning_rate=0.3"])
    assert config.optim.learning_rate == 0.3
    assert type(config.optim.learning_rate) is float
    assert repr(config.data.area) == "(0.5, 1.0)"


def test_an_axis_may_yield_one_mapping_that_it_changes_in_between():
    def sweep_depth():
        point = {}
        for depth in (8, 14, 20):
            point["model.depth"] = depth
            yield point

    axis = grid.axes_of(SimpleNamespace(sweep_depth=sweep_depth), default_config())["depth"]
    assert [point["model.depth"] for point in axis] == [8, 14, 20]
    assert len(grid.expand(default_config(), [axis])) == 3


@pytest.mark.parametrize(
    ("names", "seeds", "message"),
    [("deepth", None, "no axis 'deepth'.*nearest: depth"), (None, 0, "--seeds=0")],
)
def test_wrong_axes_are_refused(names, seeds, message):
    with pytest.raises(ConfigError, match=message):
        grid.select_axes(AXES, names, seeds)


def test_an_axis_that_sets_no_key_or_has_no_point_is_refused():
    with pytest.raises(ConfigError, match=r"'model.dpth'; nearest: model.depth"):
        grid.expand(default_config(), [[{"model.dpth": 8}]])
    with pytest.raises(ConfigError, match="no points"):
        grid.expand(default_config(), [AXES["depth"], []])
    with pytest.raises(ConfigError, match=r"an axis sets {'model.depth': 'deep'}"):
        grid.expand(default_config(), [[{"model.depth": "deep"}]])


def of_options(*options, names=None):
    """The runs of an experiment without axes, by options of the command line."""
    config = default_config()
    added = grid.axes_of_options(options, config)
    return list(grid.expand(config, grid.select_axes({}, names, None, (), added)).values())


def test_an_axis_of_the_command_line_has_values_of_the_type_of_its_key():
    runs = of_options("model.depth=8,20", "optim.learning_rate=1,0.5")
    found = [(run.model.depth, run.optim.learning_rate) for run in runs]
    assert found == [(8, 1.0), (8, 0.5), (20, 1.0), (20, 0.5)]
    assert [run.train.duration for run in of_options("train.duration=2 epochs,30 steps")] == [
        "2 epochs", "30 steps",
    ]  # fmt: skip
    assert [run.optim.nesterov for run in of_options("nesterov=true,false")] == [True, False]
    assert [run.data.area for run in of_options("data.area=(0.1,1.0),(0.5,1.0)")] == [
        (0.1, 1.0), (0.5, 1.0),
    ]  # fmt: skip


def test_joined_axes_advance_together():
    runs = of_options("depth=8,20", "learning_rate=0.1,0.2", "seed=0,1",
                      names="model.depth+optim.learning_rate")  # fmt: skip
    found = [(run.model.depth, run.optim.learning_rate, run.seed) for run in runs]
    assert found == [(8, 0.1, 0), (8, 0.1, 1), (20, 0.2, 0), (20, 0.2, 1)]


def test_seeds_advance_with_the_axis_that_they_are_joined_to():
    found = [(run.model.shortcut, run.seed) for run in expand("shortcut+seed,depth", seeds=2)]
    assert found == [("none", 0), ("none", 0), ("identity", 1), ("identity", 1)]


def test_only_some_runs_of_a_grid_are_kept():
    runs = grid.expand(default_config(), grid.select_axes(AXES, None, 2))
    kept = grid.keep_only(runs, ["shortcut=none", "model.depth=8,57"]).values()
    assert [(run.model.shortcut, run.model.depth, run.seed) for run in kept] == [
        ("none", 8, 0), ("none", 8, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), [
    (lambda: of_options("model.dpth=8"), "unknown config key 'model.dpth'; nearest: model.depth"),
    (lambda: of_options("name=cifar"), "write data.name or model.name or optim.name"),
    (lambda: of_options("model.depth"), "is not KEY=VALUE,VALUE"),
    (lambda: of_options("model.depth=deep"), "model.depth=deep is not int; such as model.depth=20"),
    (lambda: of_options("learning_rate=0.1,1e-2", "seed=0", "optim.learning_rate=0.3"),
     "--axis optim.learning_rate is given twice; write --axis optim.learning_rate=0.1,0.01,0.3$"),
    (lambda: of_options("depth=8,20", "seed=1,2,3", names="model.depth+seed"),
     "joins axes of unequal length: model.depth has 2, seed has 3"),
    (lambda: grid.select_axes(AXES, None, None, (), {"model.depth": [{"model.depth": 9}]}),
     "axes 'depth' and 'model.depth' both set model.depth; leave one out with --sweep=shortcut,s"),
    (lambda: expand("shortcut,depth,shortcut"),
     "--sweep=shortcut,depth,shortcut has the axis 'shortcut' twice; leave one out"),
    (lambda: grid.select_axes(AXES, "shortcut+seed,depth", None, (), {"d": AXES["depth"]}),
     "axes 'depth' and 'd' both set model.depth; leave one out with --sweep=shortcut\\+seed,d$"),
    (lambda: grid.select_axes(AXES, "d+seed,depth", None, (), {"d": AXES["depth"]}),
     "axes 'd' and 'depth' both set model.depth; leave one out with --sweep=d\\+seed$"),
    (lambda: grid.select_axes(AXES, None, 2, (), {"seed": [{"seed": 5}]}),
     "--seeds=2 and --axis seed both set seed; leave one out"),
    (lambda: grid.select_axes(AXES, None, 2, ["seed"]),
     "--config.seed has no effect: axis 'seed' sets it; leave --seeds=2 out"),
    (lambda: grid.select_axes(AXES, "depth+seed", None, ["seed"]),
     "--config.seed has no effect: axis 'seed' sets it; leave the axis out with --sweep=depth$"),
    (lambda: grid.keep_only({"a": default_config()}, ["seed=5"]),
     "--only seed=5 leaves no run; seed is 0"),
])  # fmt: skip
def test_wrong_options_of_a_grid_are_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


EXPERIMENT = """
from resjax.config import default_config

def get_config(arg=""):
    config = default_config()
    config.model.width = int(arg or 4)
    return config

def sweep_depth():
    yield from ({"model.depth": depth} for depth in (8, 20))
"""


def test_runs_of_an_experiment_are_those_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "one.py").write_text(EXPERIMENT)
    monkeypatch.chdir(tmp_path)
    commanded = []
    monkeypatch.setattr(sweep, "_work_here", lambda runs, *_: commanded.append(runs) or 0)
    words = ["--config=one.py:2", "--workdir=w", "--seeds=2", "--only", "depth=20", "--axis"]
    words += ["train.batch_size=32,64", "--config.optim.momentum=0.5", "--jobs=1"]
    assert cli.main(["sweep", *words]) == 0
    runs = grid.experiment_runs(
        "one.py:2", "w", seeds=2, added=["train.batch_size=32,64"], only=["depth=20"],
        settings={"optim.momentum": 0.5},
    )  # fmt: skip
    assert len(runs) == 4
    assert [{key: flatten(run) for key, run in runs.items()}] == [
        {key: flatten(run) for key, run in each.items()} for each in commanded
    ]


def test_a_pair_of_numbers_in_two_spellings_is_one_run_of_a_grid(tmp_path):
    (tmp_path / "one.py").write_text(EXPERIMENT)
    axes = {"only": ["depth=8"], "added": ["data.area=(0.25,1.0),(0.25,1)"]}
    [run] = grid.experiment_runs(str(tmp_path / "one.py"), tmp_path / "w", **axes)
    assert run.parent == tmp_path / "w"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.dept": 8}, "settings set unknown key 'model.dept'; nearest: model.depth"),
        ({"model.depth": 8}, "axis 'depth' sets it"),
        ({"model.width": "wide"}, "settings set {'model.width': 'wide'}"),
        ({"optim.momentum": 2.0}, "optim.momentum=2.0"),
    ],
)
def test_wrong_settings_of_an_experiment_are_refused(settings, message, tmp_path):
    (tmp_path / "one.py").write_text(EXPERIMENT)
    with pytest.raises(ConfigError, match=message):
        grid.experiment_runs(str(tmp_path / "one.py"), tmp_path, settings=settings)
