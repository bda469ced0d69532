"""Colours, lines and markers: one for each shortcut, distinguishable without colour vision.

The first colours are those of Okabe and Ito, darker on white and lighter on black until they have a
contrast of 3 to the paper; each further one is as far from all before it as can be, as eyes with
and without each kind of cone see them.

Everywhere, colour and marker say which network it is, and dashes say how deep it is.
"""

import itertools
from collections.abc import Sequence

LIGHT = ("#d55e00", "#0072b2", "#009e73", "#b0508a", "#333311", "#9933ff", "#4400aa", "#ff22dd",
         "#660066")  # fmt: skip
DARK = ("#ff8a3d", "#4fb0ea", "#5fd068", "#e08fbd", "#8833ff", "#dd0044", "#ccee99", "#4466aa",
        "#eedd00")  # fmt: skip
"""Colours on light and on dark paper."""

PAPER = {"light": "#ffffff", "dark": "#14171b"}

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
SVG_MARKERS = (
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0Z",
    "M-3.6,-3.6h7.2v7.2h-7.2Z",
    "M0,-4.8L4.6,3.4H-4.6Z",
    "M0,-5L4.4,0L0,5L-4.4,0Z",
    "M0,4.8L4.6,-3.4H-4.6Z",
    "M-1.6,-4.6h3.2v3h3v3.2h-3v3h-3.2v-3h-3v-3.2h3Z",
    "M-4.4,-2.1L-2.1,-4.4L0,-2.3L2.1,-4.4L4.4,-2.1L2.3,0L4.4,2.1L2.1,4.4L0,2.3L-2.1,4.4L-4.4,2.1"
    "L-2.3,0Z",
    "M-4.8,0L3.4,-4.6V4.6Z",
    "M4.8,0L-3.4,-4.6V4.6Z",
)
"""Markers in the notations of matplotlib and SVG."""

PLACES = {
    "none": 0, "identity": 1, "projection": 2, "projection_all": 3, "avgpool_projection": 4,
    "scaled": 5, "exclusive_gate": 6, "shortcut_gate": 7, "dropout": 8,
}  # fmt: skip
"""Index of every shortcut in the tables of colours and markers."""

MATPLOTLIB_LINES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2)))
SVG_LINES = ("", "5 3", "1.5 2.5", "5 2.5 1.5 2.5", "9 3", "9 3 1.5 3")
"""Line styles of depths, from shallow to deep, in the notations of matplotlib and SVG."""


def color(shortcut: str) -> str:
    """The colour of a shortcut on light paper.

    >>> color("none"), color("identity")
    ('#d55e00', '#0072b2')
    """
    return LIGHT[arm_places([shortcut])[0]]


def arm_places(shortcuts: Sequence[str]) -> list[int]:
    """Indices of a table's arms in the tables of colours and markers, from their shortcuts.

    The first arm of a shortcut has the place of that. A further one, and one whose shortcut an
    experiment file defines, takes a place that is left, the last first; they start again when none
    is left.

    >>> arm_places(["none", "identity", "identity", "mine"])
    [0, 1, 8, 7]
    """
    known = {PLACES[shortcut] for shortcut in shortcuts if shortcut in PLACES}
    left = [place for place in reversed(range(len(LIGHT))) if place not in known]
    spare, found = itertools.cycle(left or range(len(LIGHT))), []
    for shortcut in shortcuts:
        own = PLACES.get(shortcut)
        found.append(next(spare) if own is None or own in found else own)
    return found


def hollow(places: Sequence[int]) -> list[bool]:
    """Tells which of a table's arms have the colour of one before: their markers are hollow.

    >>> hollow([0, 1, 8, 1])
    [False, False, False, True]
    """
    return [place in places[:number] for number, place in enumerate(places)]
