"""The browser that reads the page of a report: Debian's chromium, by Playwright."""

import shutil

CHROMIUM = shutil.which("chromium")

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

PAUSE = 300
"""Milliseconds until the address has the state."""


def launch(playwright):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))


def lines(page, chart=".chart.curves"):
    """Names of the lines that are drawn in the panels of the first chart of a kind."""
    drawn = page.locator(chart).first.locator(".line:not(.faint)")
    return drawn.evaluate_all("nodes => nodes.map(node => node.dataset.name)")


def drawing(page, chart):
    return page.locator(chart).first.locator("svg").first.inner_html()


def fragment(page):
    """The state in the address, a moment after the last change."""
    page.wait_for_timeout(PAUSE)
    return page.evaluate("decodeURIComponent(location.hash)")
