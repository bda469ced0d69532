"""The guides work as they are written: their code is put where they say and their commands run."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from resjax.models.build import build_model
from resjax.sweeps import experiment, grid
from resjax.sweeps.local import check

ROOT = Path(__file__).parents[1]


def blocks(page, language):
    """What a page has between fences."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page):
    return [line for block in blocks(page, "bash") for line in block.splitlines()]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the repository, to be changed."""
    for name in ("resjax", "experiments"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return tmp_path


RUN_ALL = """
import json, sys
from resjax.cli.main import main
for words in json.load(sys.stdin):
    if code := main(words):
        sys.exit(code)
"""


def run_all(page, directory):
    """What the commands of a page print, run one after the other with the code of a directory."""
    words = [shlex.split(line)[1:] for line in commands(page)]
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=json.dumps(words),
        cwd=directory, env=os.environ | {"PYTHONPATH": str(directory)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_shortcut_is_one_class_and_one_line_and_its_number_one_entry(checkout):
    [code] = blocks("add-a-shortcut.md", "python")
    (checkout / "learnt.py").write_text(code, encoding="utf-8")
    told = run_all("add-a-shortcut.md", checkout)
    # The 853,018 parameters of ResNet-56 (0.85 million: He et al. 2015, table 6), and 27 scales.
    assert "853,045" in told
    assert (checkout / "runs" / "learnt-8" / "result.json").exists()
    config = json.loads((checkout / "runs" / "learnt-8" / "config.json").read_text("utf-8"))
    assert config["model.scale_start"] == 0.7
    assert len(re.findall(r"^ *learnt_scale-\d+-\S*seed\d", told, re.MULTILINE)) == 18


@pytest.mark.slow
def test_a_data_set_is_one_function_and_one_line(checkout):
    experiment, written = blocks("add-a-data-set.md", "python")
    (checkout / "arrays.py").write_text(experiment, encoding="utf-8")
    subprocess.run([sys.executable, "-c", written], cwd=checkout, check=True)
    run_all("add-a-data-set.md", checkout)
    assert (checkout / "runs" / "npz" / "result.json").exists()


def test_an_experiment_is_one_file(tmp_path):
    code, _ = blocks("add-an-experiment.md", "python")
    path = tmp_path / "width.py"
    path.write_text(code, encoding="utf-8")
    module, config = experiment.load_experiment(str(path))
    axes = grid.axes_of(module, config)
    assert list(axes) == ["width", "shortcut"]
    runs = grid.expand(config, grid.select_axes(axes, None, None)).values()
    assert {(run.model.width, run.model.shortcut) for run in runs} == {
        (width, shortcut) for width in (4, 8, 16) for shortcut in ("none", "identity")
    }


def test_a_normalisation_is_a_class_and_a_line(tmp_path, tables):
    path = tmp_path / "rms.py"
    path.write_text("\n".join(blocks("add-an-experiment.md", "python")), encoding="utf-8")
    _, config = experiment.load_experiment(str(path))
    config.norm.kind, config.model.zero_last_gamma = "rms", True
    check({tmp_path / "run": config})
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype(np.float32)
    make = build_model(config, 10).parts.norm
    y, variables = make(name="norm").init_with_output(jax.random.key(0), x, train=True)
    expected = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm.epsilon)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    zero, _ = make(zero_scale=True).init_with_output(jax.random.key(0), x, train=True)
    assert not zero.any()
    assert list(variables) == ["params"]


def test_a_number_of_its_own_is_a_class_a_key_and_a_line(tmp_path, tables):
    [code] = blocks("add-a-shortcut.md", "python")
    path = tmp_path / "learnt.py"
    path.write_text(code, encoding="utf-8")
    module, config = experiment.load_experiment(str(path))
    runs = grid.expand(config, [grid.axes_of(module, config)["scale"]])
    assert len(runs) == 2
    for run in runs.values():
        assert build_model(run, 10).parts.shortcut.keywords["scale_start"] == run.model.scale_start


def test_the_tables_of_the_guide_are_all_that_take_entries(tables):
    text = (ROOT / "docs" / "add-an-experiment.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `resjax[.\w]+\.([A-Z]+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(name for name, table in tables.items() if table.entry)


@pytest.mark.slow
def test_the_commands_of_an_experiment_run(checkout):
    code, _ = blocks("add-an-experiment.md", "python")
    (checkout / "experiments" / "width.py").write_text(code, encoding="utf-8")
    run_all("add-an-experiment.md", checkout)
    results = list((checkout / "runs" / "width").glob("*/result.json"))
    assert len(results) == 2
    assert (checkout / "runs" / "width" / "report" / "index.html").exists()


def checks(lines):
    """Commands that check every change, of those in some lines."""
    return [line for line in lines if line.partition(" ")[0] in ("ruff", "mypy", "pytest")]


def test_contributing_tells_of_every_check_that_a_change_must_pass():
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    run = checks(line for line in lines if line)
    assert run[-1] == "pytest -n auto"
    assert blocks("../CONTRIBUTING.md", "bash")[-1].splitlines() == run


@pytest.mark.slow
def test_the_commands_of_contributing_pass_that_take_seconds():
    told = checks(commands("../CONTRIBUTING.md"))
    quick = [line for line in told if line.startswith(("ruff", "pytest tests/config/"))]
    assert len(quick) == 3
    for line in quick:
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
