import itertools

import numpy as np
import pytest

from resjax.models.shortcuts import SHORTCUTS
from resjax.report import styles
from resjax.report.inside import network_of
from resjax.report.probes import by_block
from resjax.runs.probing import Probed

SEEN_WITHOUT = {
    # Machado, Oliveira and Fernandes 2009, table 1, severity 1: linear RGB as it is seen.
    "nothing": np.eye(3),
    "long cones": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "medium cones": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "short cones": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                    [0.004733, 0.691367, 0.303900]],
}  # fmt: skip

TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(color):
    parts = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x, y, z = TO_XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.089])
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colors", [styles.LIGHT, styles.DARK], ids=["light", "dark"])
@pytest.mark.parametrize("missing", SEEN_WITHOUT)
def test_no_two_arms_look_alike_to_any_eye(colors, missing):
    """2.3 is a difference that is just noticed."""
    seen = [lab(np.array(SEEN_WITHOUT[missing]) @ linear(color)) for color in colors]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 12


@pytest.mark.parametrize(("mode", "colors"), [("light", styles.LIGHT), ("dark", styles.DARK)])
def test_every_arm_stands_out_from_the_paper(mode, colors):
    paper = TO_XYZ[1] @ linear(styles.PAPER[mode])
    for color in colors:
        low, high = sorted((TO_XYZ[1] @ linear(color), paper))
        assert (high + 0.05) / (low + 0.05) >= 3


def test_every_arm_and_depth_has_a_shape_of_its_own():
    for arms in (styles.MARKERS, styles.SVG_MARKERS):
        assert len(set(arms)) == len(styles.LIGHT) == len(styles.DARK)
    for depths in (styles.MATPLOTLIB_LINES, styles.SVG_LINES):
        assert len(set(depths)) == 6


def test_a_shortcut_has_one_colour_whichever_others_are_in_a_table():
    own = {name: place for name, place in styles.PLACES.items() if name in SHORTCUTS}
    assert sorted(own.values()) == list(range(len(styles.LIGHT)))
    assert styles.arm_places(list(own)) == list(own.values())
    assert styles.arm_places(["dropout", "none"]) == [styles.PLACES["dropout"], 0]
    assert styles.color("identity") == styles.LIGHT[styles.PLACES["identity"]]


def test_arms_of_one_shortcut_and_shortcuts_of_experiments_have_colours_of_their_own():
    found = styles.arm_places(["none", "identity", "identity", "mine", "identity", "theirs"])
    assert found[:2] == [0, 1]
    assert len(set(found)) == 6
    assert max(styles.arm_places(20 * ["identity"])) < len(styles.LIGHT)


def test_probes_draw_a_network_in_the_colour_of_its_shortcut_and_dash_the_layers_of_a_block():
    found = {"gradients": {"norm": np.ones((4, 2)), "share": np.ones(4)}}
    figure = by_block([network_of(Probed("run", "projection", 1, (2, 2), 64, found))], "gradients")
    drawn = [
        [line for line in panel.get_lines() if len(line.get_xdata()) == 4] for panel in figure.axes
    ]
    assert [[line.get_linestyle() for line in lines] for lines in drawn] == [["-", "--"], ["-"]]
    color = styles.color("projection")
    assert {line.get_color() for lines in drawn for line in lines} == {color}
