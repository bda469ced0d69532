"""The page of results is what the tables and the docstrings of the experiments say."""

import dataclasses
import itertools
import json
import operator
import re
import statistics

import pytest

from resjax.config.naming import deciding_keys
from resjax.report import tables
from resjax.report.degradation import DEGRADES, DOES_NOT, UNDECIDED
from resjax.report.pairs import compare
from resjax.report.report import read_sweep
from resjax.training.benchmark import Measurement
from tests import result_page, result_sections, results
from tests.report.fabricate import write_run
from tests.result_probes import COLUMNS
from tests.result_sections import (
    EXPERIMENTS,
    SECTIONS,
    curves_of,
    grid_of,
    probes_of,
    read_section,
    table_of,
    words_of,
)
from tests.tabulated import read_report, read_table, write_curves, write_runs

DRAWN = [name for name, entry in SECTIONS.items() if entry.figure and table_of(name).exists()]

MOST_BYTES = 60_000


def write_grid(directory, reference, seeds):
    """Runs of an experiment, the deeper the worse."""
    for name, config in grid_of(reference, seeds).items():
        error = round(1437 * config.model.depth / 100 / (1 + config.seed)) / 1437
        keys = deciding_keys(config)
        keys = {key.replace(".", "__"): value for key, value in keys.items()}
        write_run(directory, name, error, **keys)


@pytest.mark.slow
def test_the_page_is_up_to_date():
    assert results.PAGE.read_text(encoding="utf-8") == result_page.page(), results.__doc__


def test_every_experiment_has_a_section_that_asks_and_answers():
    files = {entry.experiment.partition(":")[0] for entry in SECTIONS.values()}
    assert files == {path.name for path in EXPERIMENTS.glob("*.py")}
    for name, entry in SECTIONS.items():
        words = words_of(entry.experiment)
        assert "?" in words["Question"]
        assert "Result" in words or not entry.figure, name


def test_an_argument_has_words_of_its_own():
    assert words_of("degradation.py:lr")["Question"] != words_of("degradation.py")["Question"]
    assert words_of("degradation.py:cifar10") == words_of("degradation.py")


CLAIMED = {
    "degradation": {
        "plain": DEGRADES, "identity": DOES_NOT, "projection": DOES_NOT, "projection_all": DEGRADES,
    },
    "lr": {
        "plain": DEGRADES, "identity": DOES_NOT, "projection": DOES_NOT,
        "projection_all": UNDECIDED,
    },
    "identity_vs_projection": {
        "identity": DOES_NOT, "projection": DOES_NOT, "projection_all": DEGRADES,
    },
    "without_norm": {
        "plain norm.kind=batch": DEGRADES, "plain norm.kind=none": DEGRADES,
        "identity norm.kind=batch": DOES_NOT, "identity norm.kind=none": UNDECIDED,
    },
}  # fmt: skip
"""Verdicts that the docstrings of the experiments tell in words."""


@pytest.mark.parametrize("name", CLAIMED)
def test_results_in_words_are_the_verdicts_of_the_tables(name):
    verdicts = read_section(name).verdicts
    assert {verdict.arm: verdict.gap.verdict for verdict in verdicts} == CLAIMED[name]


def train_errors(name):
    """Training errors of the seeds, in percent: {(arm, depth): [error of each]}."""
    return {
        (cell.arm, cell.depth): [100 * error for error in cell.by_seed("train_error").values()]
        for cell in read_section(name).table.cells
    }


def test_only_shallow_networks_have_their_best_rate_at_the_end_of_those_that_were_tried():
    notes = read_section("lr").notes
    at_the_end = {note.partition(":")[0].split()[-1] for note in notes if "at the end" in note}
    assert len(notes) == 12
    assert at_the_end == {"8", "20"}


def test_most_shortcuts_train_worse_as_the_docstring_says():
    """Six of eight, and one more by an interval that is not corrected; one has no errors."""
    table = read_section("identity_mappings").table
    pairs = compare(table, "train_error", "identity order=post")
    assert len(pairs) == 12
    shortcuts = {pair.second: pair for pair in pairs if " order=" not in pair.second}
    worse = {name for name, pair in shortcuts.items() if pair.p < 0.05}
    assert shortcuts.keys() - worse == {"projection_all", "shortcut_gate gate_bias=-6.0"}
    assert all(shortcuts[name].difference.interval[1] < 0 for name in {*worse, "projection_all"})
    errors = {arm: found for (arm, _), found in train_errors("identity_mappings").items()}
    losses = {cell.arm: cell.sample("train_loss").mean for cell in table.cells}
    post, preact, relu_preact, after_add, before_add = (
        f"identity order={order}"
        for order in ("post", "preact", "relu_preact", "bn_after_add", "relu_before_add")
    )
    assert {*errors[post], *errors[relu_preact]} == {0}
    assert {*errors["shortcut_gate gate_bias=-6.0"]} == {0}
    assert sum(errors[preact]) == pytest.approx(100 / 1437, rel=1e-3)
    assert 8.5 < losses[preact] / losses[post] < 9.5
    assert 1.5 < losses["shortcut_gate gate_bias=-6.0"] / losses[post] < 2
    assert [round(end(errors[after_add])) for end in (min, max)] == [5, 38]
    assert [round(end(errors[before_add])) for end in (min, max)] == [0, 13]
    gates, one, both = (
        "exclusive_gate gate_bias=-6.0",
        *(f"scaled branch_scale={scale}" for scale in (1.0, 0.5)),
    )
    means = {arm: statistics.fmean(found) for arm, found in errors.items()}
    assert sum(mean > means[gates] for mean in means.values()) == 2
    assert means[one] == pytest.approx(means[both], abs=0.5)
    assert min(errors["dropout"] + errors["exclusive_gate gate_bias=0.0"]) > 20


def test_longer_runs_leave_deep_plain_networks_behind_as_the_docstring_says():
    section = read_section("duration")
    durations = [f"duration={epochs} epochs" for epochs in (15, 45, 135)]
    verdicts = {each.arm: each.gap.verdict for each in section.verdicts}
    assert [verdicts[f"plain {each}"] for each in durations] == [DEGRADES, DEGRADES, UNDECIDED]
    assert {verdicts[f"identity {each}"] for each in durations} == {DOES_NOT}
    short, longer, longest = (
        {seed: 100 * error for seed, error in cell.by_seed("train_error").items()}
        for each in durations
        for cell in section.table.cells
        if cell.name == f"plain {each} 56"
    )
    ends = [(round(min(own.values())), round(max(own.values()))) for own in (short, longer)]
    assert ends == [(50, 54), (22, 36)]
    assert sorted(map(round, longest.values())) == [3, 25, 53]
    assert [round(longest[seed]) for seed in short if longest[seed] > short[seed]] == [53]
    others = [
        cell for cell in section.table.cells if not cell.arm.startswith("plain") or cell.depth != 56
    ]
    assert {error for cell in others for error in cell.by_seed("train_error").values()} == {0}


def test_pre_activation_trains_hundreds_of_layers_as_the_docstring_says():
    cells = {(cell.arm, cell.depth): cell for cell in read_section("very_deep").table.cells}
    original, preact = (f"order={order}" for order in ("post", "preact"))

    def errors(arm, depth):
        return sorted(100 * each for each in cells[arm, depth].by_seed("train_error").values())

    assert [round(each, 1) for each in errors(original, 302)] == [0.8, 0.8, 5.8, 11.1, 66.3]
    assert errors(original, 110) == [0] * 5
    image = 100 / 1437
    found = [each for depth in (20, 56, 110, 302) for each in errors(preact, depth) if each]
    assert found == pytest.approx([image] * 2, rel=1e-3)
    for depth in (20, 56, 110):
        one, other = (
            statistics.fmean(cells[arm, depth].by_seed("train_loss").values())
            for arm in (original, preact)
        )
        assert other > 3 * one


def test_a_residual_network_hardly_misses_a_block_as_the_docstring_says():
    rows = read_table(probes_of("inside"))
    means = {
        network: {
            name: statistics.fmean(float(row[name]) for row in rows if row["network"] == network)
            for name in COLUMNS
        }
        for network in {row["network"] for row in rows}
    }
    errors = [
        [round(means[f"identity {depth}"][name], 1) for name in ("deleted", "whole")]
        for depth in (56, 20)
    ]
    assert errors == [[3.5, 2.7], [11.2, 2.3]]
    for depth in (20, 56):
        assert means[f"identity {depth}"]["swapped"] < means[f"identity {depth}"]["deleted"]
        assert min(means[f"plain {depth}"][name] for name in ("deleted", "swapped")) > 87
        ratios = [means[f"{arm} {depth}"]["last_ratio"] for arm in ("plain", "identity")]
        assert 2 < ratios[0] < ratios[1] < 9
    assert means["plain 56"]["response"] > 1.8 * means["plain 20"]["response"]
    assert means["identity 56"]["response"] == pytest.approx(1, abs=0.02)
    assert means["plain 56"]["first_ratio"] > 2000


def test_sgd_does_not_find_what_was_constructed_as_the_docstring_says():
    errors = train_errors("nested")
    assert set(errors["plain grow_from=20", 56]) == {0}
    assert all(25 < error < 40 for error in errors["plain", 56])
    curves = [run.curve for run in read_section("nested").table.runs]
    grown = [curve for curve in curves if any("grown_train_error" in line for line in curve)]
    assert len(grown) == 3
    for curve in grown:
        assert all(line["train_error"] < 0.0485 for line in curve if line["epoch"] > 16)
        assert all(line["train_error"] == 0 for line in curve if line["epoch"] >= 22)
        assert all(line.get("grown_train_error", 0) < 0.015 for line in curve)


def test_batch_norm_cures_one_of_two_failures_as_the_docstring_says():
    errors = train_errors("without_norm")
    assert all(
        map(operator.gt, errors["plain norm.kind=batch", 32], errors["plain norm.kind=batch", 20])
    )
    assert max(errors["identity norm.kind=batch", 32]) < 0.1
    assert min(errors["plain norm.kind=none", 20] + errors["plain norm.kind=none", 32]) > 80
    assert max(errors["identity norm.kind=none", 20]) < 0.5
    found = errors["identity norm.kind=none", 32]
    assert (sum(error < 1 for error in found), len(found)) == (1, 5)


def section_text(name):
    """The section of the page that has this figure."""
    page = results.PAGE.read_text(encoding="utf-8")
    return next(text for text in page.split("\n## ") if f"/{name}.png)" in text)


@pytest.mark.parametrize("name", CLAIMED)
def test_gaps_and_verdicts_are_those_that_the_report_says(name):
    rows = re.findall(r"\| (\S+) \((\S+ to \S+)\) \| (\D+) \|$", section_text(name), re.MULTILINE)
    lines = [verdict.line for verdict in read_section(name).verdicts]
    for (points, interval, said), line in zip(rows, lines, strict=True):
        assert f": {said}" in line
        assert f", training error {points} points" in line
        assert line.endswith(f"interval {interval})")


def test_best_rates_are_those_that_the_report_notes():
    table = section_text("lr").partition("| optim.learning")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ")[1:] for line in table.splitlines()[2:]]
    notes = read_section("lr").notes
    for text, note in zip(itertools.chain(*rows), notes, strict=True):
        assert f"learning_rate={text.split()[0]} of 5" in note
        assert ("(the highest)" in text) == ("at the end" in note)


def test_the_summary_has_the_errors_of_the_deepest_networks():
    summary = results.PAGE.read_text(encoding="utf-8").partition("\n## ")[0]
    for name in ("degradation", "nested", "without_norm"):
        errors = train_errors(name)
        deepest = max(depth for _, depth in errors)
        texts = row_of(summary, name).replace("\\", "").partition(" layers: ")[2].strip(" |")
        found = dict(text.rsplit(" ", 1) for text in texts.split("; "))
        assert len(found) == sum(depth == deepest for _, depth in errors)
        for arm, text in found.items():
            half = 0.5 * 10 ** -len(text.partition(".")[2])
            assert float(text) == pytest.approx(statistics.fmean(errors[arm, deepest]), abs=half)


def row_of(summary, name):
    question = words_of(SECTIONS[name].experiment)["Question"].partition("?")[0]
    return next(row for row in summary.splitlines() if question.lower() in row.lower())


def test_a_difference_is_that_from_the_network_which_the_others_are_compared_with():
    errors = train_errors("nested")
    grown, plain = (statistics.fmean(errors[arm, 56]) for arm in ("plain grow_from=20", "plain"))
    row = section_text("nested").partition("| plain grow")[2]
    points, low, high = re.search(r"\| (\S+) \((\S+) to (\S+)\)", row).groups()
    assert float(points) == pytest.approx(grown - plain, abs=0.5)
    assert float(low) < float(points) < float(high) < 0


def test_networks_that_two_sections_share_are_shown_once():
    section = read_section("identity_vs_projection")
    shared = [
        depth for depth in (8, 20, 32, 56) if result_page._is_shared(section, "degradation", depth)
    ]
    assert shared == [8, 20, 56]
    assert not result_page._is_shared(read_section("lr"), "degradation", 56)
    assert "| training error % | 32 layers | gap |" in section_text("identity_vs_projection")


@pytest.mark.parametrize("name", DRAWN)
def test_a_section_has_its_figure(name):
    drawn = result_sections.DATA / f"{name}.png"
    assert 5_000 < drawn.stat().st_size < MOST_BYTES
    assert f"]({drawn.parent.name}/{drawn.name})" in results.PAGE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_figure_is_drawn_from_the_tables(tmp_path):
    assert results.draw("nested", tmp_path) == tmp_path / "nested.png"
    assert [path.name for path in tmp_path.iterdir()] == ["nested.png"]


def test_tables_have_all_that_the_report_says_of_the_runs(tmp_path):
    write_grid(tmp_path / "runs", "degradation.py", seeds=2)
    expected = read_sweep(tmp_path / "runs")
    write_runs(tmp_path / "runs.csv", expected.runs)
    write_curves(tmp_path / "curves.csv", expected.runs)
    found = read_report(
        grid_of("degradation.py", 2), tmp_path / "runs.csv", tmp_path / "curves.csv",
        {"train": 1437, "test": 360},
    )  # fmt: skip
    assert [verdict.line for verdict in found.verdicts] == [
        verdict.line for verdict in expected.verdicts
    ]
    for ours, theirs in zip(found.sections, expected.sections, strict=True):
        written, read = (tables.errors(s.table.cells, tables.DETAILS) for s in (theirs, ours))
        assert read == written
        assert ours.table.title == theirs.table.title
        for one, other in zip(ours.table.runs, theirs.table.runs, strict=True):
            assert one.keys == other.keys
            for mine, line in zip(one.curve, other.curve, strict=True):
                assert mine["train_error"] == pytest.approx(line["train_error"], rel=1e-5)


def test_a_table_of_another_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nested\.csv is of another sweep: identity-"):
        read_report(grid_of("degradation.py"), table_of("nested"), curves_of("nested"), {})


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A directory for the tables, and another for the sweeps."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    for module in (results, result_sections):
        monkeypatch.setattr(module, "DATA", tmp_path / "data")
        monkeypatch.setattr(module, "MACHINES", tmp_path / "data" / "machines.csv")
    return tmp_path


def test_minutes_are_noted_only_of_a_sweep_that_was_trained_in_one_go(elsewhere, monkeypatch):
    directory, commands = elsewhere / "runs" / "results" / "nested", []

    def execute(command):
        if not commands:
            write_grid(directory, "nested.py", seeds=3)
        commands.append(command)
        return 90.0, ""

    monkeypatch.setattr(results, "_execute", execute)
    for _ in range(2):  # the second time nothing is left to train
        results.run("nested")
        assert result_sections.machines()["nested"]["seconds"] == "90"
    (directory / "seconds.txt").unlink()
    results.run("nested")
    assert result_sections.machines()["nested"]["seconds"] == ""
    assert set(commands) == {
        "resjax sweep --config=experiments/nested.py --workdir=runs/results/nested --seeds=3"
    }
    assert len(read_section("nested").table.runs) == 6


def test_speeds_are_those_that_were_measured(elsewhere, monkeypatch):
    measured = Measurement(
        20, 128, 67_906, 1, 2.5, 228.4, (220, 230), 560.4, 10**9, 1, 1.0, 1.0, "cpu", 1
    )
    line = json.dumps(dataclasses.asdict(measured))
    monkeypatch.setattr(results, "_execute", lambda command, **_: (30.0, f"{line}\n"))
    results.run("speed")
    page = result_page.page()
    assert "| 20 | 67,906 | 2.5 | 228.4 | 560 | 1,000 |" in page
    assert "in 0.5 min" in page
