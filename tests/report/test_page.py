import base64
import dataclasses
import re

import numpy as np
import pytest

from resjax.report import charts, page, sorting
from resjax.report.report import read_sweep, write_report
from resjax.report.runs import read_runs
from resjax.runs import disk
from tests.report.fabricate import SHORTCUTS, begin_run, fail_run, write_run, write_sweep


@pytest.mark.parametrize("name", ["page.css", *page.SCRIPTS, "D3"])
def test_what_a_page_embeds_ends_no_element(name):
    text = page._d3() if name == "D3" else page._asset(name)
    assert "</script" not in text
    assert "</style" not in text


@pytest.mark.slow
def test_a_page_of_a_thousand_long_runs_is_below_6_mb(tmp_path):
    """They share one curve of 1,000 evaluations, which is read into the page a thousand times."""
    write_sweep(tmp_path, {(kind, 8): [0.1, 0.2] for kind in SHORTCUTS})
    read = read_sweep(tmp_path)
    values = np.random.default_rng(0).random((1000, 4))
    measures = ("train_error", "test_error", "train_loss", "test_loss")
    curve = [
        {"step": n, "epoch": n + 1} | dict(zip(measures, row.tolist(), strict=True))
        for n, row in enumerate(values)
    ]
    runs = [
        dataclasses.replace(run, name=f"{run.name}-{rate}", curve=curve,
                            config=run.config | {"optim.learning_rate": rate},
                            keys=run.keys | {"optim.learning_rate": rate})
        for rate in np.linspace(0.01, 1, 167).round(3).tolist() for run in read.runs
    ]  # fmt: skip
    assert len(runs) == 1002
    section = dataclasses.replace(read.sections[0], table=sorting.arm_tables(runs)[0])
    whole = dataclasses.replace(read, runs=runs, sections=[section])
    assert 2e6 < len(page.render(whole, tmp_path, "").encode()) < 6e6


def test_curves_of_many_runs_are_thinned_out_to_their_ends(tmp_path):
    write_run(tmp_path, "long", 0.1, epochs=1000)
    (run,), _ = read_runs(tmp_path)
    found = charts.run_curves(run, 40)
    assert len(found["epochs"]) == len(found["train_error"]) <= 41
    assert (found["epochs"][0], found["epochs"][-1], found["train_error"][-1]) == (1, 1000, 10)


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 0)


def written(workdir):
    return (write_report(workdir).directory / "index.html").read_text(encoding="utf-8")


def plan(workdir, *runs):
    (workdir / "planned").mkdir()
    disk.write_json(workdir / "planned" / "one.json", {"work": dict.fromkeys(runs, 1)})


def test_a_sweep_that_has_not_ended_says_what_waits_and_when_it_was_read(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1], ("none", 20): [0.2]})
    assert "Not finished" not in written(tmp_path)
    plan(tmp_path, "none-8-0", "next")
    when = r"Not finished</strong>, as of \d{4}-\d\d-\d\d \d\d:\d\d UTC"
    assert re.search(
        when + r": 1 planned run is waiting \(next\)\. The verdicts", written(tmp_path)
    )
    begin_run(tmp_path, "next", model__depth=56)
    page = written(tmp_path)
    assert "</strong> interrupted" in page
    assert re.search(when + r"\. The verdicts", page)
    fail_run(tmp_path / "next")
    assert "Not finished" not in written(tmp_path)


def test_a_plan_that_grows_makes_a_page_stale(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1]})
    write_report(tmp_path)
    plan(tmp_path, "next")
    page = (write_report(tmp_path, again=False).directory / "index.html").read_text()
    assert "1 planned run is waiting (next)" in page


def test_captions_of_one_seed_tell_of_no_means(tmp_path):
    write_sweep(tmp_path / "one", {("none", 8): [0.1], ("none", 20): [0.2]})
    write_sweep(tmp_path / "two", {("none", 8): [0.1, 0.2], ("none", 20): [0.2, 0.2]})
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    assert "means over seeds" not in one
    assert "each line is one run" in one
    assert "lines are means over seeds, bands span the seeds" in two


def test_the_cost_of_one_network_is_told_once(tmp_path):
    def rows(workdir):
        ledger = written(workdir).partition('id="table1-ledger"')[2].partition("</table>")[0]
        return re.findall(r"<th scope=row class=\"text\">(.*?)</th>", ledger)

    write_sweep(tmp_path / "one", {("none", 8): [0.1]})
    write_sweep(tmp_path / "two", {("none", 8): [0.1], ("identity", 8): [0.2]})
    assert rows(tmp_path / "one") == ["plain"]
    assert rows(tmp_path / "two") == ["plain", "identity", "all"]


def test_gaps_are_drawn_on_a_numbered_scale_with_the_tolerance(tmp_path):
    """Positions on it are linear in points, from the tick of zero."""
    write_sweep(tmp_path, {("none", 8): [0.1, 0.1], ("none", 20): [0.2, 0.22],
                           ("identity", 8): [0.1, 0.1], ("identity", 20): [0.1, 0.1]})  # fmt: skip
    text = written(tmp_path)
    at = {float(tick): float(place) for place, tick in
          re.findall(r'<text x="([\d.]+)%" y="16">([-+\d.]+)<', text)}  # fmt: skip
    assert 3 <= len(at) <= 5
    low, high = min(at), max(at)
    per_point = (at[high] - at[low]) / (high - low)
    gaps = [float(place) for place in re.findall(r'<circle cx="([\d.]+)%"', text)]
    assert gaps == pytest.approx([at[0] + 11 * per_point, at[0]], abs=0.2)
    (tolerance,) = set(re.findall(r'<line class="tolerance" x1="([\d.]+)%"', text))
    assert float(tolerance) == pytest.approx(at[0] + per_point, abs=0.2)


def test_the_training_is_told_also_where_all_keys_have_their_defaults(tmp_path):
    write_sweep(tmp_path, {("none", 8): [0.1, 0.1], ("identity", 56): [0.1, 0.1]})
    said = re.search(r'<p class="training">(.*?)</p>', written(tmp_path))[1]
    assert said == (
        "2 networks (plain, identity), 8 and 56 layers, 2 seeds; trained on digits "
        "(1,437 examples, 360 to test) for 15 epochs by sgd, learning rate 0.1 (cosine), "
        "batches of 128."
    )
    for number, rate in enumerate((0.01, 0.02, 0.03, 0.04)):
        write_run(tmp_path, f"more{number}", 0.1, optim__learning_rate=rate, data__name="mine")
    said = re.search(r'<p class="training">(.*?)</p>', written(tmp_path))[1]
    assert "8, 20 and 56 layers" in said
    assert "trained on digits or mine for" in said
    assert "learning rate 5 values (cosine)" in said


def test_errors_of_one_depth_are_drawn_by_the_key_that_was_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("resjax.report.report.MOST_DRAWN", 1)
    for rate in (0.01, 0.1, 1.0):
        for seed in range(2):
            write_run(tmp_path, f"{rate}-{seed}", rate / 4 + seed / 100, seed=seed,
                      model__depth=8, optim__learning_rate=rate)  # fmt: skip
    page = written(tmp_path)
    assert "<h3>By learning_rate</h3>" in page
    assert "<h3>By size</h3>" not in page
    [picture] = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)" alt="[^"]*rate', page)
    figure = tmp_path / "report" / "figures" / "error_by_learning_rate.svg"
    assert base64.b64decode(picture) == figure.read_bytes()
    write_run(tmp_path, "deep", 0.1, model__depth=20, optim__learning_rate=0.1)
    assert "<h3>By size</h3>" in written(tmp_path)
