"""What is installed is whole, and says under which licence, the same everywhere."""

import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import resjax

ROOT = Path(__file__).parents[1]
LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
"""What pip has a build backend do, with the setuptools that is installed: nothing is fetched."""


def test_licence_pyproject_and_citation_say_the_same():
    identifier = re.search(r"^SPDX-License-Identifier: (\S+)$", LICENCE, re.MULTILINE)[1]
    assert identifier == PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    assert PROJECT["license-files"] == ["LICENSE"]
    assert "https://www.apache.org/licenses/LICENSE-2.0" in LICENCE.split()
    [author], [cited] = PROJECT["authors"], CITATION["authors"]
    assert author["name"] == cited["name"]
    assert f"\nCopyright {author['name']}\n" in LICENCE
    assert PROJECT["keywords"] == CITATION["keywords"]
    assert PROJECT["urls"]["Repository"] == CITATION["repository-code"]


@pytest.mark.slow
def test_a_wheel_has_the_licence_its_metadata_and_every_file_of_the_package(tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "resjax", sources / "resjax", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    command = [sys.executable, "-c", BUILD, str(tmp_path)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        information = f"resjax-{resjax.__version__}.dist-info"
        metadata = email.message_from_bytes(wheel.read(f"{information}/METADATA"))
        licence = wheel.read(f"{information}/licenses/LICENSE").decode()
        packed = {name for name in wheel.namelist() if not name.startswith(information)}
    assert licence == LICENCE
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Version"] == resjax.__version__
    assert metadata["Author"] == "The resjax authors"
    assert len(metadata.get_all("Project-URL")) == len(PROJECT["urls"])
    files = (path for path in (ROOT / "resjax").rglob("*") if path.is_file())
    assert packed == {
        str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts
    }
