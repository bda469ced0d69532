"""Figures for a paper, drawn by matplotlib in the width of a column."""

import functools
import re
import textwrap
import warnings
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

EM = STYLE["font.size"] / 72
"""Inches of a font size."""

LETTER = 0.54 * EM
"""Width in inches of a letter of a name, on average."""

LINE = 1.2 * EM
"""Height in inches of a line of a title."""

HANDLE = 2.0
"""Length in font sizes of a line in a legend; `DASHED` where dashes are to be told apart."""

DASHED = 2.8

FEW = 3
"""Points from which on a line is seen without markers."""

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
    and a dotted line across the panel when a net was grown. One or two evaluations have markers,
    and bars that span the seeds.
    """
    depths = sorted({cell.depth for arm in arms for cell in arm.cells})
    columns = min(2, len(arms))
    rows = -(-len(arms) // columns)
    names = _names(arms, (COLUMN - 0.5) / columns - 0.1, key_per_line=True)
    figure = _figure(0.55 + (1.23 + LINE * max(map(_lines, names))) * rows, title)
    panels = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
    for panel, arm, name in zip(panels, arms, names, strict=False):
        for cell in arm.cells:
            _draw_curve(panel, cell, measure, depths, arm.place)
        panel.set_title(name)
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


def _draw_curve(panel: "Axes", cell: Cell, measure: str, depths: list[int], place: int) -> None:
    found = curve(cell, measure)
    if found is None:
        return
    color, label = LIGHT[place], f"{cell.depth} layers"
    line = MATPLOTLIB_LINES[depths.index(cell.depth) % len(MATPLOTLIB_LINES)]
    few = np.isfinite(found.mean).sum() < FEW
    marker = MARKERS[place] if few else None
    panel.plot(found.epochs, found.mean, color=color, ls=line, marker=marker, ms=3, label=label)
    if len(cell.runs) > 1:
        panel.fill_between(found.epochs, found.low, found.high, color=color, alpha=0.15, lw=0)
    if len(cell.runs) > 1 and few:
        panel.vlines(found.epochs, found.low, found.high, color=color, lw=0.8)
    for step in cell.runs[0].curve:
        if f"grown_{measure}" in step:
            panel.axvline(step["epoch"], color="0.5", lw=0.8, ls=":")
            panel.text(step["epoch"], 97, " grown", color="0.3", fontsize=6, va="top")


@_in_style
def error_by_depth(arms: Sequence[Arm], title: str | None = None) -> "Figure":
    """Draws training and test error against depth, a line for each arm.

    Points are means over seeds, bands their 95 % intervals. The lines lie a little aside of each
    other, so that none hides another; where there are more arms than markers, those of the later
    ones are hollow. Where there is one depth each arm has a row, and its interval is a bar.
    """
    if len({cell.depth for arm in arms for cell in arm.cells}) == 1:
        return _error_by_arm(arms, title)
    names = _names(arms, COLUMN - 4 * EM)
    places = [arm.place for arm in arms]
    farthest = ASIDE * (len(arms) - 1) / 2
    room = (farthest + 3) / (72 * (COLUMN / 2 - 0.45))  # of the width of a panel, for a marker
    figure = _figure(1.75 + _legend_height(names), title)
    for panel, measure in zip(figure.subplots(1, 2), NAMES, strict=True):
        for number, (arm, name) in enumerate(zip(arms, names, strict=True)):
            hollow = {"mfc": "white"} if arm.place in places[:number] else {}
            _draw_arm(panel, arm, measure, ASIDE * number - farthest, label=name, **hollow)
        panel.set_ylabel(NAMES[measure])
        panel.set_xlabel("layers")
        panel.margins(x=max(0.08, room / (1 - 2 * room)))
        panel.set_xticks(sorted({cell.depth for arm in arms for cell in arm.cells}))
        panel.set_ylim(bottom=min(0, panel.get_ylim()[0]))
        _finish(panel)
    _legend(figure, names)
    return figure


def _draw_arm(panel: "Axes", arm: Arm, measure: str, aside: float, **drawn: str) -> None:
    """Draws the line of an arm, `aside` points to the right of its depths."""
    from matplotlib.transforms import ScaledTranslation

    depths, means, lows, highs = _percents(arm, measure)
    if not depths:
        return
    color, marker = LIGHT[arm.place], MARKERS[arm.place]
    [line] = panel.plot(depths, means, color=color, marker=marker, ms=3, **drawn)
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
    smaller = STYLE["ytick.labelsize"] / STYLE["font.size"]
    names = _names(arms, COLUMN / 2 / smaller)
    figure = _figure(0.7 + (0.02 + 0.11 * max(map(_lines, names))) * len(arms), title)
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
    panels[0].set_yticks(range(len(arms)), names)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _names(arms: Sequence[Arm], width: float, key_per_line: bool = False) -> list[str]:
    """Names of arms in lines that fit into a width in inches."""
    lines = [arm.parts if key_per_line else [arm.name] for arm in arms]
    return ["\n".join(_wrapped(line, width) for line in each) for each in lines]


def _wrapped(name: str, width: float) -> str:
    """A name in lines that fit into a width in inches, shown literally: no part is a formula."""
    letters = int(width / LETTER)
    lines = []
    for line in textwrap.wrap(printable(name), letters, break_long_words=False):
        # A value that does not fit beside its key begins the next line.
        halves = re.split("(?<==)", line) if len(line) > letters else [line]
        lines += [part for half in halves for part in textwrap.wrap(half, letters)]
    return "\n".join(lines).replace("$", r"\$")


def _lines(name: str) -> int:
    """The number of lines of a name."""
    return name.count("\n") + 1


def _figure(height: float, title: str | None) -> "Figure":
    """A figure of this height in inches below its title, if it has one."""
    from matplotlib.figure import Figure

    if not title:
        return Figure(figsize=(COLUMN, height), layout="constrained")
    title = _wrapped(title, COLUMN)
    figure = Figure(figsize=(COLUMN, height + LINE * _lines(title)), layout="constrained")
    figure.suptitle(title, fontsize=STYLE["font.size"])
    return figure


def _finish(panel: "Axes") -> None:
    panel.grid(alpha=0.25, linewidth=0.4)
    panel.spines[["top", "right"]].set_visible(False)


def _legend(figure: "Figure", names: Sequence[str], color: str | None = None) -> None:
    """Draws one legend below all panels, with only the names that a panel has.

    With a colour all its lines have that and no markers: those of the panels differ, and it tells
    their dashes.
    """
    handles = {}
    for panel in figure.axes:
        found, labels = panel.get_legend_handles_labels()
        handles |= dict(zip(labels, found, strict=True))
    names = [name for name in names if name in handles]
    if names:
        length = DASHED if color else HANDLE
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
            line.set(color=color, marker="")


def _legend_columns(names: Sequence[str], handle: float) -> int:
    """Columns of a legend that fit into a figure by the mean width of a letter, rows as even."""
    letters = max(len(line) for name in names for line in name.split("\n"))
    fitting = max(1, min(3, int((COLUMN + EM) / (EM * (handle + 1.8) + LETTER * letters))))
    rows = -(-len(names) // fitting)
    return -(-len(names) // rows)


def _legend_height(names: Sequence[str]) -> float:
    """Height in inches of the legend of some arms."""
    rows = -(-len(names) // _legend_columns(names, HANDLE))
    return (0.3 * EM + LINE * max(map(_lines, names))) * rows


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Writes a figure in each of `FORMATS`, with the same bytes for the same figure."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    settings = {"svg.hashsalt": "resjax", "svg.fonttype": "none"}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A name in a script that the font lacks is legible in the SVG and on the page.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        if layout := figure.get_layout_engine():
            layout.execute(figure)  # once for all formats
            figure.set_layout_engine("none")
        for path in paths:
            kind = path.suffix[1:]
            with replacing(path) as partial:
                figure.savefig(partial, format=kind, dpi=160, metadata=undated[kind])
    return paths
