import dataclasses

import numpy as np
import pytest

from resjax.report import charts, page, sorting
from resjax.report.report import read_sweep
from resjax.report.runs import read_runs
from tests.report.fabricate import SHORTCUTS, write_run, write_sweep


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
