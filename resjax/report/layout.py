"""Sizes of figures in a paper, and the names, legends and files that they have in common."""

import base64
import bisect
import functools
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from resjax.config.text import printable
from resjax.files import replacing
from resjax.report.styles import LIGHT, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Layout = TypeVar("Layout")

FORMATS = ("png", "svg", "pdf")

COLUMN, PAGE = 3.25, 6.75
"""Widths in inches of a column of a two-column paper, and of its text."""

TALLEST = 8.0
"""Height in inches that a page has for a figure without its title and caption."""

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

REPEATS = ({"ms": 3}, {"ms": 5, "mfc": "white", "mew": 0.8}, {"ms": 5, "fillstyle": "left"})
"""Markers of the first, second and third network with one colour: full, hollow, half full."""


def in_style(draw: Callable[..., "Figure"]) -> Callable[..., "Figure"]:
    """Draws with the sizes of `STYLE`, whatever the settings of matplotlib."""

    @functools.wraps(draw)
    def styled(*arguments: object, **named: object) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*arguments, **named)

    return styled


def looks(places: Sequence[int]) -> list[dict[str, Any]]:
    """Colours and markers of networks by their places, as arguments of `Axes.plot`.

    There are fewer places than a table may have networks, so those that repeat one differ in how
    their markers are filled.
    """
    seen: Counter[int] = Counter()
    found = []
    for place in places:
        look = {"color": LIGHT[place], "marker": MARKERS[place]}
        found.append(look | REPEATS[seen[place] % len(REPEATS)])
        if "fillstyle" in found[-1]:
            found[-1]["markerfacecoloralt"] = "white"
        seen[place] += 1
    return found


def fitting(
    number: int, layouts: Sequence[Layout], height: Callable[[int, Layout], float]
) -> tuple[int, Layout]:
    """The first layout in which a figure of some networks is no higher than `TALLEST`.

    Args:
      number: the number of networks.
      layouts: the layouts to choose from.
      height: `height(number, layout)` in inches.

    Returns:
      How many of the networks fit, and the layout; the last one if not all fit into any.
    """
    for layout in layouts:
        if height(number, layout) <= TALLEST:
            return number, layout
    most = bisect.bisect_right(range(1, number), TALLEST, key=lambda n: height(n, layout))
    return max(1, most), layout


def of_all(title: str | None, shown: int, number: int) -> str | None:
    """The title of a figure, which says so where it does not show all networks."""
    left_out = f"the first {shown} of {number} networks" if shown < number else None
    return ": ".join(filter(None, (title, left_out))) or None


def new_figure(height: float, title: str | None = None, width: float = COLUMN) -> "Figure":
    """A figure of this height in inches below its title, if it has one."""
    from matplotlib.figure import Figure

    if not title:
        return Figure(figsize=(width, height), layout="constrained")
    title = in_lines(title, width)
    figure = Figure(figsize=(width, height + LINE * lines_of(title)), layout="constrained")
    figure.suptitle(title, fontsize=STYLE["font.size"])
    return figure


def finish(panel: "Axes") -> None:
    """Draws the grid of a panel, and removes the frame."""
    panel.grid(alpha=0.25, linewidth=0.4)
    panel.spines[["top", "right"]].set_visible(False)


def names_in_lines(
    names: Sequence[Sequence[str]], width: float, key_per_line: bool = False
) -> list[str]:
    """Names of networks, from their parts, in lines that fit into a width in inches."""
    lines = [parts if key_per_line else [" ".join(parts)] for parts in names]
    return ["\n".join(in_lines(line, width) for line in each) for each in lines]


def in_lines(name: str, width: float) -> str:
    """A name in lines that fit into a width in inches, shown literally: no part is a formula."""
    letters = int(width / LETTER)
    lines = []
    for line in textwrap.wrap(printable(name), letters, break_long_words=False):
        # A value that does not fit beside its key begins the next line.
        halves = re.split("(?<==)", line) if len(line) > letters else [line]
        lines += [part for half in halves for part in textwrap.wrap(half, letters)]
    return "\n".join(lines).replace("$", r"\$")


def lines_of(name: str) -> int:
    """The number of lines of a name."""
    return name.count("\n") + 1


def draw_legend(figure: "Figure", names: Sequence[str], color: str | None = None) -> None:
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
            ncols=_legend_columns(names, length, figure.get_figwidth()),
            frameon=False,
            handlelength=length,
            columnspacing=1.0,
        )
        for line in drawn.get_lines() if color else ():
            line.set(color=color, marker="")


def legend_height(names: Sequence[str], width: float) -> float:
    """Height in inches of the legend of some arms in a figure of this width."""
    rows = -(-len(names) // _legend_columns(names, HANDLE, width))
    return (0.5 * EM + LINE * max(map(lines_of, names))) * rows


def _legend_columns(names: Sequence[str], handle: float, width: float) -> int:
    """Columns of a legend that fit into a figure by the mean width of a letter, rows as even."""
    letters = max(len(line) for name in names for line in name.split("\n"))
    most = 3 if width == COLUMN else 6
    fit = max(1, min(most, int((width + EM) / (EM * (handle + 1.8) + LETTER * letters))))
    rows = -(-len(names) // fit)
    return -(-len(names) // rows)


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


def embedded(stem: Path) -> str:
    """The address of a figure that was saved, which contains it."""
    content = stem.with_name(f"{stem.name}.svg").read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(content).decode()}"
