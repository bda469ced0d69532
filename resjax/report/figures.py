"""Figures for paper and page, drawn by matplotlib from the curves of the runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resjax.report.stats import Cell
from resjax.report.tables import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
LINE_STYLES = ("-", "--", "-.", ":")


def training_error(arms: list[list[Cell]], title: str | None = None) -> "Figure":
    """Training error against epoch, a panel for each shortcut and a line for each depth.

    The layout is that of He et al. 2015, figure 6: plain nets on the left. A line is the mean over
    seeds of the clean error on the whole training set; the band spans the seeds.
    """
    from matplotlib.figure import Figure

    depths = sorted({cell.depth for arm in arms for cell in arm})
    figure = Figure(figsize=(0.9 + 2.7 * len(arms), 3.2), layout="constrained")
    if title:
        figure.suptitle(title, fontsize="medium")
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for panel, arm in zip(panels, arms, strict=True):
        for cell in arm:
            _draw(panel, cell, depths)
        panel.set_title(label(arm[0].shortcut))
        panel.set_xlabel("epoch")
        panel.set_xlim(left=0)
        panel.set_ylim(-2, 102)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training error (%)")
    handles = {line.get_label(): line for panel in panels for line in panel.get_lines()}
    names = [f"{depth} layers" for depth in depths]
    figure.legend(
        [handles[name] for name in names], names, loc="outside right center", frameon=False
    )
    return figure


def _draw(panel: "Axes", cell: Cell, depths: list[int]) -> None:
    from matplotlib import colormaps

    place = depths.index(cell.depth)
    color = colormaps["viridis"](0.85 - 0.85 * place / max(1, len(depths) - 1))
    length = min(len(run.curve) for run in cell.runs)
    epochs = [line["epoch"] for line in cell.runs[0].curve[:length]]
    errors = 100 * np.array(
        [[line["train_error"] for line in run.curve[:length]] for run in cell.runs]
    )
    panel.plot(
        epochs,
        errors.mean(0),
        color=color,
        linestyle=LINE_STYLES[place % len(LINE_STYLES)],
        linewidth=1.8,
        label=f"{cell.depth} layers",
    )
    if len(errors) > 1:
        panel.fill_between(
            epochs, errors.min(0), errors.max(0), color=color, alpha=0.2, linewidth=0
        )


def save(figure: "Figure", stem: Path) -> list[Path]:
    """Writes a figure in every one of `FORMATS`, the same bytes for the same figure."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS]
    undated = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "resjax", "svg.fonttype": "none"}):
        for path in paths:
            figure.savefig(path, dpi=160, metadata=undated[path.suffix[1:]])
    return paths
