"""The browser that reads the page of a report: Debian's chromium, by Playwright."""

import shutil

CHROMIUM = shutil.which("chromium")

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def launch(playwright):
    return playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
