"""Figures for a paper, drawn by matplotlib in the width of a column, or of a page for many nets."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from resjax.report.arms import Arm, Cell
from resjax.report.curves import curve
from resjax.report.layout import (
    COLUMN,
    EM,
    LINE,
    PAGE,
    STYLE,
    draw_legend,
    finish,
    fitting,
    in_style,
    legend_height,
    lines_of,
    looks,
    names_in_lines,
    new_figure,
    of_all,
)
from resjax.report.lines import (
    NAMES,
    ErrorLine,
    axis_of,
    errors_of,
    intervals_of,
    is_any_wider_than_the_data,
    lines_by,
    percents,
    swept_key,
)
from resjax.report.styles import MATPLOTLIB_LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 3
"""Points from which on a line is seen without markers."""

ASIDE, SPREAD = 2, 0.2
"""Points from a line to the next one that is drawn over the same values of an axis, and the largest
distance of the outermost lines as a share of the gap between neighbouring values."""

MOST_BANDS = 4
"""Maximum number of lines whose intervals are bands; those of more are bars."""

BEYOND = 1.5
"""Maximum of an axis for the sake of an interval, as a multiple of the largest error."""

WIDE = 10
"""Ratio of the values of a key from which on their axis is logarithmic."""


@in_style
def error_curves(arms: Sequence[Arm], measure: str, title: str | None = None) -> "Figure":
    """Draws error against epoch, a panel for each arm and a line for each depth.

    The comparison is that of He et al. 2015, figure 6: plain nets first. A line is the mean over
    seeds of the clean error on the whole set; the band spans the seeds. The dashes say the depth,
    and a dotted line across the panel when a net was grown. One or two evaluations have markers,
    and bars that span the seeds. The figure is as wide as a page where it would not fit on one, and
    of the arms that do not fit then it shows the first.
    """
    every = [arm.parts for arm in arms]

    def names_in(number: int, layout: tuple[float, int]) -> list[str]:
        width, columns = layout
        return names_in_lines(every[:number], (width - 0.5) / columns - 0.1, key_per_line=True)

    def height(number: int, layout: tuple[float, int]) -> float:
        rows = -(-number // layout[1])
        return 0.55 + (1.23 + LINE * max(map(lines_of, names_in(number, layout)))) * rows

    layouts = [(COLUMN, min(2, len(arms))), (PAGE, 4), (PAGE, 6)]
    shown, layout = fitting(len(arms), layouts, height)
    (width, columns), names = layout, names_in(shown, layout)
    figure = new_figure(height(shown, layout), of_all(title, shown, len(arms)), width)
    drawn, styles = arms[:shown], looks([arm.place for arm in arms])
    depths = sorted({cell.depth for arm in drawn for cell in arm.cells})
    grid = figure.subplots(-(-shown // columns), columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for panel, arm, name, look in zip(panels, drawn, names, styles, strict=False):
        for cell in arm.cells:
            _draw_curve(panel, cell, measure, depths, look)
        panel.set_title(name)
        panel.set_ylim(-2, 102)
        finish(panel)
    for place, panel in enumerate(panels):
        panel.set_xlim(left=0)
        panel.set_visible(place < shown)
        panel.locator_params(axis="x", nbins=4, integer=True)
        if place + columns >= shown:  # the lowest of its column
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("epoch")
    figure.supylabel(NAMES[measure], fontsize=7)
    draw_legend(figure, [f"{depth} layers" for depth in depths], color="0.3")
    return figure


def _draw_curve(
    panel: "Axes", cell: Cell, measure: str, depths: list[int], look: dict[str, Any]
) -> None:
    found = curve(cell, measure)
    if found is None:
        return
    color, line = look["color"], MATPLOTLIB_LINES[depths.index(cell.depth) % len(MATPLOTLIB_LINES)]
    few = np.isfinite(found.mean).sum() < FEW
    drawn = look if few else {"color": color}
    panel.plot(found.epochs, found.mean, ls=line, label=f"{cell.depth} layers", **drawn)
    if len(cell.runs) > 1:
        panel.fill_between(found.epochs, found.low, found.high, color=color, alpha=0.15, lw=0)
    if len(cell.runs) > 1 and few:
        panel.vlines(found.epochs, found.low, found.high, color=color, lw=0.8)
    for step in cell.runs[0].curve:
        if f"grown_{measure}" in step:
            panel.axvline(step["epoch"], color="0.5", lw=0.8, ls=":")
            panel.text(step["epoch"], 97, " grown", color="0.3", fontsize=6, va="top")


# ----------------------------------------------------------------- the errors of the whole training


def error_by(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error against what distinguishes the networks; see `axis_of`."""
    draw = {"depth": error_by_depth, "network": error_by_network}
    return draw.get(axis_of(arms), error_by_key)(arms, title)


def error_by_depth(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error against depth, a line for each arm.

    Points are means over seeds. Bands are their 95 % intervals, or bars where there are more than
    `MOST_BANDS` lines, or an interval is wider than the range of the errors. An interval far beyond
    all errors ends at the edge of the axis. The lines lie a little aside of each other, so that
    none hides another.
    """
    lines = [
        ErrorLine(a.parts, a.place, {float(cell.depth): cell for cell in a.cells}) for a in arms
    ]
    return _by_number(lines, "layers", title)


def error_by_key(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error against `swept_key`, as `error_by_depth` does against depth."""
    key = swept_key(arms)
    return _by_number(lines_by(arms, key), key, title)


@in_style
def _by_number(every: Sequence[ErrorLine], label: str, title: str | None) -> "Figure":
    """Draws training and test error against a number."""

    def names_in(number: int) -> list[str]:
        return names_in_lines([line.parts for line in every[:number]], COLUMN - 4 * EM)

    def height(number: int, width: float) -> float:
        return 1.75 + legend_height(names_in(number), width)

    shown, width = fitting(len(every), (COLUMN, PAGE), height)
    lines, names = every[:shown], names_in(shown)
    figure = new_figure(height(shown, width), of_all(title, shown, len(every)), width)
    ticks = sorted({value for line in lines for value in line.cells})
    log = ticks[0] > 0 and ticks[-1] >= WIDE * ticks[0] and label != "layers"
    room = 72 * (width / 2 - 0.45)  # points of the width of a panel
    farthest = _farthest(len(lines), np.log(ticks) if log else np.array(ticks), room)
    asides = np.linspace(-farthest, farthest, len(lines)) if len(lines) > 1 else [0.0]
    cells = [cell for line in lines for cell in line.cells.values()]
    as_bars = len(lines) > MOST_BANDS or is_any_wider_than_the_data(cells)
    styles = looks([line.place for line in lines])
    panels = list(figure.subplots(1, 2, sharex=True, sharey=True))
    for panel, measure in zip(panels, NAMES, strict=True):
        if log:
            panel.set_xscale("log")
        for line, name, look, aside in zip(lines, names, styles, asides, strict=True):
            _draw_line(panel, line, measure, aside, as_bars, label=name, **look)
        panel.set_xlabel(label)
        margin = (farthest + 3) / room
        panel.margins(x=max(0.08, margin / (1 - 2 * margin)))
        _set_ticks(panel, ticks, log)
    _share_errors(panels, "y", cells)
    draw_legend(figure, names)
    return figure


def _farthest(number: int, values: np.ndarray, room: float) -> float:
    """Points from a value of an axis to the outermost line that is drawn over it."""
    gaps = np.diff(values)
    closest = room * 0.8 * gaps.min() / gaps.sum() if gaps.size else math.inf
    return min(ASIDE * (number - 1), SPREAD * closest) / 2


def _set_ticks(panel: "Axes", values: Sequence[float], log: bool) -> None:
    """Places ticks at the values, or at round numbers if there are too many."""
    if len(values) > 6:
        return
    panel.set_xticks(values, [f"{value:g}" for value in values])
    if log:
        panel.minorticks_off()


def _draw_line(
    panel: "Axes", line: ErrorLine, measure: str, aside: float, as_bars: bool, **drawn: Any
) -> None:
    """Draws a line, `aside` points to the right of its values."""
    from matplotlib.transforms import ScaledTranslation

    values, means, lows, highs = percents(line.cells, measure)
    if not values:
        return
    [plotted] = panel.plot(values, means, **drawn)
    if as_bars:
        interval = panel.vlines(values, lows, highs, color=drawn["color"], lw=0.7)
    else:
        interval = panel.fill_between(values, lows, highs, color=drawn["color"], alpha=0.15, lw=0)
    # Moved after they were plotted, so that the axis is that of the values.
    right = ScaledTranslation(aside / 72, 0, panel.figure.dpi_scale_trans)
    plotted.set_transform(panel.transData + right)
    interval.set_transform(panel.transData + right)


def _share_errors(panels: Sequence["Axes"], axis: str, cells: Sequence[Cell]) -> None:
    """Gives the panels of training and test error one axis from zero, and their names.

    It holds all errors, and their intervals as far as `BEYOND`.
    """
    top = max(errors_of(cells), default=0.0) or 1.0
    top = min(BEYOND * top, max([top, *(high for _, high in intervals_of(cells))]))
    for panel, name in zip(panels, NAMES.values(), strict=True):
        split, _, what = name.partition(" ")
        panel.set_title(split)
        panel.set(**{f"{axis}lim": (-0.05 * top, 1.05 * top)})
        finish(panel)
    if axis == "y":
        panels[0].set_ylabel(what)


@in_style
def error_by_network(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error of nets of one depth, a row for each arm, the first on top.

    Points are means over seeds, bars their 95 % intervals, up to the edge of the axis.
    """
    smaller = STYLE["ytick.labelsize"] / STYLE["font.size"]

    def names_in(number: int, width: float) -> list[str]:
        return names_in_lines([arm.parts for arm in arms[:number]], width / 2 / smaller)

    def height(number: int, width: float) -> float:
        return 0.7 + sum(0.02 + 0.11 * lines_of(name) for name in names_in(number, width))

    shown, width = fitting(len(arms), (COLUMN, PAGE), height)
    figure = new_figure(height(shown, width), of_all(title, shown, len(arms)), width)
    panels = list(figure.subplots(1, 2, sharex=True, sharey=True))
    names, styles = names_in(shown, width), looks([arm.place for arm in arms])
    # As high as its name: the rows of a page are not those of the longest name.
    heights = np.array([0.02 + 0.11 * lines_of(name) for name in names])
    rows = np.cumsum(heights) - heights / 2
    for panel, measure in zip(panels, NAMES, strict=True):
        for arm, row, look in zip(arms, rows, styles, strict=False):
            _, means, lows, highs = percents(dict(enumerate(arm.cells)), measure)
            panel.hlines([row] * len(means), lows, highs, color=look["color"])
            panel.plot(means, [row] * len(means), ls="", **look)
    _share_errors(panels, "x", [cell for arm in arms[:shown] for cell in arm.cells])
    figure.supxlabel("error (%)", fontsize=7)
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(heights.sum(), 0)
    return figure
