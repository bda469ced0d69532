"""Draws docs/report.png: the page that the first sweep of the README writes, to its first chart.

python -m tests.pictured
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tests.report.browsing import launch

ROOT = Path(__file__).parents[1]

PICTURE = ROOT / "docs" / "report.png"

WIDTH = 1000
"""Pixels of the page."""


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        words = ["--config=experiments/degradation.py", f"--workdir={directory}/degradation"]
        subprocess.run([sys.executable, "-m", "resjax", "sweep", *words], cwd=ROOT, check=True)
        with sync_playwright() as playwright:
            browser = launch(playwright)
            size = {"width": WIDTH, "height": 1600}
            page = browser.new_page(viewport=size, color_scheme="light")
            page.goto((Path(directory) / "degradation/report/index.html").as_uri())
            chart = page.locator(".chart").first
            chart.locator(".grid").first.wait_for(state="attached")
            below = chart.bounding_box()
            shown = {"x": 0, "y": 0, "width": WIDTH, "height": below["y"] + below["height"]}
            page.screenshot(path=PICTURE, clip=shown)
            browser.close()
    with Image.open(PICTURE) as picture:  # of few colours
        picture.convert("RGB").quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
