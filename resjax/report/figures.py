"""Figures for a paper, drawn by matplotlib in the width of a column."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resjax.config.text import printable
from resjax.files import replacing
from resjax.report.arms import Arm, Cell
from resjax.report.curves import curve
from resjax.report.styles import LIGHT, MARKERS, MATPLOTLIB_LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

COLUMN = 3.25
"""Width in inches of a column of a two-column paper."""

STYLE = {
    "font.size": 7, "axes.titlesize": 7, "axes.labelsize": 7, "legend.fontsize": 7,
    "xtick.labelsize": 6, "ytick.labelsize": 6, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}  # fmt: skip

ASIDE = 2
"""Points from a line to the next one where they are drawn against depth."""

NAMES = {"train_error": "training error (%)", "test_error": "test error (%)"}


def _in_style(draw: Callable[..., "Figure"]) -> Callable[..., "Figure"]:
    """Draws with the sizes of `STYLE`, whatever the settings of matplotlib."""

    @functools.wraps(draw)
    def styled(*arguments: object, **named: object) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **named)

    return styled


@_in_style
def error_curves(arms: Sequence[Arm], measure: str, title: str | None = None) -> "Figure":
    """Draws error against epoch, a panel for each arm and a line for each depth.

    The comparison is that of He et al. 2015, figure 6: plain nets first. A line is the mean over
    seeds of the clean error on the whole set; the band spans the seeds. The dashes say the depth,
    and a dotted line across the panel when a net was grown.
    """
    depths = sorted({cell.depth for arm in arms for cell in arm.cells})
    columns = min(2, len(arms))
    rows = -(-len(arms) // columns)
    figure = _figure(0.55 + 1.35 * rows, title)
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel, arm in zip(panels, arms, strict=False):
        for cell in arm.cells:
            _draw_curve(panel, cell, measure, depths, LIGHT[arm.place])
        panel.set_title(_literal(arm.name))
        panel.set_ylim(-2, 102)
        _finish(panel)
    for place, panel in enumerate(panels):
        panel.set_xlim(left=0)
        panel.set_visible(place < len(arms))
        panel.locator_params(axis="x", nbins=4, integer=True)
        if place + columns >= len(arms):  # the lowest of its column
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("epoch")
    figure.supylabel(NAMES[measure], fontsize=7)
    _legend(figure, [f"{depth} layers" for depth in depths], color="0.3")
    return figure


def _draw_curve(panel: "Axes", cell: Cell, measure: str, depths: list[int], color: str) -> None:
    found = curve(cell, measure)
    if found is None:
        return
    line = MATPLOTLIB_LINES[depths.index(cell.depth) % len(MATPLOTLIB_LINES)]
    panel.plot(found.epochs, found.mean, color=color, ls=line, label=f"{cell.depth} layers")
    if len(cell.runs) > 1:
        panel.fill_between(found.epochs, found.low, found.high, color=color, alpha=0.15, lw=0)
    for step in cell.runs[0].curve:
        if f"grown_{measure}" in step:
            panel.axvline(step["epoch"], color="0.5", lw=0.8, ls=":")
            panel.text(step["epoch"], 97, " grown", color="0.3", fontsize=6, va="top")


@_in_style
def error_by_depth(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error against depth, a line for each arm.

    Points are means over seeds, bands their 95 % intervals. The lines lie a little aside of each
    other, so that none hides another. Where there is one depth each arm has a row, and its interval
    is a bar.
    """
    if len({cell.depth for arm in arms for cell in arm.cells}) == 1:
        return _error_by_arm(arms, title)
    figure = _figure(1.9 + 0.12 * (len(arms) // 2), title)
    for panel, measure in zip(figure.subplots(1, 2), NAMES, strict=True):
        for number, arm in enumerate(arms):
            _draw_arm(panel, arm, measure, ASIDE * (number - (len(arms) - 1) / 2))
        panel.set_ylabel(NAMES[measure])
        panel.set_xlabel("layers")
        panel.margins(x=0.08)
        panel.set_xticks(sorted({cell.depth for arm in arms for cell in arm.cells}))
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
        _finish(panel)
    _legend(figure, [_literal(arm.name) for arm in arms])
    return figure


def _draw_arm(panel: "Axes", arm: Arm, measure: str, aside: float) -> None:
    """Draws the line of an arm, `aside` points to the right of its depths."""
    from matplotlib.transforms import ScaledTranslation

    depths, means, lows, highs = _percents(arm, measure)
    if not depths:
        return
    color, marker, name = LIGHT[arm.place], MARKERS[arm.place], _literal(arm.name)
    [line] = panel.plot(depths, means, color=color, marker=marker, ms=3, label=name)
    band = panel.fill_between(depths, lows, highs, color=color, alpha=0.15, lw=0)
    # Moved after they were plotted, so that the axis is that of the depths.
    right = ScaledTranslation(aside / 72, 0, panel.figure.dpi_scale_trans)
    line.set_transform(panel.transData + right)
    band.set_transform(panel.transData + right)


def _percents(arm: Arm, measure: str) -> tuple[list[int], list[float], list[float], list[float]]:
    """Depths at which an error is finite, its means in percent, and the ends of their intervals."""
    cells = [(cell.depth, cell.sample(measure)) for cell in arm.cells]
    cells = [(depth, s) for depth, s in cells if s is not None and np.isfinite(s.mean)]
    ends = [s.interval or (s.mean, s.mean) for _, s in cells]
    return (
        [depth for depth, _ in cells],
        [100 * sample.mean for _, sample in cells],
        [100 * low for low, _ in ends],
        [100 * high for _, high in ends],
    )


def _error_by_arm(arms: Sequence[Arm], title: str | None) -> "Figure":
    """Draws training and test error of nets of one depth, a row for each arm, the first on top."""
    figure = _figure(0.7 + 0.13 * len(arms), title)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, measure in zip(panels, NAMES, strict=True):
        for row, arm in enumerate(arms):
            _, means, lows, highs = _percents(arm, measure)
            rows, color = [row] * len(means), LIGHT[arm.place]
            panel.hlines(rows, lows, highs, color=color)
            panel.plot(means, rows, color=color, marker=MARKERS[arm.place], ms=3, ls="")
        split, _, what = NAMES[measure].partition(" ")
        panel.set_title(split)
        panel.set_xlim(left=min(0, panel.get_xlim()[0]))
        _finish(panel)
    figure.supxlabel(what, fontsize=7)
    short = [re.sub(r"\b\w+\.(?=\w+=)", "", arm.name) for arm in arms]  # the panels need the width
    panels[0].set_yticks(range(len(arms)), map(_literal, short))
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _literal(name: str) -> str:
    """A name as matplotlib shows it literally: no part of it becomes a formula."""
    return printable(name).replace("$", r"\$")


def _figure(height: float, title: str | None) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN, height), layout="constrained")
    if title:
        figure.suptitle(_literal(title), fontsize=7, wrap=True)
    return figure


def _finish(panel: "Axes") -> None:
    panel.grid(alpha=0.25, linewidth=0.4)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: "Figure", names: Sequence[str], color: str | None = None) -> None:
    """Draws one legend below all panels, with only the names that a panel has.

    With a colour all its lines have that: those of the panels differ, and it tells their dashes.
    """
    handles = {}
    for panel in figure.axes:
        found, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    names = [name for name in names if name in handles]
    if names:
        length = 2.8 if color else 2.0  # where dashes are to be told apart
        drawn = figure.legend(
            [handles[name] for name in names],
            names,
            loc="outside lower center",
            ncols=_legend_columns(names, length),
            frameon=False,
            handlelength=length,
            columnspacing=1.0,
        )
        for line in drawn.get_lines() if color else ():
            line.set_color(color)


def _legend_columns(names: Sequence[str], handle: float) -> int:
    """Columns of a legend that fit into a figure by the mean width of a letter, rows as even."""
    em = STYLE["legend.fontsize"] / 72
    entry = em * (handle + 1.8 + 0.53 * max(map(len, names)))
    fitting = max(1, min(3, int((COLUMN + em) / entry)))
    rows = -(-len(names) // fitting)
    return -(-len(names) // rows)


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Writes a figure in each of `FORMATS`, with the same bytes for the same figure."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if layout := figure.get_layout_engine():
        layout.execute(figure)  # once for all formats
        figure.set_layout_engine("none")
    with matplotlib.rc_context({"svg.hashsalt": "resjax", "svg.fonttype": "none"}):
        for path in paths:
            kind = path.suffix[1:]
            with replacing(path) as partial:
                figure.savefig(partial, format=kind, dpi=160, metadata=undated[kind])
    return paths
