from types import SimpleNamespace

import pytest

from resjax.config import ConfigError, default_config
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
