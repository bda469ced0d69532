"""Files and figures of the results of probes: of one network, or of all that recorded some."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resjax.probes.table import PROBES
from resjax.report.inside import HEADER, NOT_LOADED, ProbedNetwork, network_of, rows_by_block
from resjax.report.layout import (
    COLUMN,
    EM,
    PAGE,
    draw_legend,
    embedded,
    finish,
    fitting,
    in_lines,
    in_style,
    legend_height,
    looks,
    names_in_lines,
    new_figure,
    of_all,
    save,
)
from resjax.report.styles import MATPLOTLIB_LINES
from resjax.report.tables import TextTable
from resjax.runs import disk, rundir

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from resjax.runs.probing import Probed

WIDE_RANGE = 30
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""

MOST_MARKERS = 10
"""Maximum number of markers on a line."""

PANEL = 1.45
"""Height in inches of a panel with its axis."""

CONTOURS, SMALLEST_LOSS = 15, 1e-8

WHOLE = {"lw": 0.6, "ls": "-"}
"""The line across a panel that is the network as it is, where a probe changes blocks."""


def write_probed(probed: "Probed", directory: Path) -> list[Path]:
    """Writes `probes.json` and a figure for each probe; returns the figures.

    Raises:
      ConfigError: if the directory cannot be written to.
    """
    rundir.make_directory(directory)
    figures, network = [], network_of(probed)
    for name in filter(lambda name: is_drawn([network], name), probed.found):
        figures += save(
            draw_probe([network], name, f"{name} at step {probed.step}"), directory / name
        )
    disk.write_json(directory / "probes.json", probed.recorded())
    return figures


def names_of(networks: Sequence[ProbedNetwork]) -> list[str]:
    """The probes that networks have something to draw of, in the order of their table."""
    found = {name for network in networks for name in network.found if is_drawn(networks, name)}
    return [*(name for name in PROBES if name in found), *sorted(found - PROBES.keys())]


def on_page(networks: Sequence[ProbedNetwork], figures: dict[str, Path]) -> list[dict[str, Any]]:
    """What the page shows of each probe: its name, meaning, picture if it is drawn, and values."""
    return [
        {
            "name": name,
            "meaning": (PROBES.get(name, NOT_LOADED).measure.__doc__ or "").partition("\n")[0],
            "picture": embedded(figures[name]) if name in figures else None,
            "values": TextTable(
                HEADER,
                [(each.name, *row) for each in networks for row in rows_by_block(each, name)],
            ),
        }
        for name in names_of(networks)
    ]


# --------------------------------------------------------------------------------------- figures


def is_drawn(networks: Sequence[ProbedNetwork], probe: str) -> bool:
    """Tells whether there is a figure of what a probe found."""
    return any(network.by_block(probe) or _has_surface(network, probe) for network in networks)


def _has_surface(network: ProbedNetwork, probe: str) -> bool:
    return {"offset", "loss"} <= network.found.get(probe, {}).keys()


def draw_probe(networks: Sequence[ProbedNetwork], probe: str, title: str | None = None) -> "Figure":
    """Draws what a probe found in networks, by block or as surfaces."""
    by_blocks = any(network.by_block(probe) for network in networks)
    return (by_block if by_blocks else loss_surface)(networks, probe, title)


@in_style
def by_block(every: Sequence[ProbedNetwork], probe: str, title: str | None = None) -> "Figure":
    """Draws a panel for each array against the number of the block.

    Colour and marker say the network, and dashes the layer of a block where there are several. Grey
    lines divide the stages where those of all networks are the same. Where a probe changes blocks,
    a thin line across the panel is the network as it is.
    """
    every = [network for network in every if network.by_block(probe)]
    arrays, keys = _arrays_to_draw(every, probe), _line_keys(every, probe)
    columns = min(2, len(arrays))
    rows = -(-len(arrays) // columns)

    def names_in(number: int) -> list[str]:
        return names_in_lines([[network.name] for network in every[:number]], COLUMN - 4 * EM)

    def height(number: int, width: float) -> float:
        return 0.4 + PANEL * rows + legend_height([*names_in(number), *keys], width)

    shown, width = fitting(len(every), (COLUMN, PAGE), height)
    networks, names = every[:shown], names_in(shown)
    figure = new_figure(height(shown, width), of_all(title, shown, len(every)), width)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    styles = looks([network.place for network in networks])
    for place, panel in enumerate(panels):
        panel.set_visible(place < len(arrays))
    for panel, array in zip(panels, arrays, strict=False):
        for network, name, look in zip(networks, names, styles, strict=True):
            _draw_blocks(panel, network, probe, array, name, look)
        _finish_blocks(panel, networks, probe, array)
    for name, line in keys.items():
        panels[0].plot([], [], color="0.3", label=name, **line)
    draw_legend(figure, [*names, *keys])
    return figure


def _arrays_to_draw(networks: Sequence[ProbedNetwork], probe: str) -> list[str]:
    """The arrays that are finite anywhere, or else all of them."""
    found: dict[str, bool] = {}
    for network in networks:
        for name, array in network.by_block(probe).items():
            found[name] = found.get(name, False) or bool(np.isfinite(array).any())
    return [name for name, finite in found.items() if finite] or list(found)


def _line_keys(networks: Sequence[ProbedNetwork], probe: str) -> dict[str, dict[str, Any]]:
    """What the legend explains beside networks: {name: line}."""
    layers = max(
        np.size(array) // len(array)
        for network in networks
        for array in network.by_block(probe).values()
    )
    keys = {f"no. {n + 1} in the block": _line_of(n) for n in range(layers) if layers > 1}
    if any("whole" in network.found[probe] for network in networks):
        keys["the network as it is"] = WHOLE
    return keys


def _line_of(layer: int) -> dict[str, Any]:
    return {"ls": MATPLOTLIB_LINES[layer % len(MATPLOTLIB_LINES)]}


def _draw_blocks(
    panel: "Axes", network: ProbedNetwork, probe: str, array: str, name: str, look: dict[str, Any]
) -> None:
    """Draws a line for each layer of the blocks of a network, if it has the array."""
    values = network.by_block(probe).get(array)
    if values is None:
        return
    for number, layer in enumerate(values.reshape(len(values), -1).T):
        panel.plot(
            np.arange(1, len(layer) + 1),
            layer,
            markevery=-(-len(layer) // MOST_MARKERS),
            label=None if number else name,
            **_line_of(number),
            **look,
        )
    if (whole := network.whole(probe, array)) is not None:
        panel.axhline(whole, color=look["color"], zorder=1, **WHOLE)


def _finish_blocks(
    panel: "Axes", networks: Sequence[ProbedNetwork], probe: str, array: str
) -> None:
    """Sets the axes of a panel, from below zero, where a line at zero is seen."""
    if len({network.stages for network in networks}) == 1:
        for end in np.cumsum(networks[0].stages)[:-1]:
            panel.axvline(end + 0.5, color="0.8", linewidth=0.8, zorder=0)
    about = PROBES.get(probe, NOT_LOADED)
    found = [
        network.by_block(probe)[array] for network in networks if array in network.by_block(probe)
    ]
    wholes = [network.whole(probe, array) for network in networks]
    panel.set_xlim(0.5, max(map(len, found)) + 0.5)
    panel.xaxis.get_major_locator().set_params(integer=True, nbins=5)
    panel.set_xlabel("block")
    panel.set_ylabel(in_lines(about.label(array), PANEL - 0.35))
    every = np.concatenate([*map(np.ravel, found), [w for w in wholes if w is not None]])
    seen = every[np.isfinite(every)]
    if seen.size and seen.min() > 0 and seen.max() > WIDE_RANGE * seen.min():
        panel.set_yscale("log")
    else:
        top = seen.max() if seen.any() else 1.0
        low = min(0.0, seen.min()) if seen.size else 0.0
        panel.set_ylim(low - 0.05 * (top - low), top + 0.05 * (top - low))
    finish(panel)


@in_style
def loss_surface(every: Sequence[ProbedNetwork], probe: str, title: str | None = None) -> "Figure":
    """Draws contours of the loss along two directions, in equal ratios, around each network."""
    every = [network for network in every if _has_surface(network, probe)]

    def height(number: int, layout: tuple[float, int]) -> float:
        width, columns = layout
        return 0.4 + (width / columns) * -(-number // columns)

    layouts = [(COLUMN, min(2, len(every))), (PAGE, 4), (PAGE, 6)]
    shown, (width, columns) = fitting(len(every), layouts, height)
    figure = new_figure(height(shown, (width, columns)), of_all(title, shown, len(every)), width)
    rows = -(-shown // columns)
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    names = names_in_lines([[network.name] for network in every[:shown]], width / columns - 0.4)
    for place, panel in enumerate(panels):
        panel.set_visible(place < shown)
    for panel, network, name in zip(panels, every, names, strict=False):
        _draw_surface(panel, network.found[probe])
        panel.set_title(name)
    figure.supxlabel("along one direction, in norms of the filters", fontsize=7)
    figure.supylabel("along another", fontsize=7)
    return figure


def _draw_surface(panel: "Axes", arrays: dict[str, np.ndarray]) -> None:
    from matplotlib.colors import LogNorm

    loss = np.clip(np.asarray(arrays["loss"], float).T, SMALLEST_LOSS, None)
    if np.isfinite(loss).all() and loss.max() > loss.min():
        levels = np.geomspace(loss.min(), loss.max(), CONTOURS)
        contours = panel.contour(
            arrays["offset"], arrays["offset"], loss, levels, norm=LogNorm(), linewidths=0.8
        )
        panel.clabel(contours, fmt="%.2g", fontsize=5)
    panel.plot(0, 0, "k+")
    panel.set_aspect("equal")


def surface_in_words(probed: "Probed", name: str) -> str:
    """The loss at the centre of a surface, which is the network, its range, and the picture."""
    loss = np.asarray(probed.found[name]["loss"])
    centre, finite = loss[len(loss) // 2, len(loss) // 2], loss[np.isfinite(loss)]
    text = f"loss {centre:.4g} at the centre, which is the network"
    if finite.size:
        text += f"; {finite.min():.4g} to {finite.max():.4g} on the whole grid"
    if lost := loss.size - finite.size:
        return f"{text}; no contours, as it is not finite at {lost} of {loss.size} points"
    return f"{text}; contours in {name}.png"
