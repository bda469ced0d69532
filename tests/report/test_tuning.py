"""Every network has the learning rate that is best for it, chosen on validation."""

import math

import pytest

from resjax.config import ConfigError
from resjax.report.report import write_report
from resjax.runs import disk, rundir
from resjax.training.plan import make_plan
from tests.report.fabricate import begin_run, fail_run, write_run

KEYS = {"eval__tune": ("optim.learning_rate",), "data__train": "train[:80%]",
        "data__validation": "train[80%:]"}  # fmt: skip


def candidate(workdir, shortcut, depth, rate, validation, test, seed=0):
    """A run whose validation and test errors are these; its training error is the latter."""
    name = f"{shortcut}-{depth}-{rate}-{seed}"
    directory = write_run(
        workdir, name, test, model__shortcut=shortcut, model__depth=depth,
        optim__learning_rate=rate, seed=seed, **KEYS,
    )  # fmt: skip
    result = disk.read_json(directory / "result.json")
    more = {"validation_error": validation, "validation_loss": 1.0}
    rundir.write_result(directory, result | more)
    return directory


def test_each_network_is_compared_at_its_own_best_rate(tmp_path):
    """By validation error: the test error, which is best elsewhere, decides nothing."""
    candidate(tmp_path, "none", 8, 0.1, validation=0.10, test=0.20)
    candidate(tmp_path, "none", 8, 0.2, validation=0.30, test=0.01)
    candidate(tmp_path, "none", 56, 0.1, validation=0.50, test=0.02)
    candidate(tmp_path, "none", 56, 0.2, validation=0.40, test=0.45)
    report = write_report(tmp_path)
    [section] = report.sections
    found = {(cell.depth, run.config["optim.learning_rate"]): run.summary.test_error
             for cell in section.table.cells for run in cell.runs}  # fmt: skip
    assert found == {(8, 0.1): pytest.approx(0.21), (56, 0.2): pytest.approx(0.46)}
    assert section.notes == [
        "plain 8: optim.learning_rate=0.1 of 2, validation error 10.00 %",
        "plain 56: optim.learning_rate=0.2 of 2, validation error 40.00 %",
    ]
    assert "optim.learning_rate=0.2 of 2" in (tmp_path / "report" / "index.html").read_text()
    assert len(report.runs) == 4  # all are listed


def test_the_mean_over_seeds_decides_and_a_candidate_that_lacks_one_is_not_chosen(tmp_path):
    for seed, (low, high) in enumerate([(0.1, 0.3), (0.5, 0.2)]):
        candidate(tmp_path, "identity", 8, 0.1, low, 0.1, seed)
        candidate(tmp_path, "identity", 8, 0.2, high, 0.1, seed)
    candidate(tmp_path, "identity", 8, 0.4, 0.0, 0.1, seed=0)
    lost = begin_run(tmp_path, "lost", model__shortcut="identity", model__depth=8,
                     optim__learning_rate=0.4, seed=1, **KEYS)  # fmt: skip
    fail_run(lost)
    [section] = write_report(tmp_path).sections
    assert section.notes == ["identity 8: optim.learning_rate=0.2 of 3, validation error 25.00 %"]
    assert section.table.missing == ()


def test_where_every_candidate_lacks_a_seed_none_is_chosen(tmp_path):
    """Seeds 0 and 1 of one and 1 and 2 of the other are equally many, and no fair comparison."""
    for seed in (0, 1):
        candidate(tmp_path, "none", 8, 0.1, 0.3, 0.3, seed)
        candidate(tmp_path, "none", 8, 0.2, 0.1, 0.1, seed + 1)
    candidate(tmp_path, "identity", 8, 0.1, 0.3, 0.3)
    report = write_report(tmp_path)
    [section] = report.sections
    assert [arm.name for arm in section.table.arms] == ["identity"]
    assert section.notes[1:] == [
        "plain 8: not in the table, as each of 2 candidates lacks a seed that another has"
    ]
    assert section.notes[1] in (tmp_path / "report" / "index.html").read_text()
    assert len(report.runs) == 5  # all are listed
    fail_run(begin_run(tmp_path, "lost", model__shortcut="none", model__depth=8,
                       optim__learning_rate=0.1, seed=2, **KEYS))  # fmt: skip
    [section] = write_report(tmp_path).sections
    assert [each.line for each in section.verdicts] == [
        "plain: no verdict, the run with 8 layers failed",
    ]


@pytest.mark.parametrize("key", ["norm.momentum", "model.shortcut_dropout", "optim.learning_rate"])
def test_keys_of_the_network_can_be_tuned_as_those_of_the_optimiser(key, tmp_path):
    keys = KEYS | {"eval__tune": (key,)}
    for value, error in ((0.1, 0.3), (0.2, 0.2)):
        for seed in range(2):
            directory = write_run(tmp_path, f"{value}-{seed}", error, seed=seed, **keys,
                                  **{key.replace(".", "__"): value})  # fmt: skip
            rundir.write_result(
                directory,
                disk.read_json(directory / "result.json")
                | {"validation_error": error, "validation_loss": 1.0},
            )
    [section] = write_report(tmp_path).sections
    [cell] = section.table.cells
    assert [run.config[key] for run in cell.runs] == [0.2, 0.2]
    assert section.notes == [f"identity 20: {key}=0.2 of 2, validation error 20.00 %"]


def test_of_candidates_without_a_finite_error_one_is_in_the_table(tmp_path):
    for rate in (0.1, 0.2):
        candidate(tmp_path, "none", 8, rate, math.inf, 0.3)
    [section] = write_report(tmp_path).sections
    [cell] = section.table.cells
    assert len(cell.runs) == 1
    assert section.notes == ["plain 8: optim.learning_rate=0.1 of 2, validation error inf %"]


def test_a_best_value_at_the_end_of_what_was_tried_is_told(tmp_path):
    for rate, error in ((0.1, 0.3), (0.2, 0.2), (0.4, 0.1)):
        candidate(tmp_path, "none", 8, rate, error, error)
    [section] = write_report(tmp_path).sections
    assert section.notes[0].endswith("; the best lies at the end of what was tried")


def test_tuning_needs_a_validation_split_and_known_keys(tiny):
    tiny.eval.tune = ("optim.learning_rate",)
    with pytest.raises(ConfigError, match=r"eval.tune=.* needs a validation split"):
        make_plan(tiny)
    tiny.eval.tune = ("optim.rate",)
    with pytest.raises(ConfigError, match=r"unknown eval.tune 'optim.rate'"):
        make_plan(tiny)


def test_tuning_does_not_change_the_name_of_a_run(tiny):
    from resjax.config.naming import run_id

    before = run_id(tiny)
    tiny.eval.tune = ("optim.learning_rate",)
    assert run_id(tiny) == before


def test_lists_and_names_may_be_tuned_and_have_no_ends(tmp_path):
    """Milestones come as lists from the config of a run."""
    for number, (milestones, schedule) in enumerate(
        [(("1 epochs",), "step"), (("2 epochs",), "cosine"), (("3 epochs",), "constant")]
    ):
        directory = write_run(
            tmp_path, f"run{number}", 0.1, optim__milestones=milestones, optim__schedule=schedule,
            **(KEYS | {"eval__tune": ("optim.milestones", "optim.schedule")}),
        )  # fmt: skip
        result = disk.read_json(directory / "result.json")
        more = {"validation_error": 0.1 + number, "validation_loss": 1.0}
        rundir.write_result(directory, result | more)
    [section] = write_report(tmp_path).sections
    [line] = section.notes
    assert line.endswith("of 3, validation error 10.00 %")
