"""What runs recorded inside their networks, in figures and on the page."""

import dataclasses
import re

import numpy as np
import pytest

from resjax.cli.main import main
from resjax.probes.table import PROBES
from resjax.report import sorting, styles
from resjax.report.inside import ProbedNetwork, recorded
from resjax.report.probes import draw_probe, names_of
from resjax.report.report import read_sweep, write_report
from resjax.report.runs import read_runs
from resjax.runs import disk
from tests.report.fabricate import write_sweep

NORMS = {"input": [1.0, 2.0, 3.0], "parameters": [4.0, 5.0, 6.0], "input_ratio": 0.5}


def found(scale):
    """Probes of a net of three blocks."""
    return {
        "gradients": {name: (scale * np.array(value)).tolist() for name, value in NORMS.items()},
        "lesions": {"whole": 0.1, "deleted": [0.5, 0.25, scale / 10], "swapped": [None] * 3},
        "responses": {"deviation": [[1.0, 2.0]] * 3},
    }


@pytest.fixture
def sweep(tmp_path):
    """Runs of 8 and 20 layers; those of 8 layers have recorded probes twice."""
    errors = {("none", 8): [0.1, 0.3], ("identity", 8): [0.2, 0.2]}
    write_sweep(tmp_path, errors)
    for run in tmp_path.iterdir():
        scale = 1.0 + int(run.name[-1])
        for step, of in ((1, 100.0), (2, scale)):
            disk.append_line(run / "probes.jsonl", {"step": step, **found(of)})
    return tmp_path


def table_of(directory):
    (table,) = sorting.arm_tables(*read_runs(directory))
    return table


def test_a_network_has_the_means_over_seeds_of_its_last_evaluation(sweep):
    networks = recorded(table_of(sweep))
    assert [network.name for network in networks] == ["plain 8", "identity 8"]
    for network in networks:
        assert network.stages == (1, 1, 1)
        np.testing.assert_allclose(network.found["gradients"]["input"], [1.5, 3, 4.5])
        np.testing.assert_allclose(network.by_block("lesions")["deleted"], [50, 25, 15])
        assert np.isnan(network.by_block("lesions")["swapped"]).all()
    assert names_of(networks) == ["gradients", "responses", "lesions"]


def test_networks_are_those_of_the_greatest_depth(sweep):
    write_sweep(sweep, {("none", 20): [0.1]})
    assert [network.name for network in recorded(table_of(sweep))] == ["identity 8"]
    (run,) = sweep.glob("none-20-*")
    disk.append_line(run / "probes.jsonl", {"step": 1, "branches": {"from_identity": [1.0] * 9}})
    plain, _ = recorded(table_of(sweep))
    assert (plain.name, plain.stages, set(plain.found)) == ("plain 20", (3, 3, 3), {"branches"})


def test_a_panel_has_a_line_for_each_network_and_its_label_has_the_unit(sweep):
    networks = recorded(table_of(sweep))
    figure = draw_probe(networks, "lesions")
    (panel,) = [panel for panel in figure.axes if panel.get_visible()]  # none is of NaN alone
    assert panel.get_ylabel().replace("\n", " ") == "test error without the block (%)"
    drawn = [line for line in panel.get_lines() if len(line.get_xdata()) == 3]
    assert [line.get_color() for line in drawn] == [styles.color(k) for k in ("none", "identity")]
    for line in drawn:
        np.testing.assert_allclose(line.get_ydata(), [50, 25, 15])
    whole = [line for line in panel.get_lines() if len(set(line.get_ydata())) == 1]
    np.testing.assert_allclose([line.get_ydata()[0] for line in whole], 10)
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    assert said == ["plain 8", "identity 8", "the network as it is"]


def test_every_array_of_resjax_has_a_label_with_its_unit_or_is_a_ratio_of_norms():
    for name, probe in PROBES.items():
        for label in probe.labels.values():
            assert re.search(r"\((%|sd|log)\)$|norm|deviation", label), (name, label)


def test_a_line_at_zero_lies_above_the_axis():
    network = ProbedNetwork("plain", 0, (2,), {"paths": {"shortcut_share": np.zeros(2)}})
    (panel,) = draw_probe([network], "paths").axes
    low, high = panel.get_ylim()
    assert low < -0.03 * (high - low)


def test_the_layers_of_a_block_are_told_apart_by_dashes(sweep):
    (panel,) = draw_probe(recorded(table_of(sweep))[:1], "responses").axes
    first, second, *_ = panel.get_lines()
    assert (first.get_linestyle(), second.get_linestyle()) == ("-", "--")


def test_a_title_is_no_smaller_than_the_labels(sweep):
    figure = draw_probe(recorded(table_of(sweep)), "gradients", "step 7")
    sizes = [panel.yaxis.label.get_size() for panel in figure.axes]
    assert figure._suptitle.get_size() >= max(sizes)


def test_a_probe_that_is_not_loaded_is_drawn_under_the_names_of_its_arrays():
    arrays = {"own_value": np.array([1.0, 2.0]), "grid": np.zeros(5), "all": np.array(3.0)}
    network = ProbedNetwork("plain", 0, (2,), {"mine": arrays})
    (panel,) = draw_probe([network], "mine").axes
    assert panel.get_ylabel() == "own value"


def test_surfaces_stand_side_by_side():
    arrays = {"offset": np.linspace(-1, 1, 5), "loss": 1 + np.arange(25.0).reshape(5, 5)}
    networks = [ProbedNetwork(name, 0, (2,), {"surface": arrays}) for name in ("plain", "other")]
    figure = draw_probe(networks, "surface")
    assert [panel.get_title() for panel in figure.axes] == ["plain", "other"]


@pytest.mark.slow
def test_a_report_has_a_figure_and_the_values_of_each_probe(sweep, capsys):
    assert main(["report", str(sweep)]) == 0
    said = capsys.readouterr().out
    figures = sweep / "report" / "figures"
    page = (sweep / "report" / "index.html").read_text(encoding="utf-8")
    assert "Inside the networks" in page
    assert page.count("data:image/svg+xml;base64,") == 3
    for name in ("gradients", "lesions", "responses"):
        assert f"figure: {figures / f'probe_{name}.png'}" in said
        assert f'href="figures/probe_{name}.pdf"' in page
        for kind in ("png", "svg", "pdf"):
            assert (figures / f"probe_{name}.{kind}").is_file()
    row = re.search(
        r"<th scope=row class=\"text\">identity 8</th><td class=\"text\">deleted.*", page
    )
    assert re.findall(r">([\d.]+%)<", row[0]) == ["50%", "25%", "15%"]


@pytest.mark.slow
def test_a_report_without_probes_has_nothing_of_them(sweep):
    write_report(sweep)
    for run in sweep.glob("*/probes.jsonl"):
        run.unlink()
    written = write_report(sweep, again=False)  # and it is written again
    assert "Inside the networks" not in (written.directory / "index.html").read_text("utf-8")
    assert not list((written.directory / "figures").glob("probe_*"))


def test_runs_with_other_probes_are_averaged_over_those_that_have_them(sweep):
    (run, other) = read_sweep(sweep).sections[0].table.arms[0].cells[0].runs
    changed = dataclasses.replace(other, probes={"gates": {"openness": [0.5] * 3}})
    (network, _) = recorded_of(sweep, (run, changed))
    np.testing.assert_allclose(network.found["gradients"]["input"], [1, 2, 3])
    np.testing.assert_allclose(network.by_block("gates")["openness"], 50)


def recorded_of(sweep, runs):
    """What a table has recorded whose first cell has these runs instead."""
    table = table_of(sweep)
    first, *others = table.arms
    cell = dataclasses.replace(first.cells[0], runs=runs)
    arm = dataclasses.replace(first, cells=(cell,))
    return recorded(dataclasses.replace(table, arms=(arm, *others)))
