"""The charts of the page as a reader has them, in headless Chromium: needs Debian's chromium."""

import re

import numpy as np
import pytest

from tests.report.browsing import drawing, fragment, lines

pytestmark = pytest.mark.slow


def test_a_legend_entry_hides_and_shows_its_curves(visit):
    page = visit()
    assert lines(page).count("plain, 56 layers") == 2
    entry = page.get_by_role("button", name="plain, 56 layers")
    entry.click()
    assert entry.get_attribute("aria-pressed") == "false"
    assert "plain, 56 layers" not in lines(page)
    assert "plain, 8 layers" in lines(page)
    entry.click()
    assert lines(page).count("plain, 56 layers") == 2


def test_an_arm_is_toggled_as_a_whole_and_by_keyboard(visit):
    page = visit()
    arm = page.get_by_role("button", name="identity", exact=True)
    arm.focus()
    page.keyboard.press("Enter")
    assert not any(name.startswith("identity") for name in lines(page))
    assert "identity" not in lines(page, ".chart.sizes")
    pressed = page.get_by_role("button", name="identity, 8 layers").get_attribute("aria-pressed")
    assert pressed == "false"
    page.keyboard.press("Space")
    assert sum(name.startswith("identity") for name in lines(page)) == 4


def test_colour_says_the_network_and_dashes_say_the_depth(visit):
    page = visit()
    script = """nodes => nodes.map(node =>
      [node.dataset.name, node.style.stroke, node.getAttribute("stroke-dasharray")])"""
    found = page.locator(".chart.curves .line").evaluate_all(script)
    networks = {(name.split(",")[0], color) for name, color, _ in found}
    depths = {(name.split(",")[1], dash) for name, _, dash in found}
    assert networks == {("plain", "var(--arm0)"), ("identity", "var(--arm1)"),
                        ("projection_all", "var(--arm3)")}  # fmt: skip
    assert depths == {(" 8 layers", ""), (" 56 layers", "5 3")}
    sizes = page.locator(".chart.sizes .line").evaluate_all(script)
    assert {(name, color) for name, color, _ in sizes} == networks
    assert {dash for *_, dash in sizes} == {""}  # such a line has all depths


def test_lines_against_depth_lie_aside_of_each_other_with_their_markers(visit):
    chart = visit().locator(".chart.sizes").first

    def places(kind, attribute):
        """Where the paths of a kind begin, or lie, from left to right in pixels."""
        script = "(nodes, name) => nodes.map(node => node.getAttribute(name))"
        found = chart.locator(kind).evaluate_all(script, attribute)
        return [float(re.search(r"[M(]([-.\d]+),", text)[1]) for text in found]

    panel = places(".line", "d")[:3]  # plain, identity and projection_all
    assert np.diff(panel) == pytest.approx([4, 4])
    assert set(panel) <= set(places(".marker", "transform"))


def test_every_choice_changes_what_is_shown_and_is_in_the_address(visit):
    page = visit()
    for section in page.locator("section .controls").all():
        for control in section.locator("select").all():
            chart = control.locator("xpath=following::div[contains(@class,'chart')][1]")
            if not control.is_visible():
                continue
            values = control.locator("option").evaluate_all("all => all.map(each => each.value)")
            seen = set()
            for value in [*values[1:], values[0]]:
                control.select_option(value)
                key = control.get_attribute("data-state")
                assert (f"{key}={value}" in fragment(page)) == (value != values[0])
                seen.add(chart.locator("svg").first.inner_html())
            assert len(seen) == len(values), (key, values)


def test_loss_is_shown_beside_error(visit):
    page = visit()
    page.locator("[data-state=measure]").first.select_option("loss")
    titles = page.locator(".chart .title").all_text_contents()
    assert set(titles) == {"training loss", "test loss"}
    assert len(lines(page)) == 12


def test_a_logarithmic_axis_has_zeros_at_its_foot_apart_from_the_rest(visit):
    page = visit(state="#scale=log")
    ends = page.locator(".chart.sizes").evaluate(
        """chart => { const drawn = Chart.all.find(each => each.node === chart);
          const above = drawn.marks.map(mark => mark.point.y).filter(y => y > 0);
          return [drawn.y.none, drawn.y.at(0), drawn.y.at(Math.min(...above)), drawn.size[1]]; }"""
    )
    none, zero, least, foot = ends
    assert none
    assert zero == foot > least + 10
    ticks = page.locator(".chart.sizes .ytick").all_text_contents()
    assert {"0", "1", "10"} <= set(ticks)


def test_smoothing_makes_curves_even_and_leaves_them_faintly(visit):
    page = visit()
    script = """chart => { const [line] = Chart.all.find(each => each.node === chart).make()
      .panels[0].lines.filter(line => !line.faint && line.name === "plain, 56 layers");
      return line.points.map(point => point.y); }"""
    before = page.locator(".chart.curves").evaluate(script)
    assert page.locator(".chart.curves .faint").count() == 0
    slider = page.get_by_label("Smoothing").first
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "0.5"
    assert page.locator("output").first.inner_text() == "0.5"
    after = page.locator(".chart.curves").evaluate(script)
    assert page.locator(".chart.curves .faint").count() == 12
    # The mean of all values so far, each counting half of its successor.
    counts = [0.5 ** (len(before) - n) for n in range(len(before))]
    expected = sum(c * y for c, y in zip(counts, before, strict=True)) / sum(counts)
    assert after[0] == before[0]
    assert after[-1] == pytest.approx(expected)


def test_intervals_are_bands(visit):
    page = visit()
    assert page.locator(".chart.curves .band").count() == 12
    assert page.locator(".chart.sizes .band").count() == 6


@pytest.mark.parametrize(
    ("size", "title", "said"),
    [("depth", "layers", "56 layers: "), ("multiply_adds", "multiply-adds", "multiply-adds: 16.8M"),
     ("params", "parameters", "parameters: 211k"),
     ("seconds", "seconds of training", "seconds of training: 14")],
)  # fmt: skip
def test_errors_are_shown_against_each_size(visit, size, title, said):
    page = visit(state=f"#size={size}" if size != "depth" else "")
    assert page.locator(".chart.sizes .axis").all_text_contents() == [title, title]
    chart = page.locator(".chart.sizes")
    chart.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    text = chart.locator(".tip").inner_text()
    assert said in text
    assert "2 seeds, 95 % interval" in text


def test_hovering_tells_the_error_and_its_range(visit):
    page = visit()
    chart = page.locator(".chart.curves").first
    chart.scroll_into_view_if_needed()
    x, y = chart.evaluate(
        """chart => {
          const drawn = Chart.all.find(each => each.node === chart), box = chart.getBoundingClientRect();
          const mark = drawn.marks.filter(m => m.line.name === "plain, 56 layers")[7];
          return [box.x + drawn.origins[0][0] + mark.place[0], box.y + drawn.origins[0][1] + mark.place[1]];
        }"""  # noqa: E501
    )
    page.mouse.move(x + 1, y + 1)
    text = chart.locator(".tip").inner_text()
    assert re.search(
        r"plain, 56 layers\nepoch 8 \(step 184\): [\d.]+ %\n2 seeds, [\d.]+ to [\d.]+", text
    )
    page.mouse.move(1, 1)
    assert not chart.locator(".tip").is_visible()


def test_arrow_keys_walk_from_point_to_point_and_from_line_to_line(visit):
    page = visit()
    chart = page.locator(".chart.curves")
    chart.focus()
    said = []
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
        said.append(chart.locator(".tip").inner_text().split(" %")[0].rsplit(":", 1)[0])
    assert said == [
        "plain, 8 layers\nepoch 1 (step 23)", "plain, 8 layers\nepoch 2 (step 46)",
        "plain, 56 layers\nepoch 2 (step 46)", "plain, 56 layers\nepoch 1 (step 23)",
    ]  # fmt: skip


def span(page):
    return page.evaluate("() => Chart.all[0].x.domain[1] - Chart.all[0].x.domain[0]")


def test_dragging_zooms_and_a_double_click_goes_back(visit):
    page = visit()
    chart = page.locator(".chart.curves svg").first
    chart.scroll_into_view_if_needed()
    box, whole = chart.bounding_box(), span(page)

    def drag(start, end):
        page.mouse.move(box["x"] + start[0], box["y"] + start[1])
        page.mouse.down()
        page.mouse.move(box["x"] + end[0], box["y"] + end[1], steps=5)
        page.mouse.up()

    drag((200, 100), (350, 250))
    zoomed = span(page)
    assert zoomed < 0.5 * whole
    assert "zoom.table1-curves=" in fragment(page)
    left = page.evaluate("Chart.all[0].x.domain[0]")
    page.keyboard.down("Shift")
    drag((200, 100), (150, 100))
    page.keyboard.up("Shift")
    assert page.evaluate("Chart.all[0].x.domain[0]") > left
    assert span(page) == pytest.approx(zoomed, rel=1e-3)
    page.mouse.dblclick(box["x"] + 300, box["y"] + 200)
    assert span(page) == whole
    assert "zoom" not in fragment(page)


def test_keys_and_buttons_zoom_as_the_mouse_does(visit):
    page = visit()
    whole = span(page)
    page.locator(".chart.curves").focus()
    page.keyboard.press("+")
    assert span(page) == pytest.approx(whole / 2, rel=1e-3)
    left = page.evaluate("Chart.all[0].x.domain[0]")
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("Chart.all[0].x.domain[0]") > left
    page.keyboard.press("-")
    assert span(page) == pytest.approx(whole, rel=1e-3)
    page.keyboard.press("0")
    assert span(page) == whole
    tools = page.locator(".tools").first
    tools.get_by_role("button", name="Zoom in").click()
    assert span(page) == pytest.approx(whole / 2, rel=1e-3)
    tools.get_by_role("button", name="Zoom out").click()
    assert span(page) == pytest.approx(whole, rel=1e-3)
    tools.get_by_role("button", name="Show all").click()
    assert span(page) == whole


def test_a_chart_is_saved_as_it_is_seen(visit, tmp_path):
    page = visit()
    for kind, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.locator(".tools").first.get_by_role("button", name=kind).click()
        assert download.value.suggested_filename == f"table1-curves.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
        content = (tmp_path / kind).read_bytes()
        assert content.startswith(start)
        assert b"var(--" not in content.split(b"stroke: rgb")[-1]
    saved = (tmp_path / "SVG").read_text()
    assert "rgb(213, 94, 0)" in saved  # the colour of plain networks


def test_the_address_holds_the_state_and_going_back_to_it_restores_it(visit):
    page = visit()
    page.get_by_role("button", name="plain, 56 layers").click()
    page.locator("[data-state=scale]").first.select_option("log")
    page.get_by_role("link", name="What ran").click()
    assert "at=what-ran" in fragment(page)
    assert "hide.1=0:56" in fragment(page)
    there, seen = page.evaluate("location.hash"), drawing(page, ".chart.curves")
    other = visit(state=there)
    assert drawing(other, ".chart.curves") == seen
    assert other.locator("[data-state=scale]").first.input_value() == "log"
    assert page.evaluate("scrollY") > 1000
    page.evaluate("location.hash = '#scale=linear'")
    page.wait_for_function("() => document.querySelector('[data-state=scale]').value === 'linear'")
    assert "plain, 56 layers" in lines(page)


def test_many_changes_at_once_are_written_to_the_address_once(visit):
    page = visit()
    written = page.evaluate(
        """() => new Promise(done => {
          let times = 0;
          history.replaceState = () => { times += 1; };
          for (let n = 0; n < 300; n += 1) State.set("smooth", n / 400);
          setTimeout(() => done(times), 600);
        })"""
    )
    assert written == 1
