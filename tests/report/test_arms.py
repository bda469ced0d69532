import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.config.keys import KEYS
from resjax.report.pairs import compare
from resjax.report.runs import read_runs
from resjax.report.sorting import arm_tables
from resjax.runs import disk
from tests.report.fabricate import begin_run, write_run, write_sweep


def read(workdir):
    return arm_tables(*read_runs(workdir))


def test_arms_are_networks_and_the_protocol_is_everything_else(tmp_path):
    write_run(tmp_path, "a", 0.1, model__shortcut="none")
    write_run(tmp_path, "b", 0.1, model__order="preact")
    write_run(tmp_path, "c", 0.1, norm__kind="none")
    write_run(tmp_path, "d", 0.1, model__depth=56)
    write_run(tmp_path, "e", 0.1, train__grow_from=8)
    write_run(tmp_path, "f", 0.1, train__duration="30 epochs")
    write_run(tmp_path, "g", 0.1, data__name="shapes")
    first, *others = read(tmp_path)
    assert [arm.name for arm in first.arms] == [
        "plain", "identity, model.order=post, norm.kind=batch",
        "identity, model.order=preact, norm.kind=batch",
        "identity, model.order=post, norm.kind=none",
        "identity, model.order=post, norm.kind=batch, train.grow_from=8",
    ]  # fmt: skip
    assert first.title == "digits, train.duration=15 epochs"
    assert sorted(table.title for table in others) == [
        "digits, train.duration=30 epochs", "shapes, train.duration=15 epochs",
    ]  # fmt: skip


def test_an_option_of_one_shortcut_is_not_in_the_names_of_others(tmp_path):
    write_run(tmp_path, "a", 0.1, model__shortcut="none")
    write_run(tmp_path, "b", 0.1, model__shortcut="dropout")
    write_run(tmp_path, "c", 0.1, model__shortcut="dropout", model__shortcut_dropout=0.1)
    [table] = read(tmp_path)
    default = KEYS["model.shortcut_dropout"].default
    assert [arm.name for arm in table.arms] == [
        "plain", *(f"dropout, model.shortcut_dropout={value}" for value in (default, 0.1)),
    ]  # fmt: skip


def test_a_setting_that_all_networks_share_is_not_in_their_names(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1], ("identity", 8): [0.1]}, model__width=8)
    assert [arm.name for arm in read(tmp_path)[0].arms] == ["plain", "identity"]


def test_a_table_never_mixes_final_and_selected_numbers(tmp_path):
    write_run(tmp_path, "final", 0.1)
    directory = write_run(tmp_path, "best", 0.2, seed=1, eval__select="best")
    best = {"selection": "best", "best_step": 2, "best_train_error": 0.3, "best_test_error": 0.4,
            "best_validation_error": 0.5, "validation_error": 0.6}  # fmt: skip
    path = directory / "result.json"
    disk.write_json(path, disk.read_json(path) | best)
    found = {table.title: table.cells[0] for table in read(tmp_path)}
    assert set(found) == {"digits, eval.select=final", "digits, eval.select=best"}
    final, best = found["digits, eval.select=final"], found["digits, eval.select=best"]
    assert (final.selection, best.selection) == ("final", "best")
    assert (final.sample("test_error").mean, final.sample("train_loss").mean) == (0.11, 0.2)
    assert (best.sample("train_error").mean, best.sample("test_error").mean) == (0.3, 0.4)
    assert best.sample("train_loss") is None  # of the final evaluation, so of another one


def test_a_result_and_not_the_config_says_what_was_selected(tmp_path):
    """As where a run is older than the key."""
    write_run(tmp_path, "a", 0.1)
    directory = write_run(tmp_path, "b", 0.2, seed=1)
    path = directory / "result.json"
    more = {"selection": "best", "best_train_error": 0.3, "best_test_error": 0.4}
    disk.write_json(path, disk.read_json(path) | more)
    assert len(read(tmp_path)) == 2


def test_differences_between_arms_are_paired_by_seed_and_corrected(tmp_path):
    errors = {
        ("none", 20): [0.30, 0.42, 0.35], ("identity", 20): [0.10, 0.15, 0.16],
        ("projection_all", 20): [0.12, 0.11, 0.15], ("none", 8): [0.2], ("identity", 8): [0.1],
    }  # fmt: skip
    write_sweep(tmp_path, errors)
    table = read(tmp_path)[0]
    found = {(c.depth, c.first, c.second): c for c in compare(table, "train_error")}
    assert len(found) == 4
    pairs = [("none", "identity"), ("none", "projection_all"), ("identity", "projection_all")]
    tests = [scipy_stats.ttest_rel(errors[a, 20], errors[b, 20]) for a, b in pairs]
    ranks = np.argsort([test.pvalue for test in tests])
    for rank, place in enumerate(ranks):
        names = [name.replace("none", "plain") for name in pairs[place]]
        comparison = found[20, *names]
        expected = tuple(tests[place].confidence_interval(0.95))
        assert comparison.difference.interval == pytest.approx(expected)
        assert comparison.difference.p == pytest.approx(tests[place].pvalue)
        largest = max((3 - r) * tests[ranks[r]].pvalue for r in range(rank + 1))
        assert comparison.p == pytest.approx(min(1, largest))
    alone = found[8, "plain", "identity"]
    assert (alone.difference.mean, alone.p) == (pytest.approx(0.1), None)
    fewer = {(c.depth, c.first, c.second): c.p for c in compare(table, "train_error", "identity")}
    assert fewer.keys() == found.keys() - {(20, "plain", "projection_all")}
    of_two = sorted(test.pvalue for test in (tests[0], tests[2]))  # fewer, so less is corrected
    assert min(p for p in fewer.values() if p) == pytest.approx(2 * of_two[0])


def test_runs_without_a_result_are_in_the_table_of_their_protocol(tmp_path):
    write_run(tmp_path, "a", 0.1)
    begin_run(tmp_path, "b", seed=1)
    begin_run(tmp_path, "c", data__name="shapes")
    assert [(arm, run.name) for arm, run in read(tmp_path)[0].missing] == [("identity", "b")]


def test_the_interval_of_an_error_stays_within_what_an_error_can_be(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.0, 0.001, 0.0], ("identity", 8): [0.95, 1.0, 0.9]})
    plain, identity = (cell.sample("train_error").interval for cell in read(tmp_path)[0].cells)
    assert plain[0] == 0 < plain[1]
    assert identity[1] == 1 > identity[0]
