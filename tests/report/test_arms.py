import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resjax.config.keys import KEYS
from resjax.report.pairs import compare
from resjax.report.report import read_sweep
from resjax.report.runs import read_runs
from resjax.report.sorting import arm_tables
from resjax.runs import disk
from tests.report.fabricate import begin_run, write_run, write_sweep


def read(workdir):
    return arm_tables(*read_runs(workdir))


def names_of(table):
    return [arm.name for arm in table.arms]


def test_arms_differ_in_any_setting_and_tables_in_their_data(tmp_path):
    write_run(tmp_path, "a", 0.1, model__shortcut="none")
    write_run(tmp_path, "b", 0.1, model__order="preact")
    write_run(tmp_path, "c", 0.1, norm__kind="none")
    write_run(tmp_path, "d", 0.1, model__depth=56)
    write_run(tmp_path, "e", 0.1, train__grow_from=8)
    write_run(tmp_path, "f", 0.1, train__duration="30 epochs")
    write_run(tmp_path, "g", 0.1, data__name="shapes")
    digits, shapes = read(tmp_path)
    usual = "order=post norm.kind=batch duration={}"
    assert set(names_of(digits)) == {
        "plain",
        f"identity {usual.format('15 epochs')}",
        f"identity {usual.format('15 epochs')} grow_from=8",
        f"identity {usual.format('30 epochs')}",
        "identity order=preact norm.kind=batch duration=15 epochs",
        "identity order=post norm.kind=none duration=15 epochs",
    }
    assert (digits.title, shapes.title) == ("digits", "shapes")


def write_rates(workdir, rates, depths=(20,), **keys):
    """Runs of one network with each learning rate."""
    for rate, depth in itertools.product(rates, depths):
        keys |= {"model__depth": depth, "optim__learning_rate": rate}
        write_run(workdir, f"{depth}-{rate}", rate / 10, **keys)


def test_values_of_a_key_are_in_their_order_and_a_shortcut_that_all_have_is_in_the_title(tmp_path):
    write_rates(tmp_path, (1.0, 0.001, 0.1, 0.01))
    [table] = read(tmp_path)
    assert table.title == "digits, identity"
    assert names_of(table) == [f"learning_rate={rate}" for rate in (0.001, 0.01, 0.1, 1.0)]
    for part in (1000, 50, 100):
        write_run(tmp_path / "parts", str(part), 0.1, data__train=f"train[:{part}]")
    assert names_of(read(tmp_path / "parts")[0]) == [
        f"data.train=train[:{part}]" for part in (50, 100, 1000)
    ]


def test_of_values_that_are_words_the_default_is_the_first(tmp_path):
    for order in ("bn_after_add", "preact", "post"):
        write_run(tmp_path, order, 0.1, model__order=order)
    assert names_of(read(tmp_path)[0]) == ["order=post", "order=bn_after_add", "order=preact"]


def test_keys_of_one_last_word_have_their_sections_in_the_names(tmp_path):
    write_run(tmp_path, "a", 0.1, model__name="imagenet", optim__name="adamw")
    write_run(tmp_path, "b", 0.1, model__name="cifar", optim__name="sgd")
    assert names_of(read(tmp_path)[0]) == [
        "model.name=cifar optim.name=sgd", "model.name=imagenet optim.name=adamw",
    ]  # fmt: skip


def test_a_setting_that_depends_on_the_depth_alone_does_not_divide_an_arm(tmp_path):
    """As a warm-up of the deepest networks: they are judged beside the others."""
    warm = {"model__depth": 110, "optim__warmup": "400 steps"}
    for kind in ("none", "identity"):
        write_run(tmp_path, f"{kind}20", 0.1, model__shortcut=kind, model__depth=20)
        write_run(tmp_path, f"{kind}110", 0.3, model__shortcut=kind, **warm)
    [section] = read_sweep(tmp_path).sections
    assert names_of(section.table) == ["plain", "identity"]
    assert [verdict.gap.deepest for verdict in section.verdicts] == [110, 110]
    assert section.notes == [
        "optim.warmup depends on the depth: 0 steps for 20 layers, 400 steps for 110 layers"
    ]
    write_run(tmp_path, "cold", 0.4, model__shortcut="none", model__depth=110)
    assert names_of(read(tmp_path)[0]) == [
        f"{kind} warmup={steps} steps" for kind in ("plain", "identity") for steps in (0, 400)
    ]  # fmt: skip


def test_very_many_arms_are_divided_into_a_table_for_each_recipe(tmp_path):
    rates = [rate / 100 for rate in range(1, 10)]
    write_rates(tmp_path, rates, (8, 20))
    [table] = read(tmp_path)
    assert len(table.arms) == 9
    for kind in ("none", "projection"):
        write_rates(tmp_path / kind, rates, (8, 20), model__shortcut=kind)
        for run in (tmp_path / kind).iterdir():
            run.rename(tmp_path / f"{kind}-{run.name}")
        (tmp_path / kind).rmdir()
    tables = read(tmp_path)
    assert [table.title for table in tables] == [f"digits, optim.learning_rate={r}" for r in rates]
    assert {tuple(names_of(table)) for table in tables} == {("plain", "identity", "projection")}


def test_very_many_arms_that_only_differ_in_their_recipe_stay_in_one_table(tmp_path):
    """Apart, each of them would have nothing beside it."""
    write_rates(tmp_path, [rate / 100 for rate in range(1, 21)])
    [table] = read(tmp_path)
    assert len(table.arms) == 20


def test_an_option_of_one_shortcut_is_not_in_the_names_of_others(tmp_path):
    write_run(tmp_path, "a", 0.1, model__shortcut="none")
    write_run(tmp_path, "b", 0.1, model__shortcut="dropout")
    write_run(tmp_path, "c", 0.1, model__shortcut="dropout", model__shortcut_dropout=0.1)
    [table] = read(tmp_path)
    default = KEYS["model.shortcut_dropout"].default
    assert names_of(table) == [
        "plain", *(f"dropout shortcut_dropout={value}" for value in (0.1, default)),
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


def test_arms_are_compared_that_differ_in_one_setting(tmp_path):
    for kind, rate, seed in itertools.product(("none", "dropout"), (0.1, 0.2), range(2)):
        write_run(tmp_path, f"{kind}-{rate}-{seed}", 0.1 + rate + seed / 100, model__shortcut=kind,
                  optim__learning_rate=rate, seed=seed)  # fmt: skip
    names = [f"{kind} learning_rate={rate}" for kind in ("plain", "dropout") for rate in (0.1, 0.2)]
    [table] = read(tmp_path)
    pairs = {(found.first, found.second) for found in compare(table, "train_error")}
    assert pairs == {(names[0], names[1]), (names[0], names[2]), (names[1], names[3]),
                     (names[2], names[3])}  # fmt: skip
    against = {(each.first, each.second) for each in compare(table, "train_error", names[3])}
    assert against == {(name, names[3]) for name in names[:3]}


def test_arms_without_a_pair_that_differs_in_one_setting_are_all_compared(tmp_path):
    write_run(tmp_path, "a", 0.1, optim__learning_rate=0.1, model__width=8)
    write_run(tmp_path, "b", 0.1, optim__learning_rate=0.2, model__width=16)
    [found] = compare(read(tmp_path)[0], "train_error")
    assert found.difference.mean == 0


def test_options_of_a_shortcut_are_no_further_setting(tmp_path):
    write_run(tmp_path, "a", 0.1, model__shortcut="none")
    for drop in (0.1, 0.5):
        write_run(tmp_path, f"{drop}", 0.1, model__shortcut="dropout", model__shortcut_dropout=drop)
    assert len(compare(read(tmp_path)[0], "train_error")) == 3


def test_runs_without_a_result_are_in_the_table_of_their_data(tmp_path):
    write_run(tmp_path, "a", 0.1)
    begin_run(tmp_path, "b", seed=1)
    begin_run(tmp_path, "c", data__name="shapes")
    assert [(arm, run.name) for arm, run in read(tmp_path)[0].missing] == [("identity", "b")]


def test_equal_errors_do_not_make_a_mean_certain(tmp_path):
    """Other seeds may have an error that is rounded to the same number of images."""
    write_sweep(tmp_path, {("none", 8): [0.1, 0.1, 0.1], ("identity", 8): [0.1, 0.2, 0.15]})
    plain, identity = (cell.sample("train_error") for cell in read(tmp_path)[0].cells)
    margin = scipy_stats.t.ppf(0.975, 2) / np.sqrt(12 * 3) / 1437
    assert plain.deviation == 0
    assert plain.interval == pytest.approx((0.1 - margin, 0.1 + margin))
    assert identity.interval == pytest.approx(
        tuple(scipy_stats.ttest_1samp([0.1, 0.2, 0.15], 0).confidence_interval())
    )


def test_the_interval_of_an_error_stays_within_what_an_error_can_be(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.0, 0.001, 0.0], ("identity", 8): [0.95, 1.0, 0.9]})
    plain, identity = (cell.sample("train_error").interval for cell in read(tmp_path)[0].cells)
    assert plain[0] == 0 < plain[1]
    assert identity[1] == 1 > identity[0]
