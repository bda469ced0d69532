import dataclasses
import importlib.util
import json
import math
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.config import default_config, flatten
from resjax.config.validation import validate
from resjax.models.build import build_model
from resjax.report.reference.published import published
from resjax.report.replication import (
    AGREES,
    HIGHER,
    LOWER,
    error_of_median,
    replications,
    standard_score,
)
from resjax.report.runs import read_runs
from resjax.report.sorting import arm_tables
from resjax.report.stats import summarise
from resjax.report.tables import references
from resjax.runs import disk
from tests.report.fabricate import write_run

CIFAR10 = Path(__file__).parents[2] / "experiments" / "cifar10.py"


def find(where, depth, **config):
    wanted = {key.replace("__", "."): value for key, value in config.items()}
    found = [
        figure
        for figure in published()
        if figure.where == where
        and figure.config["model.depth"] == depth
        and all(figure.config[key] == value for key, value in wanted.items())
    ]
    assert len(found) == 1
    return found[0]


def write(workdir, figure, errors, **changed):
    """Runs of the recipe of a published figure."""
    config = figure.config | {key.replace("__", "."): value for key, value in changed.items()}
    defaults = flatten(default_config())
    keys = {k.replace(".", "__"): tuple(v) if isinstance(v, list) else v
            for k, v in config.items() if v != defaults[k] and k != "seed"}  # fmt: skip
    for seed, error in enumerate(errors):
        write_run(workdir, f"run{seed}", error - 0.01, seed=seed, **keys)


def replicated(workdir):
    return replications(arm_tables(*read_runs(workdir))[0])


def test_figures_are_those_of_the_papers():
    assert find("table 6", 56).error == pytest.approx(0.0697)
    mean = find("table 6", 110)
    assert (mean.error, mean.deviation, mean.runs) == pytest.approx((0.0661, 0.0016, 5))
    preact = find("table 4", 1001, data__name="cifar10")
    assert (preact.error, preact.statistic, preact.runs) == (pytest.approx(0.0492), "median", 5)
    assert (preact.deviation, preact.config["model.order"]) == (pytest.approx(0.0014), "preact")
    assert find("table 2", 34, model__shortcut="none").error == pytest.approx(0.2854)
    assert find("table 1", 110, model__shortcut="projection_all").error == pytest.approx(0.1222)


def test_every_figure_is_of_a_net_and_a_recipe_that_can_be_run():
    for figure in published():
        config = default_config()
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in figure.config.items()}
        config.update_from_flattened_dict(values)
        validate(config)
        build_model(config, 10)
        assert 0 < figure.error < 1
        assert figure.source.count(" ") or figure.source.startswith("github.com/")


def test_bottlenecks_of_the_papers_have_projections_and_the_stride_in_their_first_layer():
    """He et al. 2015, section 4.1, and 2016, appendix."""
    papers = [figure.config for figure in published() if figure.source.startswith("He,")]
    deep = [
        config
        for config in papers
        if config["model.block"] == "bottleneck"
        or (config["model.name"] == "imagenet" and config["model.depth"] > 34)
    ]
    assert len(deep) == 14
    for config in deep:
        assert (config["model.shortcut"], config["model.stride_in"]) == ("projection", "1x1")


def test_every_entry_of_the_file_is_used():
    text = resources.files("resjax.report.reference").joinpath("published.json").read_text("utf-8")
    content = json.loads(text)
    assert {figure["source"] for figure in content["figures"]} == content["sources"].keys()
    assert {figure["recipe"] for figure in content["figures"]} == content["recipes"].keys()
    for recipe in content["recipes"].values():
        assert recipe.keys() <= flatten(default_config()).keys()


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, AGREES), (0.001, AGREES), (0.02, HIGHER), (-0.02, LOWER)]
)
def test_a_run_of_the_published_recipe_has_a_verdict(tmp_path, shift, verdict):
    figure = dataclasses.replace(find("table 6", 56))
    errors = [figure.error + shift + spread for spread in (-0.002, 0.0, 0.002)]
    write(tmp_path, figure, errors, eval__every="1000 steps")
    (row,) = [row for row in replicated(tmp_path) if row.published.where == "table 6"]
    assert row.differs == ""
    assert row.difference == pytest.approx(shift)
    assert row.z == pytest.approx(shift / (0.002 * math.sqrt(1 / 3 + 1)), abs=1e-9)
    assert row.verdict == verdict


def test_cifar_in_the_files_of_its_authors_is_the_published_data(tmp_path):
    """The manifest says which of the two sets it was."""
    figure, name = find("table 6", 56), "cifar:data/cifar-10-python.tar.gz"
    errors = [figure.error + spread for spread in (-0.002, 0.0, 0.002)]
    write(tmp_path, figure, errors, eval__every="1000 steps", data__name=name)
    for classes, agree in ((10, ["table 6"]), (100, [])):
        for path in tmp_path.glob("*/manifest.json"):
            manifest = disk.read_json(path)
            manifest["data"]["classes"] = classes
            disk.write_json(path, manifest)
        rows = [row for row in replicated(tmp_path) if row.verdict == AGREES and not row.differs]
        assert [row.published.where for row in rows] == agree
    for path in tmp_path.glob("*/manifest.json"):
        path.unlink()
    assert replicated(tmp_path) == []


def test_another_recipe_has_no_verdict_and_says_what_differs(tmp_path):
    figure = find("table 6", 56)
    write(tmp_path, figure, [0.07, 0.071], train__duration="1000 steps", optim__nesterov=True)
    row = replicated(tmp_path)[0]
    assert (row.z, row.verdict) == (None, None)
    assert row.differs == (
        "optim.nesterov True, not False; train.duration 1000 steps, not 64000 steps"
    )
    text = references([row]).rows[0]
    assert text[-1].startswith("no verdict, recipes differ: optim.nesterov True")


def test_a_selected_evaluation_is_not_compared_with_a_final_one(tmp_path):
    write(tmp_path, find("table 6", 56), [0.07], eval__select="best")
    assert all(row.verdict is None for row in replicated(tmp_path))


def test_another_net_or_other_data_has_no_row(tmp_path):
    write(tmp_path, find("table 6", 56), [0.07], model__width=8)
    assert replicated(tmp_path) == []
    write_run(tmp_path, "digits", 0.1)
    assert replicated(tmp_path) == []


def test_one_run_and_one_published_run_have_no_verdict(tmp_path):
    write(tmp_path, find("table 6", 56), [0.08])
    (row,) = [row for row in replicated(tmp_path) if row.published.where == "table 6"]
    assert (row.differs, row.verdict) == ("", None)
    assert "run more seeds" in references([row]).rows[0][-1]


def test_the_score_is_that_of_the_two_sample_t_test():
    figure = find("table 6", 110)
    ours = [0.062, 0.064, 0.067, 0.065]
    z, margin = standard_score(summarise(ours), sum(ours) / 4, figure)
    described = summarise(ours)
    expected = scipy_stats.ttest_ind_from_stats(
        described.mean, described.deviation, 4, figure.error, figure.deviation, 5
    )
    assert z == pytest.approx(expected.statistic)
    assert margin == pytest.approx(scipy_stats.t.ppf(0.975, 7))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_medians_have_the_error_of_simulated_ones(n):
    drawn = np.random.default_rng(0).normal(size=(40_000, n))
    simulated = np.median(drawn, 1).std() / drawn.mean(1).std()
    assert error_of_median(n) == pytest.approx(simulated, rel=0.015)
    figure = find("table 4", 1001, data__name="cifar10")
    sample = dataclasses.replace(summarise([0.05, 0.051, 0.052]), n=n)
    scores = [
        standard_score(sample, 0.051, dataclasses.replace(figure, statistic=statistic))[0]
        for statistic in ("mean", "median")
    ]
    errors = [(1 / n + 1 / 5), error_of_median(n) ** 2 / n + error_of_median(5) ** 2 / 5]
    assert scores[0] / scores[1] == pytest.approx(math.sqrt(errors[1] / errors[0]))


def test_the_recipe_of_the_experiment_is_that_of_the_paper():
    spec = importlib.util.spec_from_file_location("cifar10", CIFAR10)
    experiment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(experiment)
    for depth in (20, 56, 110):
        ours, theirs = flatten(experiment.get_config(str(depth))), find("table 6", depth).config
        assert {key for key in ours if ours[key] != theirs[key]} == {"eval.every"}
