"""Colours and line styles of arms, told apart also without colour vision and in grey.

The colours are those of Okabe and Ito, the lighter ones darkened on white and the darker ones
lightened on black, until each has a contrast of 3 to the paper.
"""

LIGHT = ("#d55e00", "#0072b2", "#009e73", "#b0508a", "#b07a00", "#2a8fc4", "#6b7178", "#7a5230",
         "#5b4bb5")  # fmt: skip
DARK = ("#ff8a3d", "#4fb0ea", "#2fc79a", "#e08fbd", "#e8b53a", "#8fd3f5", "#a9b0b8", "#c79a74",
        "#a99cf0")  # fmt: skip
"""On light and on dark paper, by the place of an arm; further arms start again."""

MATPLOTLIB_LINES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2)))
PLOTLY_LINES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SVG_LINES = ("", "5 3", "1.5 2.5", "5 2.5 1.5 2.5", "9 3", "9 3 1.5 3")
"""Of depths, as each of three drawers says them."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
PLOTLY_MARKERS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x",
                  "triangle-left", "triangle-right")  # fmt: skip
"""Of arms where error is drawn against depth."""
