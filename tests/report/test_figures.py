import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np
import pytest

from resjax.report import figures, layout, sorting, styles
from resjax.report.runs import read_runs
from resjax.runs import disk, rundir
from tests.report.fabricate import SHORTCUTS, write_run, write_sweep


def test_a_figure_is_as_wide_as_a_column_and_has_a_panel_for_each_arm(tmp_path):
    write_sweep(tmp_path, {(kind, depth): [0.1, 0.3] for kind in SHORTCUTS for depth in (8, 20)})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    figure = figures.error_curves(table.arms, "train_error")
    assert figure.get_size_inches()[0] == layout.COLUMN
    panels = [panel for panel in figure.axes if panel.get_visible()]
    assert [panel.get_title() for panel in panels] == ["plain", "identity", "projection_all"]
    for panel in panels:
        assert [line.get_label() for line in panel.get_lines()] == ["8 layers", "20 layers"]
        assert len({line.get_linestyle() for line in panel.get_lines()}) == 2
        np.testing.assert_allclose(panel.get_lines()[0].get_ydata()[-1], 20)
    colors = [{line.get_color() for line in panel.get_lines()} for panel in panels]
    assert colors == [{styles.color(kind)} for kind in SHORTCUTS]
    for path in layout.save(figure, tmp_path / "figure"):
        assert path.stat().st_size > 1000
    ET.parse(tmp_path / "figure.svg")
    assert matplotlib.image.imread(tmp_path / "figure.png").shape[1] == round(160 * layout.COLUMN)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_one_or_two_evaluations_are_seen_by_their_markers_and_bars(epochs, tmp_path):
    for seed, error in enumerate((0.1, 0.3)):
        write_run(tmp_path, f"run{seed}", error, epochs, seed=seed)
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    figure = figures.error_curves(table.arms, "train_error")
    [line] = figure.axes[0].get_lines()
    [entry] = figure.legends[0].get_lines()
    assert entry.get_marker() in ("", "None")
    _, *bars = figure.axes[0].collections
    if epochs == 3:
        assert (line.get_marker(), bars) == ("None", [])
    else:
        assert line.get_marker() == styles.MARKERS[table.arms[0].place]
        ends = bars[0].get_segments()[-1]
        np.testing.assert_allclose(ends, [(epochs, 10), (epochs, 30)])


def test_lines_of_equal_errors_lie_aside_of_each_other_about_their_depths(tmp_path):
    write_sweep(tmp_path, {(kind, depth): [0.1] for kind in SHORTCUTS for depth in (8, 20)})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    figure = figures.error_by_depth(table.arms)
    figure.canvas.draw()
    panel = figure.axes[0]
    places = [line.get_transform().transform(line.get_xydata()) for line in panel.get_lines()]
    own = [panel.transData.transform((depth, 10)) for depth in (8, 20)]
    np.testing.assert_allclose(np.mean(places, 0), own, atol=1e-6)
    steps = np.diff(places, axis=0)
    np.testing.assert_allclose(steps[..., 0], figures.ASIDE * figure.dpi / 72)
    np.testing.assert_allclose(steps[..., 1], 0, atol=1e-6)


def test_error_by_depth_has_points_and_intervals_of_the_cells(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1, 0.3, 0.2], ("none", 20): [0.4, 0.5, 0.6]})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    panel, _ = figures.error_by_depth(table.arms).axes
    (line,), (band,) = panel.get_lines(), panel.collections
    np.testing.assert_allclose(line.get_ydata().astype(float), [20, 50])
    corners = band.get_paths()[0].vertices
    for cell in table.cells:
        ends = sorted({round(y, 9) for x, y in corners if x == cell.depth})
        expected = [100 * end for end in cell.sample("train_error").interval]
        np.testing.assert_allclose(ends, expected)


@pytest.mark.parametrize("kinds", [("none",), ("none", "identity", "projection_all", "scaled")])
def test_a_legend_with_long_names_stays_within_the_figure(kinds, tmp_path):
    for norm in ("batch", "none"):
        errors = {(kind, depth): [0.1] for kind in kinds for depth in (8, 20)}
        write_sweep(tmp_path / "sweep" / norm, errors, norm__kind=norm)
    for path in (tmp_path / "sweep").glob("*/*"):
        path.rename(tmp_path / f"{path.parent.name}-{path.name}")
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    figure = figures.error_by_depth(table.arms)
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len(legend.get_texts()) == 2 * len(kinds)
    low, high = legend.get_window_extent().intervalx
    assert 0 <= low < high <= figure.bbox.width


def test_nets_of_one_depth_have_a_row_each_with_their_intervals_as_bars(tmp_path):
    errors = {("none", 8): [0.1, 0.3, 0.2], ("identity", 8): [0.0, 0.1, 0.2]}
    write_sweep(tmp_path, errors)
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    assert figures.axis_of(table.arms) == "network"
    panel, _ = figures.error_by(table.arms).axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["plain", "identity"]
    for row, cell in enumerate(table.cells):
        ((low, at), (high, _)), = panel.collections[row].get_segments()  # fmt: skip
        expected = [100 * end for end in cell.sample("train_error").interval]
        np.testing.assert_allclose((low, high), expected)
        assert at == panel.get_yticks()[row] == panel.get_lines()[row].get_ydata()[0]


RATES = [0.01, 0.1, 1.0]


def of_rates(directory, rates, **keys):
    """Arms of one depth that differ in their shortcut and their rate; errors are its thousandth."""
    for rate in rates:
        for kind in ("none", "identity"):
            write_run(
                directory, f"{kind}-{rate}-{len(keys)}", rate / 1000, model__shortcut=kind,
                optim__learning_rate=rate, **keys,
            )  # fmt: skip
    (table,) = sorting.arm_tables(*read_runs(directory))
    return table.arms


@pytest.mark.parametrize(("rates", "scale"), [(RATES, "log"), ([0.1, 0.2, 0.3], "linear")])
def test_nets_of_one_depth_are_drawn_against_the_key_that_was_swept(rates, scale, tmp_path):
    of_both = of_rates(tmp_path, rates)
    assert figures.axis_of(of_both) == "learning_rate"
    figure = figures.error_by(of_both)
    panel = figure.axes[0]
    assert (panel.get_xscale(), panel.get_xlabel()) == (scale, "optim.learning_rate")
    assert [line.get_label() for line in panel.get_lines()] == ["plain", "identity"]
    assert [line.get_color() for line in panel.get_lines()] == [
        styles.color("none"), styles.color("identity"),
    ]  # fmt: skip
    for line in panel.get_lines():
        np.testing.assert_allclose(line.get_xdata(), rates)
        np.testing.assert_allclose(line.get_ydata(), np.array(rates) / 10)


def test_nets_of_two_numeric_keys_are_drawn_by_their_names(tmp_path):
    of_rates(tmp_path, RATES)
    both = of_rates(tmp_path, [0.01], model__width=4)
    assert figures.axis_of(both) == "network"
    assert len(figures.error_by(both).axes[0].get_yticks()) == 8


def test_training_and_test_error_have_one_axis(tmp_path):
    write_sweep(tmp_path, {("none", depth): [0.1, 0.3] for depth in (8, 20)})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    for drawn in (figures.error_by_depth(table.arms), figures.error_by_network(table.arms)):
        train, test = drawn.axes
        assert [panel.get_title() for panel in drawn.axes] == ["training", "test"]
        assert (train.get_xlim(), train.get_ylim()) == (test.get_xlim(), test.get_ylim())


def test_intervals_wider_than_the_data_are_bars_that_the_axis_cuts(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.01, 0.03], ("none", 20): [0.05, 0.2]})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    assert table.cells[1].sample("test_error").interval == (0, 1)
    for panel in figures.error_by_depth(table.arms).axes:
        (bars,) = panel.collections
        np.testing.assert_allclose(bars.get_segments()[1], [(20, 0), (20, 100)])
        assert 21 < panel.get_ylim()[1] < 1.6 * 21


def test_more_than_four_lines_have_bars_at_their_depths_alone(tmp_path):
    kinds = list(styles.PLACES)
    write_sweep(tmp_path, {(kind, d): [0.1 * d, 0.11 * d] for kind in kinds[:5] for d in (1, 8)})
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    few, many = (figures.error_by_depth(table.arms[:number]).axes[0] for number in (4, 5))
    assert all(hasattr(bars, "get_segments") for bars in many.collections)
    assert not any(hasattr(band, "get_segments") for band in few.collections)


def test_a_dotted_line_says_when_a_net_was_grown(tmp_path):
    write_run(tmp_path, "grown", 0.1, train__grow_from=8, train__grow_at="50%")
    lines = rundir.read_metrics(tmp_path / "grown")
    lines[1]["grown_train_error"] = 0.5
    (tmp_path / "grown" / "metrics.jsonl").unlink()
    for line in lines:
        disk.append_line(tmp_path / "grown" / "metrics.jsonl", line)
    (table,) = sorting.arm_tables(*read_runs(tmp_path))
    _, line = figures.error_curves(table.arms, "train_error").axes[0].get_lines()
    assert line.get_linestyle() == ":"
    assert set(line.get_xdata()) == {lines[1]["epoch"]}
