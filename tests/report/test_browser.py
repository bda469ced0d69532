"""The page as a reader has it, in headless Chromium: needs Playwright and Debian's chromium."""

import re
import shutil

import pytest

from resjax.report.report import write_report
from tests.report.fabricate import begin_run, fail_run, write_grid

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of twelve runs that are done and one that failed, of two seeds."""
    workdir = tmp_path_factory.mktemp("sweep") / "<em> & 1"
    write_grid(workdir, seeds=2, depths=(8, 56), shortcuts=("none", "identity", "projection_all"))
    directory = begin_run(workdir, "lost", model__shortcut="dropout", model__depth=8)
    fail_run(directory, "the training loss became nan")
    return (write_report(workdir).directory / "index.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """A function that opens the page, whose console must stay silent and which asks for nothing."""
    heard, contexts = [], []

    def opened(width=1280, **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url))
        page.goto(address)
        for chart in page.locator(".chart").all():
            chart.scroll_into_view_if_needed()
            chart.locator(".plot-container").wait_for()
        assert heard == [address]  # the page itself
        return page

    yield opened
    assert heard == [address]
    for context in contexts:
        context.close()


def lines(page):
    """Names of the curves that are drawn in the panels of the first chart."""
    script = "chart => chart.data.filter(t => t.name).map(t => t.name)"
    return page.locator(".chart.curves").first.evaluate(script)


@pytest.mark.slow
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


@pytest.mark.slow
def test_an_arm_is_toggled_as_a_whole_and_by_keyboard(visit):
    page = visit()
    arm = page.get_by_role("button", name="identity", exact=True)
    arm.focus()
    page.keyboard.press("Enter")
    assert not any(name.startswith("identity") for name in lines(page))
    pressed = page.get_by_role("button", name="identity, 8 layers").get_attribute("aria-pressed")
    assert pressed == "false"
    page.keyboard.press("Space")
    assert sum(name.startswith("identity") for name in lines(page)) == 4


@pytest.mark.slow
def test_curves_are_told_apart_without_colour(visit):
    page = visit()
    script = "chart => chart.data.filter(t => t.name).map(t => [t.marker.symbol, t.line.dash])"
    found = page.locator(".chart.curves").first.evaluate(script)
    assert len({tuple(style) for style in found}) == 6
    assert len({dash for _, dash in found}) == 2


@pytest.mark.slow
def test_hovering_tells_the_error_and_its_range(visit):
    page = visit()
    chart = page.locator(".chart.curves").first
    chart.scroll_into_view_if_needed()
    x, y = chart.evaluate(
        """chart => {
          const { xaxis, yaxis } = chart._fullLayout, box = chart.getBoundingClientRect();
          const trace = chart.data.find(t => t.name === "plain, 56 layers");
          return [box.x + xaxis._offset + xaxis.l2p(trace.x[7]),
                  box.y + yaxis._offset + yaxis.l2p(trace.y[7])];
        }"""
    )
    page.mouse.move(x + 3, y + 3)
    page.mouse.move(x, y)
    chart.locator(".hoverlayer .hovertext").wait_for()
    text = chart.locator(".hoverlayer").text_content()
    assert re.search(r"plain, 56 layers.*epoch 8: [\d.]+ %.*2 seeds, [\d.]+ to [\d.]+", text)


@pytest.mark.slow
def test_dragging_zooms_and_a_double_click_goes_back(visit):
    page = visit()
    chart = page.locator(".chart.curves").first
    chart.scroll_into_view_if_needed()
    box = chart.locator(".draglayer .xy").bounding_box()

    def at(x, y):
        return box["x"] + box["width"] * x, box["y"] + box["height"] * y

    def span():
        low, high = chart.evaluate("chart => chart._fullLayout.xaxis.range")
        return high - low

    whole = span()
    page.mouse.move(*at(0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*at(0.6, 0.7), steps=5)
    page.mouse.up()
    page.wait_for_function("whole => document.querySelector('.chart.curves')"
                           "._fullLayout.xaxis.range[1] < 0.8 * whole", arg=whole)  # fmt: skip
    assert span() < 0.5 * whole
    page.mouse.dblclick(*at(0.5, 0.5))
    page.wait_for_function("whole => document.querySelector('.chart.curves')"
                           "._fullLayout.xaxis.range[1] > 0.9 * whole", arg=whole)  # fmt: skip


@pytest.mark.slow
def test_no_button_of_a_chart_sends_it_anywhere(visit):
    page = visit()
    page.locator(".chart.curves").hover()
    titles = page.locator(".chart.curves .modebar-btn").evaluate_all(
        "buttons => buttons.map(button => button.dataset.title)"
    )
    assert titles == ["Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"]


@pytest.mark.slow
def test_a_table_is_sorted_by_a_column_up_and_down(visit):
    page = visit()
    table = page.locator("#table1-errors")
    header = table.get_by_role("button", name="test error %")

    def column():
        return [float(row.locator("td").nth(5).inner_text().split()[0])
                for row in table.locator("tbody tr").all()]  # fmt: skip

    assert column() != sorted(column())
    header.click()
    assert column() == sorted(column())
    assert table.locator("th[aria-sort=ascending]").count() == 1
    header.click()
    assert column() == sorted(column(), reverse=True)
    table.get_by_role("button", name="shortcut").click()
    names = [row.locator("th").inner_text() for row in table.locator("tbody tr").all()]
    assert names == sorted(names)


@pytest.mark.slow
def test_a_run_leads_to_its_directory(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("link", name="identity-56-seed1").click()
    page.wait_for_url("**/identity-56-seed1/")
    assert "result.json" in page.content()
    page.close()


@pytest.mark.slow
def test_a_failed_run_is_shown_with_its_reason(visit):
    row = visit().locator("#every-run tr.failed")
    assert "lost" in row.inner_text()
    assert "the training loss became nan" in row.inner_text()


def luminance(color):
    def linear(part):
        part = int(part) / 255
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    red, green, blue = map(linear, re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_curves_stand_out_in_light_and_in_dark_mode(visit, scheme):
    page = visit(color_scheme=scheme)
    body = page.locator("body")
    style = "(node, name) => getComputedStyle(node)[name]"
    paper = body.evaluate(style, "backgroundColor")
    assert (luminance(paper) < 0.05) == (scheme == "dark")
    for selector in ("body", ".note", ".numbers", "a", ".degrades .said"):
        color = page.locator(selector).last.evaluate(style, "color")
        assert contrast(color, paper) >= 4.5, selector
    drawn = "nodes => nodes.map(node => getComputedStyle(node))"
    for color in page.locator(".curves .lines .js-line").evaluate_all(
        f"{drawn}.filter(style => parseFloat(style.strokeWidth)).map(style => style.stroke)"
    ):
        assert contrast(color, paper) >= 3
    for color in page.locator(".legend line").evaluate_all(
        "nodes => nodes.map(node => getComputedStyle(node).stroke)"
    ):
        assert contrast(color, paper) >= 3
    ink = page.locator(".curves .xtick text").first.evaluate(style, "fill")
    assert contrast(ink, paper) >= 4.5


@pytest.mark.slow
def test_a_change_of_the_mode_recolours_the_charts(visit):
    page = visit(color_scheme="light")
    script = "chart => chart.data.find(t => t.name).line.color"
    before = page.locator(".chart.curves").evaluate(script)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(
        "before => document.querySelector('.chart.curves').data.find(t => t.name).line.color"
        " !== before", arg=before)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_no_screen_is_too_narrow(visit, width):
    page = visit(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator(".chart .main-svg").all():
        box = chart.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width + 1


@pytest.mark.slow
def test_a_narrower_window_redraws_the_charts(visit):
    page = visit(1280)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function(
        "() => document.querySelector('.curves').clientWidth >="
        " document.querySelector('.curves .main-svg').clientWidth"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_the_page_prints_on_white_paper_with_all_its_charts(visit, tmp_path):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    paper = page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor")
    assert luminance(paper) > 0.9
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = [chart.bounding_box()["width"] for chart in page.locator(".chart .main-svg").all()]
    assert widths
    assert max(widths) <= 700
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
    page.evaluate("dispatchEvent(new Event('afterprint'))")


@pytest.mark.slow
def test_everything_that_can_be_pressed_is_reached_by_tab(visit):
    page = visit()
    reached = []
    script = """() => {
      const active = document.activeElement;
      return [[...document.querySelectorAll("*")].indexOf(active), active.outerHTML.slice(0, 200)];
    }"""
    for _ in range(300):
        page.keyboard.press("Tab")
        place = page.evaluate(script)
        if place in reached or place[1].startswith("<body"):
            break
        reached.append(place)
    texts = [text for _, text in reached]
    assert 'class="skip"' in texts[0]
    assert sum("aria-pressed" in text for text in texts) == 3 + 6
    assert sum('role="region"' in text for text in texts) == 5
    assert sum("<a" in text[:2] for text in texts) == page.locator("a").count()
    assert sum("<button" in text[:7] for text in texts) == page.locator("button").count()
