"""The table of runs as a reader has it, in headless Chromium: needs Debian's chromium."""

import math
import shlex

import pytest

from resjax.report.report import write_report
from tests.report.browsing import drawing, fragment, lines
from tests.report.fabricate import write_sweep

pytestmark = pytest.mark.slow


def shown(page, column="run"):
    """Texts of a column of the runs that are shown."""
    script = """column => {
      const table = document.getElementById("every-run");
      const heads = [...table.tHead.rows[0].cells];
      const place = heads.findIndex(head => head.dataset.filter === column);
      return [...table.tBodies[0].rows].filter(row => !row.hidden)
        .map(row => row.cells[place].textContent.trim());
    }"""
    return page.evaluate(script, column)


def numbers(page, column):
    return [float(text) for text in shown(page, column) if text != "-"]


@pytest.mark.parametrize(
    "column", ["model.depth", "test_error", "train_loss", "optim.learning_rate"]
)
def test_any_column_sorts_numbers_as_numbers(visit, many, column):
    page = visit(of=many, state="#rows=all")
    head = page.locator(f'#every-run th[data-filter="{column}"]')
    head.get_by_role("button").click()
    assert numbers(page, column) == sorted(numbers(page, column))
    assert head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert numbers(page, column) == sorted(numbers(page, column), reverse=True)
    assert "sort.every-run=" in fragment(page)


def heads(page):
    return page.locator("#every-run th[data-filter]").evaluate_all(
        "heads => heads.map(head => head.dataset.filter)"
    )


def test_errors_stand_before_keys_and_what_all_runs_share_has_no_column(visit, tmp_path, many):
    assert heads(visit(of=many)) == [
        "run", "train_error", "test_error", "model.shortcut", "model.depth", "seed",
        "optim.learning_rate", "train_loss", "test_loss", "compile", "train", "eval", "in_all",
    ]  # fmt: skip
    write_sweep(tmp_path, {("none", 8): [0.1], ("none", 20): [0.1]})
    page = visit(of=(write_report(tmp_path).directory / "index.html").as_uri())
    assert not {"state", "model.shortcut", "seed"} & set(heads(page))
    for words in ("state=done", "shortcut=plain", "shortcut=none", "seed=0", "depth=8,20"):
        page.locator("#filter").fill(words)
        assert page.locator("#filter-said").inner_text() == "2 of 2 runs"


def test_runs_are_in_the_order_of_the_tables_and_depths_are_numbers(visit):
    assert shown(visit()) == ["lost"] + [
        f"{kind}-{depth}-seed{seed}"
        for kind in ("none", "identity", "projection_all") for depth in (8, 56) for seed in (0, 1)
    ]  # fmt: skip


def test_a_table_of_errors_is_sorted_and_by_words_as_well(visit):
    page = visit()
    table = page.locator("#table1-errors")

    def column():
        return [float(row.locator("td").nth(5).inner_text().split()[0])
                for row in table.locator("tbody tr").all()]  # fmt: skip

    assert column() != sorted(column())
    table.get_by_role("button", name="test error %").click()
    assert column() == sorted(column())
    table.get_by_role("button", name="test error %").click()
    assert column() == sorted(column(), reverse=True)
    table.get_by_role("button", name="network").click()
    names = [row.locator("th").inner_text() for row in table.locator("tbody tr").all()]
    assert names == sorted(names)


def test_infinite_differences_are_sorted_as_the_highest_and_the_lowest(visit, tmp_path):
    errors = {("none", 8): 0.3, ("none", 20): math.inf, ("none", 56): 0.2,
              ("identity", 8): 0.1, ("identity", 20): 0.1, ("identity", 56): math.inf}  # fmt: skip
    write_sweep(tmp_path, {key: [error] for key, error in errors.items()})
    table = visit(of=(write_report(tmp_path).directory / "index.html").as_uri()).locator(
        "#table1-differences"
    )
    table.get_by_role("button", name="train difference").click()
    rows = table.locator("tbody tr").all()
    assert [row.locator("th, td").nth(3).inner_text() for row in rows] == ["-inf", "+20.00", "+inf"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("depth=8", lambda run: "-8-" in run),
        ("depth>8 depth<=56", lambda run: "-56-" in run),
        ("shortcut=plain learning_rate=0.05", lambda run: run.startswith("none-")
         and run.endswith("-0.05")),
        ("optim.learning_rate=0.10,3 seed!=0,1", lambda run: "-0.1" in run
         and run.split("-")[2] not in ("seed0", "seed1")),
        ("identity-56", lambda run: run.startswith("identity-56")),
        ('"identity" state="done"', lambda run: run.startswith("identity")),
        ("shortcut=none", lambda run: run.startswith("none-")),
        ("model.shortcut!=none", lambda run: run.startswith("identity-")),
        ("train.duration='15 epochs'", lambda run: True),
        ('train.duration="15 epochs","2 epochs" depth=8', lambda run: "-8-" in run),
        ("data.name=digits", lambda run: True),  # all runs share it
        ("data.name=cifar10", lambda run: False),
        ("depth=nothing", lambda run: False),
    ],
)  # fmt: skip
def test_a_filter_keeps_the_runs_that_its_words_say(visit, many, words, kept):
    page = visit(of=many, state="#rows=all")
    every = shown(page)
    assert len(every) == 120
    page.locator("#filter").fill(words)
    found = shown(page)
    assert found == [run for run in every if kept(run)]
    assert page.locator("#filter-said").inner_text().split(". ")[0] == f"{len(found)} of 120 runs"
    state = fragment(page)
    assert f"filter={words.replace(' ', '+')}" in state
    page.locator("#filter").fill("")
    assert shown(page) == every


@pytest.mark.parametrize(
    ("words", "said"),
    [("dpth=8", 'No column or key "dpth"; there are run, state,'),
     ("depth=", 'A value is missing after "depth=".'),
     ("depth<abc", '"abc" after "depth<" is not a number.'),
     ("shortcut>5", 'shortcut has no numbers to compare by ">"; there are dropout, identity,')],
)  # fmt: skip
def test_a_filter_that_says_nothing_is_told_in_a_line(visit, words, said):
    page = visit()
    page.locator("#filter").fill(words)
    assert page.locator("#filter-said").inner_text().startswith(said)
    assert page.locator("#filter").get_attribute("aria-invalid") == "true"
    assert len(shown(page)) == 13


@pytest.mark.parametrize(
    ("words", "said"),
    [("depth=8,57", "7 of 13 runs. No run has depth=57; there are 8, 56."),
     ("shortcut=plan", "0 of 13 runs. No run has shortcut=plan; there are dropout, identity, "
      "plain, projection_all."),
     ("depth!=57", "13 of 13 runs. No run has depth=57; there are 8, 56."),
     ("data.name=cifar10", "0 of 13 runs. No run has data.name=cifar10; all have digits."),
     ("train.duration=15 epochs", '0 of 13 runs. No run has "epochs"; a value with spaces needs '
      'quotes, such as train.duration="15 epochs".')],
)  # fmt: skip
def test_a_value_that_no_run_has_is_told_with_those_that_there_are(visit, words, said):
    page = visit()
    page.locator("#filter").fill(words)
    assert page.locator("#filter-said").inner_text() == said


def test_the_first_hundred_runs_are_shown_until_all_are_asked_for(visit, many):
    page = visit(of=many)
    assert len(shown(page)) == 100
    more = page.locator("#show-all")
    assert more.inner_text() == "Show all 120"
    more.click()
    assert len(shown(page)) == 120
    assert "rows=all" in fragment(page)
    more.click()
    assert len(shown(page)) == 100
    page.locator("#filter").fill("depth=8")
    assert not more.is_visible()


def test_chosen_runs_are_compared_by_curves_and_by_where_their_configs_differ(visit):
    page = visit()
    assert not page.locator("#chosen").is_visible()
    for name in ("none-8-seed1", "identity-56-seed1"):
        page.get_by_label(f"choose {name}", exact=True).check()
    names = ["1: none-8-seed1", "2: identity-56-seed1"]
    assert lines(page, ".chart.chosen") == 2 * names
    ends = page.locator(".chart.chosen .end").all_text_contents()
    assert sorted(ends) == ["1", "1", "2", "2"]
    rows = page.locator("#differences tbody tr")
    found = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in rows.all()
    }
    assert found["model.shortcut"] == ["plain", "identity"]
    assert found["model.depth"] == ["8", "56"]
    assert "seed" not in found
    assert found["train (s)"] == ["2.0", "14.0"]
    assert page.locator("#differences thead th").all_inner_texts()[1:] == names
    note = page.locator("#differences-note").inner_text()
    assert note.startswith("Their configs differ in model.shortcut, model.depth;")
    seen = drawing(page, ".chart.chosen")
    page.get_by_label("choose none-8-seed1", exact=True).uncheck()
    assert lines(page, ".chart.chosen") == 2 * ["1: identity-56-seed1"]
    assert drawing(page, ".chart.chosen") != seen
    assert 'chosen=["identity-56-seed1"]' in fragment(page)
    page.get_by_role("button", name="Choose none").click()
    assert not page.locator("#chosen").is_visible()
    assert fragment(page) == ""


def test_the_command_of_a_chosen_run_is_copied(visit, address, browser):
    page = visit(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_label("choose identity-8-seed0").check()
    page.get_by_role("button", name="copy the command of identity-8-seed0").click()
    page.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator(".command code").inner_text()
    words = shlex.split(copied)
    assert words[:2] == ["resjax", "train"]
    directory = words[2].removeprefix("--config=").removesuffix("/config.json")
    assert directory.endswith("/<em> & 1/identity-8-seed0")
    assert words[3] == f"--workdir={directory}-again"


def test_a_run_leads_to_its_directory(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.get_by_role("link", name="identity-56-seed1").click()
    page.wait_for_url("**/identity-56-seed1/")
    assert "result.json" in page.content()
    page.close()


def test_a_failed_run_is_shown_with_its_reason(visit):
    row = visit().locator("#every-run tr.failed")
    assert "lost" in row.inner_text()
    assert "the training loss became nan" in row.inner_text()


def test_the_manifest_is_folded_to_what_differs(visit):
    page = visit()
    entry = page.get_by_text("fingerprint")
    assert not entry.is_visible()
    page.get_by_text("The same in all runs: ").click()
    assert entry.is_visible()
    assert "manifest=open" in fragment(page)
    assert visit(state="#manifest=open").get_by_text("fingerprint").is_visible()


def test_many_axes_are_drawn_as_parallel_coordinates_that_the_filter_reads(visit, many):
    page = visit(of=many)
    plot = page.locator("#parallel")
    plot.scroll_into_view_if_needed()
    plot.locator(".run").first.wait_for()
    assert plot.locator(".title").all_text_contents() == [
        "shortcut", "depth", "learning rate", "train error %", "test error %",
    ]  # fmt: skip
    assert plot.locator(".run").count() == 120
    assert plot.locator(".behind").count() == plot.locator(".mark").count() > 10
    strokes = plot.locator(".run").evaluate_all("""paths => paths.map(path => {
      const [height] = path.getAttribute("d").split("L")[3].split(",").slice(1);
      return [Number(height), Number(path.style.stroke.match(/([\\d.]+)%/)[1])];
    })""")
    highest, lowest = min(strokes), max(strokes)  # pixels go down
    assert (highest[1], lowest[1]) == (100, 0)
    assert [red for _, red in sorted(strokes)] == sorted((red for _, red in strokes), reverse=True)
    axis = plot.locator(".upright").nth(1).locator("line").bounding_box()
    page.mouse.move(axis["x"], axis["y"] + axis["height"] * 0.05)
    page.mouse.down()
    page.mouse.move(axis["x"], axis["y"] + axis["height"] * 0.45, steps=4)
    page.mouse.up()
    assert page.locator("#filter").input_value() == "model.depth=56"
    assert plot.locator(".run:not(.away)").count() == 60
    page.locator("#filter").fill("depth=8 shortcut=plain seed=3 learning_rate=0.1")
    line = plot.locator(".run:not(.away)")
    assert line.count() == 1
    x, y = line.evaluate("""path => {
      const [one, other] = path.getAttribute("d").slice(1).split("L").slice(2, 4)
        .map(point => point.split(",").map(Number));
      const box = path.ownerSVGElement.getBoundingClientRect(), to = path.getCTM();
      return [box.x + (one[0] + other[0]) / 2 + to.e, box.y + (one[1] + other[1]) / 2 + to.f];
    }""")
    page.mouse.move(x, y)
    assert "none-8-seed3-0.1" in plot.locator(".tip").inner_text()
    page.mouse.click(x, y)
    assert page.locator("#chosen").is_visible()
    assert 'chosen=["none-8-seed3-0.1"]' in fragment(page)


def test_few_axes_need_no_parallel_coordinates(visit):
    assert visit().locator("#parallel").count() == 0
