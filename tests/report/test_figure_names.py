"""Names of networks in figures: legible, however many there are and however long they are."""

import itertools

import numpy as np
import pytest

from resjax.report import figures, layout, sorting
from resjax.report.arms import Arm
from resjax.report.runs import read_runs
from tests.report.fabricate import write_sweep

KEYS = (
    ("projection_all", "shortcut_gate"),
    ("kernel_init=xavier_uniform", "kernel_init=he_normal"),
    ("order=relu_before_add", "order=bn_after_add"),
    ("shortcut_base=avgpool_projection", "shortcut_base=projection"),
)

TITLE = ", ".join(
    ["digits", "data.augment=crop_flip", "optim.learning_rate=0.05", "optim.schedule=cosine",
     "optim.weight_decay=0.0001", "train.batch_size=128"]
)  # fmt: skip


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """The runs of a net of 8 and of one of 20 layers."""
    directory = tmp_path_factory.mktemp("cells")
    write_sweep(directory, {("none", depth): [0.1, 0.2] for depth in (8, 20)})
    (table,) = sorting.arm_tables(*read_runs(directory))
    return table.arms[0].cells


def named(names, cells):
    return [Arm(tuple(parts), "none", n % 9, cells) for n, parts in enumerate(names)]


def long_named(number, cells):
    """Arms whose names have a shortcut and three keys, that differ in all of them."""
    return named(itertools.islice(itertools.product(*KEYS), number), cells)


def texts_of(figure):
    """All texts that are drawn."""
    texts = [text for text in (figure._suptitle, figure._supxlabel) if text]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    for panel in filter(lambda panel: panel.get_visible(), figure.axes):
        texts += [panel.title, panel.xaxis.label, panel.yaxis.label]
        for axis, coordinate in ((panel.xaxis, 0), (panel.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_ticklabels() if tick.get_visible()]
            texts += [tick for tick in ticks if low <= tick.get_position()[coordinate] <= high]
    return [text for text in texts if text.get_text()]


def is_legible(figure, least=0.7):
    """Checks that panels have this height in inches, and that no text lies on another thing."""
    figure.draw_without_rendering()
    panels = [panel.get_window_extent() for panel in figure.axes if panel.get_visible()]
    texts = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
    for said, box in texts:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1, said
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1, said
    for panel in panels:
        assert panel.height > least * figure.dpi
        assert panel.width > 0.4 * figure.dpi
    for (one, box), (other, against) in itertools.combinations(texts, 2):
        assert not overlap(box, against), (one, other)
    for (said, box), panel in itertools.product(texts, panels):
        assert not overlap(box, panel), said


def overlap(one, other):
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return width > 1 and height > 1


@pytest.mark.parametrize("title", [None, TITLE])
@pytest.mark.parametrize("number", [1, 2, 5, 16])
def test_names_are_legible_in_each_figure(number, title, cells):
    of_two_depths, of_one = long_named(number, cells), long_named(number, cells[1:])
    is_legible(figures.error_curves(of_two_depths, "train_error", title))
    is_legible(figures.error_by_depth(of_two_depths, title))
    is_legible(figures.error_by_network(of_one, title), least=0.1)


def test_three_usual_names_stand_in_one_row_of_a_legend(cells):
    names = [["identity"], ["projection"], ["projection_all"]]
    [legend] = figures.error_by_depth(named(names, cells)).legends
    assert legend._ncols == 3


def test_a_usual_name_with_a_key_is_one_line_beside_its_row(cells):
    names = [["identity", "order=relu_before_add"], ["exclusive_gate", "gate_bias=-6.0"]]
    panel = figures.error_by_network(named(names, cells[1:])).axes[0]
    assert [text.get_text() for text in panel.get_yticklabels()] == [
        "identity order=relu_before_add", "exclusive_gate gate_bias=-6.0",
    ]  # fmt: skip


def test_a_title_has_a_key_on_each_line_and_a_long_value_on_the_next(cells):
    names = [["plain", "norm.kind=none"], ["identity", "shortcut_base=avgpool_projection"]]
    figure = figures.error_curves(named(names, cells), "train_error")
    assert [panel.get_title() for panel in figure.axes] == [
        "plain\nnorm.kind=none", "identity\nshortcut_base=\navgpool_projection",
    ]  # fmt: skip


def test_a_value_with_commas_stays_whole(cells):
    names = [["plain", "stages=[3, 4]", "norm.kind=none"], ["plain"]]
    figure = figures.error_curves(named(names, cells), "train_error")
    assert figure.axes[0].get_title() == "plain\nstages=[3, 4]\nnorm.kind=none"


def test_lines_aside_of_their_depths_stay_within_the_panel(cells):
    figure = figures.error_by_depth(long_named(16, cells))
    figure.draw_without_rendering()
    for panel in figure.axes:
        box = panel.get_window_extent()
        for line in panel.get_lines():
            across = line.get_transform().transform(line.get_xydata())[:, 0]
            assert np.all((box.x0 < across) & (across < box.x1))


@pytest.mark.parametrize("number", [2, 16])
def test_many_lines_stay_at_their_depths(number, cells):
    """Each is less than an eighth of the gap between two depths beside its own."""
    figure = figures.error_by_depth(long_named(number, cells))
    figure.draw_without_rendering()
    for panel in figure.axes:
        back = panel.transData.inverted()
        for line in panel.get_lines():
            seen = back.transform(line.get_transform().transform(line.get_xydata()))[:, 0]
            assert np.abs(seen - (8, 20)).max() < (20 - 8) / 8


@pytest.mark.parametrize("number", [12, 16, 100])
def test_figures_of_many_networks_fit_on_a_page(number, cells):
    of_two, of_one = long_named(number, cells), long_named(number, cells[1:])
    many = [*of_two, *of_two[: number - len(of_two)]] * 5
    drawn = [
        figures.error_curves(many[:number], "train_error"),
        figures.error_by_depth(many[:number]),
        figures.error_by_network([*of_one, *of_one * 5][:number]),
    ]
    for figure in drawn:
        width, height = figure.get_size_inches()
        assert width <= layout.PAGE
        assert height <= layout.TALLEST + layout.LINE


def test_a_figure_without_all_networks_says_so(cells):
    many = named([["plain", f"width={number}"] for number in range(60)], cells)
    figure = figures.error_curves(many, "train_error")
    shown = sum(panel.get_visible() for panel in figure.axes)
    assert figure._suptitle.get_text() == f"the first {shown} of 60 networks"
    assert figures.error_curves(many[:shown], "train_error")._suptitle is None


def looks_of(lines):
    """What tells lines apart in a figure, beside their dashes."""
    return [
        (line.get_color(), line.get_marker(), line.get_markerfacecolor(), line.get_fillstyle())
        for line in lines
    ]


def test_no_two_of_many_networks_are_drawn_alike(cells):
    for number in (16, 27):
        many = named([["plain", f"width={width}"] for width in range(number)], cells[1:])
        by_network = figures.error_by_network(many).axes[0].get_lines()
        many = named([["plain", f"width={width}"] for width in range(number)], cells)
        by_depth = figures.error_by_depth(many).axes[0].get_lines()
        for lines in (by_network, by_depth):
            assert len(set(looks_of(lines))) == len(lines) == number


def test_a_hollow_marker_is_larger_than_a_full_one_and_than_its_edge(cells):
    first, hollow = (figures.error_by_depth(named([["plain"]] * 10, cells)).axes[0].get_lines())[
        ::9
    ]
    assert hollow.get_markersize() > first.get_markersize() == 3
    assert hollow.get_markersize() > 4 * hollow.get_markeredgewidth()


def test_letters_that_the_font_lacks_warn_nobody(cells, tmp_path):
    names = [["残差連接"], ["plain"]]
    layout.save(figures.error_by_depth(named(names, cells)), tmp_path / "figure")
    assert "残差連接" in (tmp_path / "figure.svg").read_text(encoding="utf-8")
