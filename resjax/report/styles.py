"""Colours, lines and markers of arms, told apart also without colour vision.

The first colours are those of Okabe and Ito, darker on white and lighter on black until they have a
contrast of 3 to the paper; each further one is as far from all before it as can be, as eyes with
and without each kind of cone see them.
"""

LIGHT = ("#d55e00", "#0072b2", "#009e73", "#b0508a", "#333311", "#9933ff", "#4400aa", "#ff22dd",
         "#660066")  # fmt: skip
DARK = ("#ff8a3d", "#4fb0ea", "#5fd068", "#e08fbd", "#8833ff", "#dd0044", "#ccee99", "#4466aa",
        "#eedd00")  # fmt: skip
"""Colours of arms on light and on dark paper; further arms start again."""

PAPER = {"light": "#ffffff", "dark": "#14171b"}

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
PLOTLY_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x",
                  "triangle-left", "triangle-right")  # fmt: skip
SIGNS = "●■▲◆▼✚✖◀▶"
"""Markers of arms, as matplotlib, Plotly and text say them."""

MATPLOTLIB_LINES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2)))
PLOTLY_LINES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SVG_LINES = ("", "5 3", "1.5 2.5", "5 2.5 1.5 2.5", "9 3", "9 3 1.5 3")
"""Lines of depths, as matplotlib, Plotly and SVG say them."""
