"""What the charts of the page tell apart and where they zoom, in headless Chromium."""

import pytest

from resjax.report.report import write_report
from resjax.runs import disk
from tests.report.browsing import fragment
from tests.report.fabricate import begin_run, end_run, result, write_grid

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def twelve(tmp_path_factory):
    """The page of twelve networks, which are more than there are colours."""
    workdir = tmp_path_factory.mktemp("twelve")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resjax.report.report.MOST_DRAWN", 0)  # figures take seconds
        for order in ("post", "bn_after_add", "relu_before_add", "preact"):
            write_grid(workdir, 1, (8, 20), ("none", "identity", "projection"), suffix=order,
                       epochs=4, model__order=order)  # fmt: skip
        return (write_report(workdir).directory / "index.html").as_uri()


LOOKS = """nodes => nodes.map(node => {
  const style = getComputedStyle(node), path = node.getAttribute("d");
  const paper = getComputedStyle(document.body).backgroundColor;
  const full = ![paper, "none"].includes(style.fill);
  return [path, full ? style.fill : style.stroke, full].join();
})"""


def test_twelve_networks_look_different_in_the_legend_and_in_every_chart(visit, twelve):
    page = visit(of=twelve, state='#chosen=["none-8-seed0post"]')
    looks = set(page.locator(".legend .marker path").evaluate_all(LOOKS))
    assert len(looks) == 12
    for chart in (".chart.curves", ".chart.sizes"):
        assert set(page.locator(f"{chart} .marker").evaluate_all(LOOKS)) == looks
    page.evaluate("names => State.set('chosen', JSON.stringify(names))",
                  [f"{kind}-8-seed0{order}" for kind in ("none", "identity", "projection")
                   for order in ("post", "bn_after_add", "relu_before_add", "preact")])  # fmt: skip
    assert set(page.locator(".chart.chosen .marker").evaluate_all(LOOKS)) == looks


def test_the_verdicts_on_many_networks_are_folded_and_those_on_few_are_not(visit, twelve):
    page = visit(of=twelve)
    first = page.locator(".verdicts li").first
    assert not first.is_visible()
    page.get_by_text("The verdicts on all 12 networks").click()
    assert first.is_visible()
    assert "table1-verdicts=open" in fragment(page)
    assert visit().locator(".verdicts li").first.is_visible()


def test_every_part_that_unfolds_has_a_name_in_the_address(visit, twelve):
    for page in (visit(), visit(of=twelve)):
        names = page.locator("details").evaluate_all("nodes => nodes.map(node => node.id)")
        assert names
        assert all(names)
        assert len(set(names)) == len(names)


def test_losses_are_on_a_logarithmic_axis_until_another_is_chosen(visit):
    page = visit()
    axis = page.locator("[data-state=scale]").first
    measure = page.locator("[data-state=measure]").first
    straight = "Chart.all[0].y.invert(Chart.all[0].size[1] / 2) / Chart.all[0].y.domain[1]"
    assert axis.input_value() == "linear"
    measure.select_option("loss")
    assert axis.input_value() == "log"
    assert page.evaluate(straight) < 0.2
    axis.select_option("linear")
    assert page.evaluate(straight) == pytest.approx(0.5)
    assert "scale=linear" in fragment(page)
    measure.select_option("error")
    axis.select_option("log")
    axis.select_option("linear")
    assert fragment(page) == ""


def test_a_smoothed_line_has_one_label_at_its_end(visit):
    page = visit(state='#chosen=["none-8-seed1"]&smooth=0.5')
    assert page.locator(".chart.chosen .faint").count() == 2
    assert page.locator(".chart.chosen .end").all_text_contents() == ["1", "1"]


PLACE = """name => { const chart = Chart.all[0];
  const { place } = chart.marks.find(({ line, point }) => line.name === name && point.x === 3);
  return [...place, chart.x.domain[1] - chart.x.domain[0]]; }"""


@pytest.mark.parametrize("by", ["key", "button", "hovering"])
def test_zooming_leaves_the_point_in_its_place_that_was_pointed_at(visit, by):
    page = visit()
    chart = page.locator(".chart.curves").first
    before = page.evaluate(PLACE, "plain, 8 layers")
    chart.focus()
    if by == "hovering":
        box = chart.bounding_box()
        x, y = page.evaluate("Chart.all[0].origins[0]")
        page.mouse.move(box["x"] + x + before[0], box["y"] + y + before[1])
    else:
        for _ in range(3):
            page.keyboard.press("ArrowRight")
    said = chart.locator(".tip").inner_text()
    if by == "button":
        page.get_by_role("button", name="Zoom in").first.click()
    else:
        page.keyboard.press("+")
        assert chart.locator(".tip").inner_text() == said  # its point is still described
    after = page.evaluate(PLACE, "plain, 8 layers")
    assert after[2] == pytest.approx(before[2] / 2, rel=1e-3)
    assert after[:2] == pytest.approx(before[:2], abs=1)


@pytest.mark.parametrize("width", [390, 1280])
def test_a_saved_chart_has_a_legend_and_light_paper(visit, tmp_path, width):
    page = visit(width, color_scheme="dark")
    page.get_by_role("button", name="plain, 56 layers").click()
    for kind in ("SVG", "PNG"):
        with page.expect_download() as download:
            page.locator(".tools").first.get_by_role("button", name=kind).click()
        download.value.save_as(tmp_path / kind)
    assert page.locator(".chart .key").count() == 0
    assert page.evaluate("document.documentElement.className") == ""
    page.set_content((tmp_path / "SVG").read_text())
    names = page.locator("svg .key text").all_text_contents()
    assert set(names) == {"plain, 8 layers", "identity, 8 layers", "identity, 56 layers",
                          "projection_all, 8 layers", "projection_all, 56 layers"}  # fmt: skip
    assert len(names) == 5
    svg = page.locator("svg")
    assert svg.evaluate("node => node.style.background") == "rgb(255, 255, 255)"
    strokes = page.locator(".line").evaluate_all("nodes => nodes.map(node => node.style.stroke)")
    assert strokes[0] == "rgb(213, 94, 0)"  # plain on light paper
    box = svg.bounding_box()
    for text in page.locator("svg text").all():
        own = text.bounding_box()
        assert own["x"] >= box["x"]
        assert own["x"] + own["width"] <= box["x"] + box["width"]
        assert own["y"] + own["height"] <= box["y"] + box["height"]


def test_a_chart_against_size_has_a_legend_of_its_lines(visit):
    page = visit()
    names = page.locator("ul.key li:visible")
    assert names.all_inner_texts() == ["plain", "identity", "projection_all"]
    page.get_by_role("button", name="plain", exact=True).click()
    assert names.all_inner_texts() == ["identity", "projection_all"]


def test_a_tip_tells_the_epoch_that_was_meant_and_the_exact_step(visit, tmp_path, monkeypatch):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)
    directory = begin_run(tmp_path, "run", model__depth=8)
    for step in (9, 90, 27_001):
        line = {"step": step, "epoch": step / 22.453125, "train_error": 0.1, "test_error": 0.2}
        disk.append_line(directory / "metrics.jsonl", line)
    end_run(directory, result(0.1))
    page = visit(of=(write_report(tmp_path).directory / "index.html").as_uri())
    chart, said = page.locator(".chart.curves"), []
    chart.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        said.append(chart.locator(".tip").inner_text().split("\n")[1])
    assert said == ["epoch 0.4 (step 9): 10.00 %", "epoch 4 (step 90): 10.00 %",
                    "epoch 1202.5 (step 27,001): 10.00 %"]  # fmt: skip
