"""The experiment file that `resjax init` writes: as it stands it runs, with its own shortcut."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resjax.cli.main import main
from resjax.models.shortcuts import SHORTCUTS
from resjax.runs.rundir import read_config
from resjax.sweeps.experiment import load_experiment
from resjax.sweeps.grid import axes_of

ROOT = Path(__file__).parents[2]

SMALL = (
    "--config.model.width=2", "--config.model.depth=8", "--sweep=shortcut",
    "--config.train.duration=2 steps", "--config.eval.every=2 steps",
)  # fmt: skip


@pytest.fixture
def mine(tmp_path, monkeypatch, capsys, shortcuts):
    """A new file mine.py, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    return capsys.readouterr().out


def test_it_says_what_to_type_next(mine, tmp_path, capsys):
    commands = [line.split()[1:] for line in mine.splitlines() if line.startswith("  resjax ")]
    assert [command[0] for command in commands] == ["sweep", "sweep", "report"]
    assert main(commands[0]) == 0
    assert "27 runs: 27 waiting" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_it_is_of_the_style_of_this_project(mine):
    text = Path("mine.py").read_text()
    for command in (["check"], ["format", "--check"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename=experiments/mine.py"]
        done = subprocess.run(
            [*words, "-"], cwd=ROOT, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


def test_it_names_itself_and_nothing_of_the_template(mine, capsys):
    text = Path("mine.py").read_text()
    assert "--config=mine.py --workdir=runs/mine" in text
    assert "NAME" not in text
    assert main(["init", "deeper/still/other.py"]) == 0
    assert capsys.readouterr().out.startswith("deeper/still is a new directory\ndeeper/still/other")
    assert main(["init", "deeper/other.py"]) == 0
    assert "new directory" not in capsys.readouterr().out
    assert "--config=deeper/other.py --workdir=runs/other" in Path("deeper/other.py").read_text()


def test_its_axes_are_depth_shortcut_and_seed_and_its_argument_names_the_images(mine):
    module, config = load_experiment("mine.py:shapes")
    assert config.data.name == "shapes"
    assert [*axes_of(module, config)] == ["depth", "shortcut", "seed"]


@pytest.mark.parametrize(("name", "message"), [
    ("mine", "mine.py already exists; choose another name"),
    ("my-exp", "'my-exp' is not a valid name of a Python module; try my_exp"),
    ("in/2nd.py", "'2nd' is not a valid name of a Python module; try in/my_2nd"),
    ("class", "'class' is not a valid name of a Python module; try my_class"),
    ("", "the name is empty"),
])  # fmt: skip
def test_a_name_that_cannot_be_is_refused(mine, name, message, capsys, tmp_path):
    before = Path("mine.py").read_text()
    assert main(["init", name]) == 2
    assert message in capsys.readouterr().err
    assert Path("mine.py").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def trained(capsys):
    """A run with the shortcut."""
    assert main(["sweep", "--config=mine.py", *SMALL, "--only=shortcut=half"]) == 0
    assert "half" in capsys.readouterr().out
    [run] = Path("runs/mine").glob("half-8-*")
    return str(run)


COMMANDS = (
    ("probe", "--probe=responses", "--examples=20"),
    ("evaluate", "--split=test[:20]"),
    ("export", "--out=half.stablehlo"),
)


@pytest.mark.slow
def test_where_its_shortcut_is_unknown_the_remedy_is_to_name_the_file(mine, capsys):
    run = trained(capsys)
    del SHORTCUTS["half"]
    for command, *words in COMMANDS:
        assert main([command, run, *words]) == 2
        error = capsys.readouterr().err
        assert "unknown model.shortcut 'half'" in error
        assert error.endswith("name the experiment file that defines it by --config=FILE\n")
    assert main(["report", "runs/mine"]) == 0  # reads numbers, and builds no network


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_commands_that_build_the_network_of_a_run_take_the_file(mine, capsys, command):
    run, (name, *words) = trained(capsys), command
    del SHORTCUTS["half"]
    assert main([name, run, *words, "--config=mine.py"]) == 0
    assert capsys.readouterr().out


def test_half_is_half_of_the_identity(mine):
    """Of the block's input, where the shape is kept and where it changes."""
    import numpy as np

    module, _ = load_experiment("mine.py")
    x = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    for channels, stride in ((3, 1), (8, 2)):
        parts = {"channels": channels, "stride": stride, "layer": None, "norm": None}
        whole = SHORTCUTS["identity"](**parts).apply({}, x, False, method="carry")
        half = module.Half(**parts).apply({}, x, False, method="carry")
        np.testing.assert_array_equal(half, whole / 2)


@pytest.mark.slow
def test_annotations_that_are_text_are_understood(mine):
    """As `from __future__ import annotations` makes them, which dataclasses look up."""
    path = Path("later.py")
    path.write_text(
        '"""Later."""\nfrom __future__ import annotations\nfrom typing import ClassVar\n'
        "from resjax.config import default_config\n"
        "from resjax.models.shortcuts import SHORTCUTS, Identity\n"
        "class Later(Identity):\n    factor: float = 0.5\n    kinds: ClassVar[int] = 3\n"
        "    def carry(self, x, train):\n        return self.factor * super().carry(x, train)\n"
        "SHORTCUTS['later'] = Later\n"
        "def get_config():\n    config = default_config()\n    config.model.shortcut = 'later'\n"
        "    return config\n"
    )
    assert main(["train", "--config=later.py", *(w for w in SMALL if "--sweep" not in w)]) == 0


@pytest.mark.slow
def test_its_shortcut_and_a_key_are_known_to_workers_and_to_a_sweep_that_goes_on(mine, tmp_path):
    with Path("mine.py").open("a") as file:
        file.write("from resjax.config.keys import KEYS, Key\nKEYS['optim.kept'] = Key(0.5, '.')\n")
    words = [sys.executable, "-m", "resjax", "sweep", "--config=mine.py", "--jobs=2",
             "--config.model.width=2", "--config.model.depth=8", "--sweep=shortcut",
             "--only=shortcut=half,identity", "--config.train.duration=400 steps",
             "--config.eval.every=400 steps", "--config.checkpoint.seconds=0.2",
             "--config.optim.kept=0.25"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    sweep = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/mine/half-*/checkpoints/*/checkpoint.json")):
        assert time.monotonic() < deadline
        assert sweep.poll() is None
        time.sleep(0.05)
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(timeout=300) == 75
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [run] = tmp_path.glob("runs/mine/half-*")
    begun = [
        event["step"]
        for event in map(json.loads, (run / "timing.jsonl").read_text().splitlines())
        if event["event"] == "begun"
    ]
    assert len(begun) == 2
    assert begun[1] > 0
    assert read_config(run)["optim.kept"] == 0.25
