"""Names that would be something else than text on the page, in headless Chromium."""

import json
import re
import subprocess

import pytest

from resjax.config.text import printable
from resjax.report.report import write_report
from resjax.runs import disk
from tests.report.browsing import PAUSE, lines
from tests.report.fabricate import fail_run, write_run

pytestmark = pytest.mark.slow

HTML = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>alert(2)<!--"
MARKUP = "[bold red]x[/]"
CONTROLS = "a\x1b[2J\x07b"
TURNED = "\u202egpj.exe\u2066"
TEMPLATE = "{{ 7 * 7 }} {% raw %} ${alert(3)} `'\""
EVIL = (HTML, SCRIPT, MARKUP, CONTROLS, TURNED, TEMPLATE)

UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """The page of a sweep whose name, runs, shortcuts, data and manifests are evil."""
    workdir = tmp_path_factory.mktemp("evil") / f"{HTML}{CONTROLS}{TURNED}"
    for place, name in enumerate(EVIL):
        run = f"{name.replace('/', '_')}{place}"
        directory = write_run(workdir, run, 0.1 * place, model__shortcut=name, model__depth=8,
                              data__name=SCRIPT + CONTROLS + TURNED, seed=place)  # fmt: skip
        manifest = disk.read_json(directory / "manifest.json")
        disk.write_json(directory / "manifest.json", manifest | {name: name})
    failed = write_run(workdir, f"{HTML}failed", 0.1, model__shortcut=HTML, model__depth=20)
    fail_run(failed, f"{HTML}{SCRIPT}{CONTROLS}{TURNED}")
    return (write_report(workdir).directory / "index.html").as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_evil_names_are_shown_as_text_and_do_nothing(visit, evil, scheme):
    page = visit(of=evil, color_scheme=scheme)
    page.locator("details summary").click()
    text = page.locator("body").inner_text()
    assert not UNPRINTABLE.search(text)
    assert page.title().startswith("Degradation with depth: <img")
    for name in EVIL:
        assert text.count(printable(name)) >= 4  # a verdict, the legend, tables and the manifest
    assert printable(f"{HTML}{SCRIPT}{CONTROLS}{TURNED}") in text
    assert page.locator("img").count() == 0
    assert set(lines(page)) == {f"{printable(name)}, 8 layers" for name in EVIL}
    page.locator(".chart.curves").focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator(".chart.curves .tip").inner_text()
    assert any(tip.startswith(printable(name)) for name in EVIL)


def test_runs_with_evil_names_are_found_chosen_and_run_again(visit, evil):
    page = visit(of=evil)
    for place, name in enumerate(EVIL):
        run = f"{name.replace('/', '_')}{place}"
        page.locator("#filter").fill(f"seed={place} state=done")
        page.locator("#every-run tbody tr:not([hidden]) input").check()
        assert page.evaluate("Runs.chosen().length") == place + 1
        command = page.locator(".command code").all_inner_texts()
        assert not UNPRINTABLE.search("".join(command))
        (own,) = [line for line in command if printable(run) in line or f"{place}/config" in line]
        said = subprocess.run(
            ["bash", "-c", f"printf '%s\\n' {own}"], capture_output=True, text=True, check=True,
            env={"LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert f"/{run}/config.json" in said.stdout
    page.wait_for_timeout(PAUSE)
    state = page.evaluate("new URLSearchParams(location.hash.slice(1)).get('chosen')")
    assert len(json.loads(state)) == len(EVIL)
    again = visit(of=evil, state=page.evaluate("location.hash"))
    assert len(lines(again, ".chart.chosen")) == 2 * len(EVIL)
