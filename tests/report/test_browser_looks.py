"""The page on screens of all widths, light, dark and on paper, and by keyboard alone."""

import itertools
import re

import numpy as np
import pytest

from resjax.report.report import write_report
from tests.report.browsing import fragment
from tests.report.fabricate import write_grid

pytestmark = pytest.mark.slow

STATE = '#chosen=["none-8-seed1","identity-56-seed1"]&filter=none,identity&sort.every-run=4up'


def luminance(color):
    def linear(part):
        part = int(part) / 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXTS = """() => {
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || !node.getClientRects().length || node.closest("script, noscript, option")) continue;
    const style = getComputedStyle(node);
    let behind = node;
    while (/rgba\\(.*, 0\\)|transparent/.test(getComputedStyle(behind).backgroundColor)) {
      behind = behind.parentElement;
    }
    const color = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const name = `${color} on ${getComputedStyle(behind).backgroundColor}`;
    found[name] = [color, getComputedStyle(behind).backgroundColor, node.outerHTML.slice(0, 120)];
  }
  return Object.values(found);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_by_4_5_and_all_curves_by_3(visit, many, scheme):
    for of in ({}, {"of": many}):
        page = visit(color_scheme=scheme, state=STATE + "&filter=dpth=8", **of)
        page.locator("details summary").click()
        page.locator(".chart.curves").first.focus()
        page.keyboard.press("ArrowRight")
        texts = page.evaluate(TEXTS)
        assert len(texts) >= 5
        for color, behind, node in texts:
            least = 3 if "aria-hidden" in node else 4.5  # a sign, and not a text
            assert contrast(color, behind) >= least, (color, behind, node)
        paper = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
        assert (luminance(paper) < 0.05) == (scheme == "dark")
        for selector in (".chart .line:not(.faint)", ".legend line", ".marker path", ".gap line"):
            strokes = page.locator(selector).evaluate_all(
                "nodes => nodes.map(node => { const style = getComputedStyle(node);"
                " return style.stroke === 'none' ? style.color : style.stroke; })"
            )
            assert strokes
            for color in strokes:
                assert contrast(color, paper) >= 3


def test_a_change_of_the_mode_recolours_the_charts(visit):
    page = visit(color_scheme="light")
    line = page.locator(".chart.curves .line").first
    before = line.evaluate("node => getComputedStyle(node).stroke")
    page.emulate_media(color_scheme="dark")
    assert line.evaluate("node => getComputedStyle(node).stroke") != before


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_no_screen_is_too_narrow(visit, many, width):
    for of in ({}, {"of": many}):
        page = visit(width, state=STATE, **of)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for chart in page.locator(".chart svg:visible").all():
            box = chart.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width + 1


OVERLAPS = """() => {
  const found = [];
  for (const svg of document.querySelectorAll(".chart svg")) {
    const texts = [...svg.querySelectorAll("text")].map(node => [node, node.getBoundingClientRect()]);
    texts.forEach(([one, a], n) => texts.slice(n + 1).forEach(([other, b]) => {
      if (a.left < b.right && b.left < a.right && a.top + 2 < b.bottom - 2 && b.top + 2 < a.bottom - 2) {
        found.push(`${one.textContent} / ${other.textContent}`);
      }
    }));
  }
  return found;
}"""  # noqa: E501


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_no_text_of_a_chart_lies_on_another(visit, width, scale):
    page = visit(width, state=f"{STATE}&scale={scale}&epochs={scale}&sizes={scale}&size=params")
    assert page.evaluate(OVERLAPS) == []


INSIDE = """() => {
  const { marks, size: [inner] } = Chart.all.find(chart => chart.node.classList.contains("sizes"));
  return marks.map(mark => [mark.place[0], inner, mark.panel]);
}"""


@pytest.mark.parametrize("depths", [(20,), (8, 20)])
def test_all_networks_are_seen_against_their_size(visit, tmp_path, monkeypatch, depths):
    """They stand side by side where all have one size, and none lies at the edge of its panel."""
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)  # figures take seconds
    for order in ("post", "bn_after_add", "relu_before_add", "preact"):
        write_grid(tmp_path, 2, depths, suffix=order, epochs=2, model__order=order)
    address = (write_report(tmp_path).directory / "index.html").as_uri()
    for width, scale in itertools.product((390, 1280), ("linear", "log")):
        page = visit(width, address, f"#sizes={scale}")
        for size in ("params", "seconds", "depth"):
            page.locator("[data-state=size]").select_option(size)
            marks = page.evaluate(INSIDE)
            assert len(marks) == 2 * 16 * len(depths)
            assert all(0 <= across <= inner for across, inner, _ in marks)
            if len(depths) == 1:
                left = sorted(across for across, _, panel in marks if panel == 0)
                assert min(np.diff(left)) > 12
                assert np.mean(left) == pytest.approx(marks[0][1] / 2)


def test_a_single_network_is_not_drawn_against_its_size(visit, tmp_path, monkeypatch):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)
    write_grid(tmp_path, 2, (20,), ("none",), epochs=2)
    page = visit(of=(write_report(tmp_path).directory / "index.html").as_uri())
    assert page.locator(".chart:visible").count() == 1
    assert "By size" not in page.locator("main").inner_text()


def test_a_narrower_window_redraws_the_charts(visit):
    page = visit(1280)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function(
        "() => document.querySelector('.curves').clientWidth >="
        " document.querySelector('.curves svg').clientWidth"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("width", [1280, 800, 760, 375])
def test_nothing_moves_when_a_chart_is_drawn(browser, many, width):
    """Each is as high before as after, so that what is below it stays under the pointer."""
    page = browser.new_page(viewport={"width": width, "height": 600})
    page.goto(many)
    charts = page.locator(".chart:visible, #parallel")
    heights = "nodes => nodes.map(node => node.clientHeight)"
    drawn = "nodes => nodes.map(node => Boolean(node.querySelector('.grid, .upright')))"
    before = charts.evaluate_all(heights)
    assert not all(charts.evaluate_all(drawn))
    for chart in charts.all():
        chart.scroll_into_view_if_needed()
        chart.locator(".grid, .upright").first.wait_for(state="attached")
    assert all(charts.evaluate_all(drawn))
    assert charts.evaluate_all(heights) == before
    page.close()


def test_the_page_prints_on_white_paper_with_all_its_charts(visit, many, tmp_path):
    page = visit(color_scheme="dark", of=many, state=STATE)
    page.emulate_media(media="print", color_scheme="dark")
    paper = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    assert luminance(paper) > 0.9
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    charts = page.locator(".chart:visible svg").all()
    widths = [chart.bounding_box()["width"] for chart in charts]
    assert widths
    assert max(widths) <= 700
    for ticks in page.evaluate(
        "Chart.all.filter(each => each.node.clientWidth).map(each => each.y.ticks.length)"
    ):
        assert ticks >= 3
    assert page.get_by_text("fingerprint").is_visible()
    assert not page.get_by_text("Drag").locator("visible=true").count()
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not page.get_by_text("fingerprint").is_visible()
    assert "manifest" not in fragment(page)


def test_the_first_chart_is_on_the_first_sheet_of_paper(visit, many):
    """A sheet of A4 without its margins is 1032 pixels high."""
    page = visit(716, of=many)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    box = page.locator(".chart.curves").first.bounding_box()
    assert box["y"] + page.evaluate("scrollY") + box["height"] < 1032
    page.evaluate("dispatchEvent(new Event('afterprint'))")


def test_everything_that_can_be_pressed_is_reached_by_tab(visit):
    page = visit(state=STATE)
    reached = []
    script = """() => {
      const active = document.activeElement;
      return [[...document.querySelectorAll("*")].indexOf(active), active.outerHTML.slice(0, 200)];
    }"""
    for _ in range(400):
        page.keyboard.press("Tab")
        place = page.evaluate(script)
        if place in reached or place[1].startswith("<body"):
            break
        reached.append(place)
    texts = [text for _, text in reached]
    assert 'class="skip"' in texts[0]
    assert sum("aria-pressed" in text for text in texts) == 3 + 6
    for kind in ("a", "button", "select", "input", "summary", "[role=region]", ".chart"):
        every = page.locator(f"{kind}:visible")
        found = every.evaluate_all(
            "nodes => nodes.map(node => [...document.querySelectorAll('*')].indexOf(node))"
        )
        assert found
        assert set(found) <= {number for number, _ in reached}, kind


@pytest.mark.parametrize(("width", "pinned"), [(390, 1), (700, 2)])
@pytest.mark.parametrize("table", ["table1-errors", "table1-costs", "every-run"])
def test_the_first_columns_stay_in_sight_when_a_table_is_scrolled(visit, width, pinned, table):
    """On a phone the network or the run, and else the depth beside it."""
    page = visit(width)
    rows = page.locator(f"#{table} tbody tr").first, page.locator(f"#{table} thead tr")
    pinned = 1 if table == "every-run" else pinned
    box = page.locator(f".scroll:has(#{table})")
    assert box.evaluate("box => { box.scrollLeft = 200; return box.scrollLeft; }") > 100
    left = box.bounding_box()["x"]
    for row in rows:
        cells = row.locator("th, td").all()[table == "every-run" :]  # after the box to choose it
        places = [cell.bounding_box() for cell in cells]
        for place in places[:pinned]:
            assert place["x"] == pytest.approx(left, abs=2)
            left_of_next = left + place["width"]
            left = left_of_next
        assert places[pinned]["x"] < left
        left = box.bounding_box()["x"]
    assert sum(place["width"] for place in places[:pinned]) < 0.45 * width


def test_the_navigation_is_in_the_order_of_the_page(visit):
    place = "link => document.querySelector(link.getAttribute('href')).offsetTop"
    links = [link.evaluate(place) for link in visit().locator("nav a").all()]
    assert len(links) == 5
    assert links == sorted(links)


@pytest.mark.parametrize(
    ("name", "after"),
    [("Skip to the runs", "Runs"), ("Skip the legend", "Over training"),
     ("Skip the table of runs", "Chosen runs")],
)  # fmt: skip
def test_a_link_skips_what_has_many_stops(visit, name, after):
    """The next stop of the keyboard is no entry of the legend and no row."""
    page = visit(state=STATE)
    page.get_by_role("link", name=name).first.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    title = page.evaluate(
        """() => [...document.querySelectorAll("h2, h3")].filter(title =>
          title.compareDocumentPosition(document.activeElement) & 4).pop().textContent"""
    )
    assert title == after
    assert not page.evaluate("Boolean(document.activeElement.closest('.legend, .rows'))")


def test_without_scripts_the_page_has_its_tables_and_no_empty_controls(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("#every-run tbody tr").count() == 13
    assert page.locator("select:visible, .chart:visible, #filter:visible").count() == 0
    assert "The charts need JavaScript" in page.locator("main").inner_text()
    context.close()
