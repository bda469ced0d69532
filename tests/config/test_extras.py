import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resjax.cli import main as cli
from resjax.config import ConfigError
from resjax.config.extras import EXTRAS, require
from resjax.runs.events import WRITERS

ROOT = Path(__file__).parents[2]
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_needs_an_extra_that_is_missing_is_refused_with_the_command(extra, monkeypatch):
    assert extra in OPTIONAL
    monkeypatch.setitem(sys.modules, EXTRAS[extra].module, None)
    with pytest.raises(ConfigError, match=rf"^this needs .*: pip install -e '\.\[{extra}\]' in"):
        require(extra, "this")


def test_a_writer_that_is_no_extra_is_always_there():
    assert {name for name in WRITERS if name not in EXTRAS} == {"tensorboard"}


def test_crops_without_opencv_are_refused_before_images_are_looked_for(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setitem(sys.modules, "cv2", None)
    looked = []
    monkeypatch.setattr("resjax.data.sources.load", lambda *_: looked.append(_))
    words = ["--config.data.name=folder:pictures", "--config.data.size=224"]
    experiment = f"--config={ROOT}/experiments/degradation.py"
    assert cli.main(["train", experiment, *words, f"--workdir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("resjax: data.size=224, crops of images that are streamed, needs OpenCV")
    assert said.endswith("pip install -e '.[stream]' in the clone of resjax\n")
    assert said.count("\n") == 1
    assert not looked
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_images_are_evaluated_and_streamed_ones_read_without_opencv():
    modules = "resjax.data.transforms, resjax.data.streaming, resjax.interop.scoring"
    code = f"import sys; sys.modules['cv2'] = None; import {modules}"
    subprocess.run([sys.executable, "-c", code], check=True)
