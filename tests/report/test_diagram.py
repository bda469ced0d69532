"""What the drawing of a network shows (He et al. 2015, figure 3)."""

import pytest

from resjax.models.build import build_model, preset
from resjax.report.diagram import draw, groups


def chain(name, **keys):
    config, image_shape, classes = preset(name)
    config.model.update(keys)
    return groups(build_model(config, classes), image_shape)


def test_resnet34_is_drawn_as_in_the_paper():
    drawn = chain("resnet34", shortcut="identity")
    assert drawn[0].boxes == ("7x7 conv, 64, /2", "3x3 max-pool, /2")
    assert [group.times for group in drawn] == [1, 3, 1, 3, 1, 5, 1, 2, 1]
    assert drawn[2].boxes == ("3x3 conv, 128, /2", "3x3 conv, 128")
    arcs = [group.arc for group in drawn]
    assert arcs == ["none", "solid", *["dotted", "solid"] * 3, "none"]
    assert drawn[-1].boxes == ("average pool", "dense, 1000")
    assert sum(len(group.boxes) * group.times for group in drawn) == 34 + 2  # and the two pools


def test_a_plain_net_has_no_arcs():
    assert {group.arc for group in chain("plain34")} == {"none"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "notes"),
    [
        ({"shortcut": "projection"}, ["1x1", "", "1x1", "", "1x1", "", "1x1", ""]),
        ({"shortcut": "projection_all"}, ["1x1"] * 8),
        ({"shortcut": "shortcut_gate"}, ["shortcut_gate"] * 8),
        ({"shortcut": "avgpool_projection"}, ["avgpool_projection, 1x1", "avgpool_projection"] * 4),
    ],
)
def test_arcs_say_what_is_on_them(keys, notes):
    assert [group.note for group in chain("resnet50", **keys)][1:-1] == notes


def test_groups_of_a_resnext_are_named():
    assert chain("resnext50_32x4d")[1].boxes[1] == "3x3 conv, 128, 32 groups"


@pytest.mark.parametrize("name", ["resnet152", "cifar-resnet1202"])
def test_a_deep_net_folds_into_a_readable_drawing(name):
    config, image_shape, classes = preset(name)
    figure = draw(build_model(config, classes), image_shape, name)
    width, height = figure.get_size_inches()
    assert height < 4 * width
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert ("x35" if name == "resnet152" else "x200") in texts
