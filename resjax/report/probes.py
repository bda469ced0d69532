"""Files and figures of the results of probes."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resjax.probes.table import PROBES
from resjax.report.arms import label
from resjax.report.figures import save
from resjax.report.styles import MARKERS, color
from resjax.runs import disk, rundir
from resjax.runs.probing import Probed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_RANGE = 30
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

MOST_MARKERS = 40
"""Maximum number of markers on a line."""

CONTOURS, SMALLEST_LOSS = 15, 1e-8


def write_probed(probed: Probed, directory: Path) -> list[Path]:
    """Writes `probes.json` and a figure for each probe; returns the figures.

    Raises:
      ConfigError: if the directory cannot be written to.
    """
    rundir.make_directory(directory)
    figures = []
    for name in probed.found:
        draw = by_block if PROBES[name].by_block else loss_surface
        figures += save(draw(probed, name), directory / name)
    disk.write_json(directory / "probes.json", probed.recorded())
    return figures


def arrays_by_block(probed: Probed, name: str) -> dict[str, np.ndarray]:
    """The arrays of a probe with a row for every block; none if the probe has none."""
    arrays = probed.found[name] if PROBES[name].by_block else {}
    return {name: array for name, array in arrays.items() if np.ndim(array)}


def by_block(probed: Probed, name: str) -> "Figure":
    """Draws a panel for each array against the number of the block; grey lines divide the stages.

    Lines have the colour of the shortcut; those of the layers of a block fade, with own markers.
    Where a probe changes blocks, a grey line is the network as it is.
    """
    arrays = arrays_by_block(probed, name)
    figure, panels = _panels(probed, name, len(arrays))
    for panel, (quantity, array) in zip(panels, arrays.items(), strict=True):
        _draw(panel, np.asarray(array), probed.stages, color(probed.shortcut))
        panel.set_title(quantity.replace("_", " "))
        if "whole" in probed.found[name]:
            whole = float(probed.found[name]["whole"])
            panel.axhline(whole, color="0.4", linewidth=0.8, label="the network as it is")
            panel.legend(frameon=False, fontsize="small")
    panels[0].set_ylabel(PROBES[name].quantity)
    return figure


def loss_surface(probed: Probed, name: str) -> "Figure":
    """Draws contours of the loss along two directions, in equal ratios, around the network."""
    from matplotlib.colors import LogNorm

    arrays = probed.found[name]
    figure, (panel,) = _panels(probed, name, 1)
    loss = np.clip(arrays["loss"].T, SMALLEST_LOSS, None)
    if np.isfinite(loss).all() and loss.max() > loss.min():
        levels = np.geomspace(loss.min(), loss.max(), CONTOURS)
        contours = panel.contour(arrays["offset"], arrays["offset"], loss, levels, norm=LogNorm())
        panel.clabel(contours, fmt="%.2g", fontsize="x-small")
    panel.plot(0, 0, "k+")
    panel.set_aspect("equal")
    panel.set_xlabel("along one direction, in norms of the filters")
    panel.set_ylabel("along another")
    return figure


def surface_in_words(probed: Probed, name: str) -> str:
    """The loss at the centre of a surface, which is the network, its range, and the picture."""
    loss = np.asarray(probed.found[name]["loss"])
    centre, finite = loss[len(loss) // 2, len(loss) // 2], loss[np.isfinite(loss)]
    text = f"loss {centre:.4g} at the centre, which is the network"
    if finite.size:
        text += f"; {finite.min():.4g} to {finite.max():.4g} on the whole grid"
    if lost := loss.size - finite.size:
        return f"{text}; no contours, as it is not finite at {lost} of {loss.size} points"
    return f"{text}; contours in {name}.png"


def _panels(probed: Probed, name: str, number: int) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.9 + 3.2 * number, 3.4), layout="constrained")
    figure.suptitle(f"{name}: {label(probed.shortcut)}, step {probed.step}", fontsize="medium")
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def _draw(panel: "Axes", array: np.ndarray, stages: tuple[int, ...], line_color: str) -> None:
    columns = array.reshape(len(array), -1).T
    for place, values in enumerate(columns):
        panel.plot(
            np.arange(1, len(values) + 1),
            values,
            color=line_color,
            linewidth=1.8,
            alpha=1 - 0.6 * place / len(columns),
            marker=MARKERS[place % len(MARKERS)],
            markersize=3,
            markevery=-(-len(values) // MOST_MARKERS),
            label=f"{place + 1}" if len(columns) > 1 else None,
        )
    for end in np.cumsum(stages)[:-1]:
        panel.axvline(end + 0.5, color="0.8", linewidth=0.8, zorder=0)
    panel.set_xlim(0.5, len(array) + 0.5)
    panel.xaxis.get_major_locator().set_params(integer=True)
    seen = array[np.isfinite(array)]
    if seen.size and seen.min() > 0 and seen.max() > WIDE_RANGE * seen.min():
        panel.set_yscale("log")
    else:
        panel.set_ylim(0, 1.05 * seen.max() if seen.any() else 1)
    if len(columns) > 1:
        panel.legend(title="in the block", frameon=False, fontsize="small")
    panel.set_xlabel("block")
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
