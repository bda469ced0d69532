"""Commands that need no arrays do without JAX, so that they answer at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.fabricate import write_run

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

HEAVY = ("jax", "jaxlib", "flax", "optax", "orbax", "numpy", "scipy", "matplotlib", "resjax.models")

RUN = """
import json, sys
from resjax.cli.main import main
commands, heavy = map(json.loads, sys.argv[1:])
for command in commands:
    code = main(command)
    print("ended", json.dumps([command, code, [name for name in heavy if name in sys.modules]]))
"""


def ended(commands):
    """What is left of each command, run in turn in one new process: (exit code, heavy modules)."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands), json.dumps(HEAVY)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line[6:] for line in done.stdout.splitlines() if line.startswith("ended ")]
    return {" ".join(command): (code, heavy) for command, code, heavy in map(json.loads, lines)}


@pytest.fixture
def runs(tmp_path):
    write_run(tmp_path / "sweep", "plain-8", 0.5)
    return tmp_path / "sweep"


def test_status_loads_no_arrays(runs):
    commands = [["status", str(runs)], ["status", str(runs), "--json"]]
    assert ended(commands) == {" ".join(command): (0, []) for command in commands}


def test_keys_are_searched_without_arrays():
    commands = [["keys"], ["keys", "learning", "rate"], ["keys", "data.name", "--json"]]
    assert ended(commands) == {" ".join(command): (0, []) for command in commands}


def test_images_that_are_missing_are_refused_before_weights_are_read(runs):
    command = ["predict", str(runs / "plain-8"), __file__, "absent.png"]
    assert ended([command]) == {" ".join(command): (2, [])}


def test_refusals_that_the_command_line_alone_decides_load_no_arrays(tmp_path):
    config = f"--config={EXPERIMENT}"
    absent = str(tmp_path / "absent")
    commands = [
        ["trian", config],
        ["train", "--config=absent.py"],
        ["train", config, "--config.model.dpth=8"],
        ["train", config, "--config.model.depth=deep"],
        ["train", config, "--config.model.shortcut=plain", "--config.seed=-1"],
        ["train", config, "--config.model.shortcut=unknown"],
        ["sweep", config, "--config.optim.name=unknown"],
        ["train", config, "--config.model.name=resnet51"],
        ["train", config, "--config.model.name=resnet50"],
        ["sweep", config, "--axis=model.name=vgg"],
        ["describe", "resnet51"],
        ["describe", "resnet50", "--config.model.shortcut=unknown"],
        ["train", f"{config}:absent"],
        ["train", config, "--workdri=x"],
        ["bench", config, "--config.train.duration=long"],
        ["describe", config, "--config.norm.epsilon=small"],
        ["sweep", config, "--axis=model.dpth=8,20"],
        ["sweep", config, "--only=model.depth=7"],
        ["sweep", config, "--json"],
        ["keys", "dpth"],
        *(["status", absent], ["report", absent], ["doctor", absent], ["probe", absent]),
        *(["evaluate", absent], ["predict", absent, "a.png"]),
        *(["export", absent, "--out=a.safetensors"], ["import", absent, "--out=run"]),
    ]  # fmt: skip
    assert ended(commands) == {" ".join(command): (2, []) for command in commands}
