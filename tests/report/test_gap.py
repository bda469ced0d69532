import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.cli.main import main
from resjax.config import default_config, flatten
from resjax.report.arms import Cell
from resjax.report.degradation import (
    DEGRADES,
    DOES_NOT,
    UNDECIDED,
    degradation,
    headline,
    verdicts,
)
from resjax.report.report import read_sweep, write_report
from resjax.report.runs import Run, read_runs
from resjax.report.sorting import arm_tables
from resjax.runs.summary import Summary
from tests.report.fabricate import begin_run, fail_run, write_run, write_sweep


def said(workdir):
    return {verdict.arm: verdict for verdict in verdicts(table_of(workdir))}


def table_of(workdir):
    return arm_tables(*read_runs(workdir))[0]


def test_gap_is_paired_by_seed_and_its_interval_is_that_of_the_t_test(tmp_path):
    deep, shallow = [0.50, 0.58, 0.61], [0.02, 0.05, 0.03]
    write_sweep(tmp_path, {("none", 56): deep, ("none", 20): shallow})
    gap = said(tmp_path)["plain"].gap
    expected = scipy_stats.ttest_rel(deep, shallow).confidence_interval(0.95)
    assert gap.best == 20
    assert gap.gap == pytest.approx(np.mean(deep) - np.mean(shallow))
    assert gap.interval == pytest.approx(tuple(expected))
    assert gap.verdict == DEGRADES


def test_with_several_shallower_depths_the_interval_holds_all_their_gaps_at_once(tmp_path):
    deep, middle, shallow = [0.50, 0.58, 0.61], [0.02, 0.05, 0.03], [0.04, 0.03, 0.11]
    write_sweep(tmp_path, {("none", 56): deep, ("none", 20): middle, ("none", 8): shallow})
    gap = said(tmp_path)["plain"].gap
    ends = [scipy_stats.ttest_rel(deep, other).confidence_interval(1 - 0.05 / 2)
            for other in (middle, shallow)]  # fmt: skip
    assert (gap.best, gap.compared) == (20, 2)
    assert gap.interval == pytest.approx((max(e[0] for e in ends), max(e[1] for e in ends)))


def nets(errors):
    """A cell for each row of `errors`, `[depths, seeds]`."""
    flat = flatten(default_config())
    manifest = {"data": {"train": 10**6}}
    cells = []
    for place, row in enumerate(errors):
        runs = []
        for seed, error in enumerate(row):
            config = flat | {"seed": seed, "model.depth": 8 + place}
            summary = Summary(error, 0.0, 0.0, 0.0, 1, 1, 1, {})
            runs.append(Run("", config, {}, summary, [], manifest))
        cells.append(Cell("plain", 8 + place, tuple(runs)))
    return cells


@pytest.mark.slow
@pytest.mark.parametrize(("depths", "highest"), [(2, 0.97), (4, 1.0)])
def test_the_interval_of_a_gap_covers_it_though_the_best_net_is_chosen_by_what_is_compared(
    depths, highest
):
    """Equal nets: the true gap is zero, and the gap to the best of them is above it by choice."""
    random = np.random.default_rng(0)
    drawn = [degradation(nets(random.normal(0.3, 0.02, (depths, 4)))) for _ in range(2000)]
    covered = np.mean([gap.interval[0] < 0 < gap.interval[1] for gap in drawn])
    assert 0.93 < covered < highest
    assert np.mean([gap.verdict == DEGRADES for gap in drawn]) < 0.035
    if depths > 2:
        assert np.mean([gap.gap for gap in drawn]) > 0.005


def test_the_numbers_of_a_verdict_are_of_the_seeds_that_both_depths_have(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.3, 0.6, 0.9], ("none", 20): [0.0, 0.5]})
    write_run(tmp_path, "other", 0.0, model__shortcut="none", model__depth=8, seed=2)
    write_run(tmp_path, "another", 0.0, model__shortcut="none", model__depth=14, seed=9)
    verdict = said(tmp_path)["plain"]
    gap = verdict.gap
    assert (gap.seeds, gap.best, gap.compared) == ((0, 1), 20, 1)
    assert (gap.deepest_error, gap.best_error) == pytest.approx((0.45, 0.25))
    assert "points (56 layers 45.00 %, 20 layers 25.00 %; 2 seeds" in verdict.line


def test_the_gap_is_the_largest_of_the_differences_that_its_interval_holds(tmp_path):
    """The shallower net with the lowest error shares other seeds with the deepest."""
    write_sweep(tmp_path, {("none", 56): [0.10, 0.30, 0.90], ("none", 8): [0.10, 0.10]})
    for seed in (1, 2):
        write_run(tmp_path, f"{seed}", 0.11, model__shortcut="none", model__depth=20, seed=seed)
    verdict = said(tmp_path)["plain"]
    gap = verdict.gap
    assert (gap.best, gap.seeds, gap.compared) == (20, (1, 2), 2)
    assert (gap.deepest_error, gap.best_error) == pytest.approx((0.60, 0.11))
    pairs = ([0.10, 0.30], [0.10, 0.10]), ([0.30, 0.90], [0.11, 0.11])
    ends = [scipy_stats.ttest_rel(*pair).confidence_interval(1 - 0.05 / 2) for pair in pairs]
    low, high = max(low for low, _ in ends), max(high for _, high in ends)
    assert gap.interval == pytest.approx((max(-1.0, low), min(1.0, high)))
    assert verdict.numbers.startswith("training error +49 points (56 layers 60.00 %, 20 layers 11.")


@pytest.mark.slow
def test_with_equal_seeds_the_gap_is_that_to_the_lowest_error(tmp_path):
    """Also where differences are equal only as they are rounded."""
    random = np.random.default_rng(0)
    alike = np.array([[1e-18] * 3, [0.0] * 3, [1e-18] * 3, [0.5] * 3])
    for errors in (alike, *random.integers(0, 9, (500, 4, 3)) / 1437, *random.random((500, 4, 3))):
        cells = nets(errors)
        means = [cell.sample("train_error").mean for cell in cells]
        gap = degradation(cells)
        assert (gap.best, gap.best_error) == (8 + int(np.argmin(means[:-1])), min(means[:-1]))
        assert gap.gap == means[-1] - min(means[:-1])


def test_a_failed_run_leaves_no_verdict(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("none", 8): [0.0], ("identity", 20): [0.1]})
    fail_run(begin_run(tmp_path, "deep", model__shortcut="none", model__depth=56))
    fail_run(begin_run(tmp_path, "lost", model__shortcut="dropout", model__depth=56))
    found = said(tmp_path)
    assert found["plain"].line == "plain: no verdict, the run with 56 layers failed"
    assert found["dropout"].line == "dropout: no verdict, the run with 56 layers failed"
    assert found["identity"].line == (
        "identity: no verdict, two depths with a common seed are needed"
    )


def test_an_arm_with_failed_runs_tells_how_many_failed_at_which_depth(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.5], ("none", 20): [0.1, 0.1, 0.2], ("none", 8): [0.0]})
    for depth, seed in ((56, 1), (56, 2), (20, 3)):
        keys = {"model__depth": depth, "seed": seed}
        fail_run(begin_run(tmp_path, f"{depth}-{seed}", model__shortcut="none", **keys))
    begin_run(tmp_path, "cut", model__shortcut="none", model__depth=56, seed=3)
    assert said(tmp_path)["plain"].numbers == (
        "1 of 4 runs with 20 layers failed, 2 of 4 runs with 56 layers failed"
    )


def test_equal_gaps_do_not_make_it_certain(tmp_path):
    write_sweep(tmp_path, {("none", 56): [1 / 1437] * 2, ("none", 20): [0.0] * 2})
    gap = said(tmp_path)["plain"].gap
    assert gap.interval[0] < 0 < gap.interval[1]
    assert gap.verdict == DOES_NOT


def test_an_interval_that_holds_zero_is_no_degradation(tmp_path):
    write_sweep(tmp_path, {("identity", 56): [0.01, 0.03], ("identity", 20): [0.02, 0.01]})
    gap = said(tmp_path)["identity"].gap
    assert gap.gap > 0
    assert gap.verdict == UNDECIDED


@pytest.mark.parametrize("error", [0.0, 0.01, 0.9])
def test_one_seed_decides_nothing_however_large_its_gap_is(tmp_path, error):
    write_sweep(tmp_path, {("none", 56): [error], ("none", 20): [0.0]})
    found = said(tmp_path)["plain"]
    assert (found.gap.gap, found.gap.interval) == (error, None)
    assert found.gap.verdict == UNDECIDED
    assert found.line.endswith("; one seed, so no interval)")


def test_no_verdict_without_two_depths_of_one_seed(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("identity", 20): [0.1]})
    write_run(tmp_path, "x", 0.3, model__shortcut="identity", model__depth=56, seed=9)
    assert [verdict.gap for verdict in said(tmp_path).values()] == [None, None]


@pytest.mark.slow
def test_of_arms_of_one_depth_the_lowest_error_is_told_in_one_line(tmp_path, capsys):
    write_sweep(tmp_path, {("none", 20): [0.2], ("identity", 20): [0.1]})
    [section] = write_report(tmp_path).sections
    assert section.verdicts == []
    assert main(["report", str(tmp_path)]) == 0
    texts = [(tmp_path / "report" / name).read_text() for name in ("table.md", "index.html")]
    for text in (*texts, capsys.readouterr().out):
        assert text.count("Lowest test error with 20 layers: identity, 11.00") == 1
        assert "verdict," not in text


@pytest.mark.slow
def test_runs_that_failed_are_told_beside_the_lowest_error_of_the_others(tmp_path, capsys):
    for kind, seed in itertools.product(("none", "identity"), range(2)):
        keys = {"model__shortcut": kind, "model__depth": 20, "seed": seed}
        write_run(tmp_path, f"{kind}{seed}", 0.1, **keys)
        fail_run(begin_run(tmp_path, f"lost-{kind}{seed}", **keys, optim__learning_rate=1000.0))
    assert main(["report", str(tmp_path)]) == 0
    texts = [(tmp_path / "report" / name).read_text() for name in ("table.md", "index.html")]
    for text in (*texts, capsys.readouterr().out):
        words = " ".join(text.replace("\\_", "_").split())
        assert words.count("Lowest test error with 20 layers: plain learning_rate=0.1, 11.00") == 1
        assert "plain learning_rate=1000.0 and identity learning_rate=1000.0" in words
        assert "2 of 2 runs with 20 layers failed" in words
        assert "two depths with a common seed" not in words


@pytest.mark.slow
def test_why_arms_have_no_verdict_yet_is_said_once_for_all(tmp_path, capsys):
    write_sweep(
        tmp_path,
        {("none", 56): [0.5], ("none", 20): [0.1], ("identity", 20): [0.1], ("dropout", 20): [0.1]},
    )
    fail_run(begin_run(tmp_path, "lost", model__shortcut="projection", model__depth=56))
    begin_run(tmp_path, "cut", model__shortcut="identity", model__depth=56)
    [section] = write_report(tmp_path).sections
    assert [verdict.arm for verdict in section.verdicts] == [
        "plain", "identity", "dropout", "projection",
    ]  # fmt: skip
    assert main(["report", str(tmp_path)]) == 0
    texts = [(tmp_path / "report" / name).read_text() for name in ("table.md", "table.tex")]
    once = "identity and dropout: no verdict, two depths with a common seed are needed\n"
    for text in (*texts, capsys.readouterr().out):
        assert text.count("two depths with a common seed") == text.count(once) == 1
        assert "plain: undecided, " in text
        assert "projection: no verdict, the run with 56 layers failed\n" in text
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("two depths with a common seed") == 1


def test_an_unfinished_run_of_the_only_depth_is_no_second_depth(tmp_path):
    write_sweep(tmp_path, {("none", 20): [0.1], ("identity", 20): [0.1]})
    cut = begin_run(tmp_path, "cut", model__shortcut="dropout", model__depth=20)
    assert said(tmp_path) == {}
    fail_run(cut)
    assert said(tmp_path).keys() == {"dropout"}
    assert said(tmp_path)["dropout"].line == "dropout: no verdict, the run with 20 layers failed"


@pytest.mark.slow
def test_a_report_on_the_screen_has_an_empty_line_after_each_arm_and_none_of_spaces(
    tmp_path, capsys
):
    write_sweep(
        tmp_path,
        {(kind, depth): [0.1] for kind in ("none", "identity") for depth in (8, 20)},
    )
    assert main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[2:8]] == [
        ["plain", "8"], ["plain", "20"], [], ["identity", "8"], ["identity", "20"], [],
    ]  # fmt: skip
    assert all(line == line.rstrip() for line in lines)


def test_the_headline_says_every_verdict_once(tmp_path):
    write_sweep(
        tmp_path,
        {
            ("none", 56): [0.5, 0.52], ("none", 20): [0.1, 0.11],
            ("identity", 56): [0.0, 0.0], ("identity", 20): [0.0, 0.0],
            ("projection", 56): [0.1, 0.4], ("projection", 20): [0.1, 0.1],
            ("dropout", 20): [0.1, 0.1],
        },
    )  # fmt: skip
    found, table = list(said(tmp_path).values()), table_of(tmp_path)
    assert headline(found, table) == (
        "Plain degrades with depth; identity does not; projection is undecided; "
        "dropout has no verdict."
    )
    assert headline(found[1:2], table) == "Identity does not degrade with depth."
    several = [dataclasses.replace(found[0], arm=name) for name in ("plain", "a", "b", "c")]
    assert headline(several, table) == "Plain, a, b and c degrade with depth."
    assert headline([*several, *found], table) == (
        "5 of 8 networks degrade with depth; identity does not; projection is undecided; "
        "dropout has no verdict."
    )


def test_the_headline_of_a_few_networks_of_one_depth_tells_how_they_differ(tmp_path):
    errors = {("identity", 20): [0.10, 0.12, 0.11], ("projection", 20): [0.13, 0.15, 0.16]}
    write_sweep(tmp_path, errors)
    [section] = read_sweep(tmp_path).sections
    [found] = section.differences["test_error"]
    low, high = (100 * end for end in found.difference.interval)
    assert section.headline == (
        "Lowest test error with 20 layers: identity, 12.0 ± 1.0 %. "
        "Test error of identity less that of projection: "
        f"{100 * found.difference.mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, "
        f"p {found.p:.2g})."
    )
    write_sweep(tmp_path, {("none", 20): [0.4] * 3, ("scaled", 20): [0.5] * 3})
    assert read_sweep(tmp_path).sections[0].headline == (
        "Lowest test error with 20 layers: identity, 12.0 ± 1.0 %."  # and not six pairs
    )


def test_the_headline_of_one_seed_says_so(tmp_path):
    write_sweep(tmp_path, {("none", 56): [0.5], ("none", 20): [0.1]})
    assert headline(list(said(tmp_path).values()), table_of(tmp_path)) == (
        "Plain is undecided. One seed does not say how far seeds lie apart: add some by --seeds=3."
    )
