"""Names of files, wherever they are written: one meaning of ~, and no addresses."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resjax.cli.main import main
from resjax.config import ConfigError, default_config
from resjax.config.paths import local
from resjax.data.sources import DataRequest, load
from resjax.process import cache_directory
from resjax.runs.loop import train_and_evaluate
from resjax.runs.plans import Plans

EXPERIMENT = "from resjax.config import default_config as get_config\n"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_directory().parent))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    return tmp_path


@pytest.mark.slow
def test_a_tilde_is_the_home_directory_in_every_key_and_option(home, tiny, tmp_path):
    for number, name in enumerate(("ant", "bee")):
        for split in ("train", "test"):
            (home / "photos" / split / name).mkdir(parents=True)
            for n in range(3):
                pixels = np.full((8, 8), 100 * number + n, np.uint8)
                Image.fromarray(pixels).save(home / "photos" / split / name / f"{n}.png")
    train_and_evaluate(tiny, tmp_path / "run")
    tiny.train.init_from = "~/run"
    assert Plans().of(tiny).start.name == str(home / "run")
    images = load("folder:~/photos", DataRequest()).train
    assert images.images.shape[0] == 6
    assert main(["sweep", "--config=~/mine.py", "--workdir=~/sweep", "--dry-run"]) == 0
    assert main(["doctor", "~/run"]) == 0
    assert main(["export", "~/run", "--out=~/net.stablehlo"]) == 0
    assert (home / "net.stablehlo").exists()
    assert main(["predict", "~/run", "~/photos/test/ant/0.png"]) == 0
    assert main(["evaluate", "~/run", "--config=~/mine.py"]) == 0


def test_a_user_without_a_home_has_the_cache_of_the_root(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)
    with pytest.raises(RuntimeError):
        Path.home()
    assert cache_directory() == Path("/.cache/resjax")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/me")
    assert cache_directory() == Path("/scratch/me/resjax")


@pytest.mark.parametrize(("name", "told"), [
    ("gs://bucket/x", "is in a bucket, and must be on this machine; name a local path"),
    ("https://host/x", "is in the web, which resjax does not open; download what is there, and"),
    ("s3:/bucket/x", "has one slash after s3: and would be a local directory; write s3://bucket/x"),
    ("~nobody-at-all/x", "begins with the home of a user who is not known here; write the whole"),
], ids=["bucket", "web", "slash", "nobody"])  # fmt: skip
def test_what_is_no_name_of_a_file_is_refused_in_every_key_and_option(home, name, told, capsys):
    path = f"--config={home / 'mine.py'}"
    files = [
        ["train", f"--config={name}"], ["train", f"--config={name}:cifar10"],
        ["bench", path, f"--trace={name}"], ["predict", "run", name], ["init", name],
        ["import", "x", f"--out={name}"], ["export", "run", f"--out={name}"],
        ["evaluate", "run", f"--config={name}"], ["prepare", "cifar10", f"--data-dir={name}"],
        ["describe", "resnet18", f"--diagram={name}"], ["train", path, f"--scratch={name}"],
    ]  # fmt: skip
    places = [
        ["train", path, f"--config.train.init_from={name}"],
        ["train", path, f"--config.data.name=folder:{name}"],
        ["train", path, "--config.data.name=cifar10", f"--config.data.dir={name}"],
        ["doctor", name], ["status", name], ["report", name], ["probe", name], ["evaluate", name],
        ["train", path, f"--workdir={name}"], ["import", name, "--out=x"],
        ["predict", name, "x"], ["export", name, "--out=x.safetensors"],
    ]  # fmt: skip
    for words in files + places * (not name.startswith("gs://")):
        assert main(words) == 2, words
        error = capsys.readouterr().err
        assert told in error, (words, error)
        assert name in error
        assert error.count("\n") == 1


def test_a_name_with_a_nul_is_refused():
    for keys in ({"train.init_from": "a\0b"}, {"data.name": "folder:a\0b"},
                 {"data.name": "cifar10", "data.dir": "a\0b"}):  # fmt: skip
        config = default_config()
        config.update_from_flattened_dict(keys)
        with pytest.raises(ConfigError, match="is not the name of a file; leave out the NUL"):
            Plans().of(config)
    with pytest.raises(ConfigError, match=r"^--out= the name is empty; is a variable not set\?$"):
        local("", "--out=")


def test_what_no_file_system_takes_is_refused():
    for name in (256 * "x", 128 * "é", f"x/{256 * 'x'}/y", 2048 * "x/"):
        with pytest.raises(ConfigError, match=r"^--out=.* is too long for a file system, where"):
            local(name, "--out=")
    assert local(f"{127 * 'é'}/{255 * 'x'}").name == 255 * "x"
    with pytest.raises(ConfigError, match="is not the name of a file, as it is not Unicode"):
        local("\ud800", "data.dir=")
