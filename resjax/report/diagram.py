"""A drawing of a network in the style of He et al. 2015, figure 3."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from resjax.models.resnet import ResNet
from resjax.models.shortcuts import SHORTCUTS, Identity, Plain, Projection, ProjectionAll
from resjax.models.summary import LayerRecord, layer_records
from resjax.report.layout import FORMATS, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#e8e8e8", "#c9bde0", "#b9dcb4", "#f2c4bd", "#bcd7ec")
"""Colours of the stem and the stages, pale enough for black text; further stages repeat them."""

WIDTH, HEIGHT, GAP, BLOCK_GAP = 3.0, 0.55, 0.18, 0.3


@dataclasses.dataclass(frozen=True)
class Group:
    """The boxes that a shortcut spans: a block, or equal blocks drawn once.

    Attributes:
      boxes: a text for each layer.
      color: colour of the boxes.
      times: number of blocks that the group stands for.
      arc: "none" in a plain net, "dotted" where the shape changes, else "solid".
      note: text on the arc, such as "1x1" for a projection; empty if it carries x unchanged.
      output: shape of the group's output for one image.
    """

    boxes: tuple[str, ...]
    color: str
    times: int
    arc: str
    note: str
    output: tuple[int, ...]


def groups(model: ResNet, image_shape: tuple[int, int, int]) -> list[Group]:
    """The groups that `draw` draws, from stem to head, for images of shape `[H, W, C]`."""
    records = layer_records(model, image_shape)
    branches = [record for record in records if not record.in_shortcut]

    def inside(*path: str) -> list[LayerRecord]:
        return [record for record in branches if record.path[: len(path)] == path]

    stem = inside("stem")
    first_stage = inside("stage1", "first")[0].input_shape
    boxes = [_text(record) for record in stem]
    if first_stage != stem[-1].output_shape:
        boxes.append("3x3 max-pool, /2")
    found = [Group(tuple(boxes), COLORS[0], 1, "none", "", first_stage)]
    shortcut = model.parts.shortcut.func
    plain = shortcut is Plain
    # Identity, B and C are told by their arcs and by what is on them.
    kind = [name for name, known in SHORTCUTS.items() if known is shortcut][:1]
    kind = [] if shortcut in (Plain, Identity, Projection, ProjectionAll) else kind
    for stage, blocks in enumerate(model.spec.stages, start=1):
        color = COLORS[1 + (stage - 1) % (len(COLORS) - 1)]
        for part, times in (("first", 1), ("rest", blocks - 1)):
            layers = inside(f"stage{stage}", part)
            if not times:
                continue
            changes = layers[0].input_shape != layers[-1].output_shape
            path = (f"stage{stage}", part, "shortcut")
            projected = any(r.path[:3] == path and r.path[-1] == "projection" for r in records)
            arc = "none" if plain else "dotted" if changes else "solid"
            note = ", ".join([*kind, *(["1x1"] if projected else [])])
            texts = tuple(_text(record) for record in layers)
            group = Group(texts, color, times, arc, note, layers[-1].output_shape)
            last = found[-1]
            if dataclasses.replace(last, times=times) == group:
                found[-1] = dataclasses.replace(last, times=last.times + times)
            else:
                found.append(group)
    pool = ("average pool",) if len(image_shape) == len(found[-1].output) else ()
    head = (*pool, f"dense, {model.classes}")
    return [*found, Group(head, COLORS[0], 1, "none", "", (model.classes,))]


def _text(record: LayerRecord) -> str:
    if len(record.kernel) == 2:
        return f"dense, {record.kernel[-1]}"
    size, channels = record.kernel[0], record.kernel[-1]
    groups = record.input_shape[-1] // record.kernel[2]
    stride = -(-record.input_shape[0] // record.output_shape[0])
    text = f"{size}x{size} conv, {channels}"
    text += f", {groups} groups" if groups > 1 else ""
    return text + (f", /{stride}" if stride > 1 else "")


def draw(model: ResNet, image_shape: tuple[int, int, int], title: str) -> "Figure":
    """Draws boxes for layers from top to bottom, and arcs for shortcuts; equal blocks once.

    An arc is solid where the shortcut carries x unchanged and dotted where the shape changes; a
    plain net has none.
    """
    from matplotlib.figure import Figure

    chain = groups(model, image_shape)
    rows = sum(len(group.boxes) for group in chain)
    length = rows * (HEIGHT + GAP) + len(chain) * BLOCK_GAP + 1.6
    figure = Figure(figsize=(6.4, 0.55 * length))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-4.2, 4.4)
    axes.set_ylim(-length, 0)
    axes.set_axis_off()
    axes.text(0, -0.45, title, ha="center", va="center", fontsize=12, weight="bold")
    y = -1.1
    axes.text(0, y, f"image, {_shape(image_shape)}", ha="center", va="center", fontsize=9)
    y -= 0.25
    previous = image_shape
    for group in chain:
        top = y
        for text in group.boxes:
            _arrow(axes, y, y - GAP)
            y -= GAP
            _box(axes, y, text, group.color)
            y -= HEIGHT
        if group.output != previous:
            middle = (top - GAP + y) / 2
            axes.text(-2.0, middle, _shape(group.output), ha="right", va="center", fontsize=8,
                      color="#555555")  # fmt: skip
            previous = group.output
        _arc(axes, top - GAP / 2, y - BLOCK_GAP / 2, group)
        if group is not chain[-1]:
            axes.plot([0, 0], [y, y - BLOCK_GAP], color="black", linewidth=0.9)
        y -= BLOCK_GAP
    return figure


def draw_to(path: Path, model: ResNet, image_shape: tuple[int, int, int], title: str) -> list[Path]:
    """Saves the drawing in every format of `resjax.report.layout`, under the name of `path`."""
    known = path.suffix[1:] in FORMATS
    return save(draw(model, image_shape, title), path.with_suffix("") if known else path)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _box(axes: "Axes", y: float, text: str, color: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.08"
    box = FancyBboxPatch((-WIDTH / 2, y - HEIGHT), WIDTH, HEIGHT, boxstyle=style,
                         facecolor=color, edgecolor="#333333", linewidth=0.8)  # fmt: skip
    axes.add_patch(box)
    axes.text(0, y - HEIGHT / 2, text, ha="center", va="center", fontsize=9, color="black")


def _arrow(axes: "Axes", start: float, end: float) -> None:
    axes.annotate(
        "", (0, end), (0, start), arrowprops={"arrowstyle": "-|>", "lw": 0.9, "color": "black"}
    )


def _arc(axes: "Axes", top: float, bottom: float, group: Group) -> None:
    """Draws the shortcut of a group on its right, and the number of times the group occurs."""
    from matplotlib.patches import FancyArrowPatch

    side = WIDTH / 2 + 0.75
    if group.arc != "none":
        style = "solid" if group.arc == "solid" else (0, (1.5, 2))
        line = {"color": "black", "linewidth": 1.1, "linestyle": style}
        axes.plot([0, side, side], [top, top, bottom], **line)
        arrow = {"arrowstyle": "-|>", "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}
        axes.add_patch(FancyArrowPatch((side, bottom), (0, bottom), **arrow, **line))
        axes.text(side + 0.12, (top + bottom) / 2 - 0.22, group.note, fontsize=8, va="center")
    if group.times > 1:
        axes.text(side + 0.12, (top + bottom) / 2 + 0.16, f"x{group.times}", fontsize=11,
                  va="center", weight="bold")  # fmt: skip
