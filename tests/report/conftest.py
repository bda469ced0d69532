"""The page of a report as a reader has it, in headless Chromium."""

import pytest

from resjax.report.report import write_report
from tests.report.browsing import CHROMIUM, launch
from tests.report.fabricate import begin_run, fail_run, write_grid


@pytest.fixture(scope="session")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory):
    """The page of twelve runs that are done and one that failed, of two seeds."""
    workdir = tmp_path_factory.mktemp("sweep") / "<em> & 1"
    write_grid(workdir, seeds=2, depths=(8, 56), shortcuts=("none", "identity", "projection_all"))
    directory = begin_run(workdir, "lost", model__shortcut="dropout", model__depth=8)
    fail_run(directory, "the training loss became nan")
    return (write_report(workdir).directory / "index.html").as_uri()


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """The page of 120 runs that differ in four keys."""
    workdir = tmp_path_factory.mktemp("many")
    for rate in (0.05, 0.1):
        write_grid(workdir, 15, (8, 56), ("none", "identity"), epochs=2, suffix=f"-{rate}",
                   optim__learning_rate=rate)  # fmt: skip
    return (write_report(workdir).directory / "index.html").as_uri()


@pytest.fixture
def visit(browser, address):
    """A function that opens a page, whose console must stay silent and which asks for nothing."""
    heard, expected, contexts = [], [], []

    def opened(width=1280, of=address, state="", **settings):
        settings |= {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("request", lambda request: heard.append(request.url.partition("#")[0]))
        expected.append(of)  # the page itself
        page.goto(of + state)
        for chart in page.locator(".chart:visible").all():
            chart.scroll_into_view_if_needed()
            chart.locator(".grid").first.wait_for(state="attached")
        return page

    yield opened
    assert [url for url in heard if not url.startswith("blob:")] == expected
    for context in contexts:
        context.close()
