"""The pages are true of the code, and can be built without a warning and without a network."""

import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import resjax
from resjax.config.keys import KEYS
from resjax.config.networks import named
from resjax.sweeps.experiment import load_experiment

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
TESTS = set(re.findall(r"^def (test_\w+)", "".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
), re.MULTILINE))  # fmt: skip


def is_function(name):
    """Whether it is a public name of a module of resjax, given below resjax."""
    module, _, member = name.rpartition(".")
    try:
        found = importlib.util.find_spec(f"resjax.{module}")
    except ModuleNotFoundError:
        return False
    return found is not None and hasattr(importlib.import_module(f"resjax.{module}"), member)


def is_key_with_value(text):
    key, equals, value = text.partition("=")
    if not equals or key not in KEYS:
        return False
    entry = KEYS[key]
    if entry.choices:
        return value in entry.choices
    kind = type(entry.default)
    return key == "data.name" or isinstance(kind(value), kind)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([^`]+)`", PAGES["papers"]))))
def test_what_the_page_on_papers_names_exists(name):
    if name.startswith("test_"):
        assert name in TESTS
    elif name.startswith("experiments/"):
        path, _, argument = name.partition(":")
        load_experiment(f"{ROOT / path}:{argument}" if argument else str(ROOT / path))
    elif not name.startswith("resjax"):  # whose commands tests/test_documents.py gives
        assert is_function(name) or is_key_with_value(name) or named(name)


def test_all_of_two_papers_is_on_the_page():
    """He et al. 2015 has 7 figures, 14 tables, 2 equations; He et al. 2016 has 6, 5 and 9."""
    first, second = re.split(r"^## ", PAGES["papers"], flags=re.MULTILINE)[1:3]
    for text, counts in (
        (first, {"figure": 7, "table": 14, "equation": 2}),
        (second, {"figure": 6, "table": 5, "equation": 9}),
    ):
        for kind, count in counts.items():
            told = set()
            places = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
            for place in places:
                for low, word, high in re.findall(
                    rf"{kind}s? (\d+)(?: (to|and) (?:table )?(\d+))?", place
                ):
                    ends = int(low), int(high or low)
                    told |= set(range(ends[0], ends[1] + 1)) if word == "to" else set(ends)
            assert told >= set(range(1, count + 1)), (kind, told)


def test_a_promise_names_the_test_that_holds_it():
    held = set(re.findall(r"`(test_\w+)`", PAGES["versions"]))
    assert held
    assert held <= TESTS


def test_links_between_pages_lead_somewhere():
    for page, text in PAGES.items():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (DOCS / target).exists(), (page, target)


def test_every_module_is_on_a_page():
    """Beside those that define no public name."""
    shown = set(re.findall(r"automodule:: (\S+)", "".join(
        path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md")
    )))  # fmt: skip
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "resjax").rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert shown == modules | {"resjax.config"}


def test_citation_has_the_version_and_the_papers():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == resjax.__version__
    assert {"message", "title", "authors"} <= citation.keys()
    assert citation["authors"] == [{"name": "The resjax authors"}]
    papers = {reference["identifiers"][0]["value"] for reference in citation["references"]}
    assert papers == {"arXiv:1512.03385", "arXiv:1603.05027", "arXiv:1502.03167"}
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= reference.keys()


def test_versions_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = PAGES["versions"]
    assert project["requires-python"] == ">=3.11,<3.15"
    assert "| Python | 3.11 to 3.14 |" in page
    assert {"jax>=0.10,<0.13", "flax>=0.12.7,<0.13"} <= set(project["dependencies"])
    assert "| jax | 0.10 to 0.12 |" in page
    assert "| flax | 0.12 from 0.12.7 on |" in page
    assert set(re.findall(r"\.\[(\w+)\]", page)) == set(project["optional-dependencies"])


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning_and_ask_other_hosts_for_nothing(tmp_path):
    pytest.importorskip("furo", reason="pip install -e '.[docs]'")
    built = tmp_path / "pages"
    options = ["-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = r"""(?:src|srcset)=["']https?:|<link[^>]+href=["']https?:|url\(["']?https?:|@import"""
    for path in built.rglob("*"):
        if path.suffix in (".html", ".css"):
            assert not re.search(loaded, path.read_text(encoding="utf-8")), path
    config = (built / "config.html").read_text(encoding="utf-8")
    assert all(key in config for key in KEYS)
    told = {
        "models": ("resjax.models.shortcuts.Identity", "Adds no parameters and no multiply-adds."),
        "training": ("r = trust_coefficient * |w| / (|gradient| + weight_decay * |w|",),
        "probes": ("Returned arrays", "NaN for a normalisation that a block does not have"),
    }
    for page, sentences in told.items():
        text = (built / "api" / f"{page}.html").read_text(encoding="utf-8")
        for sentence in sentences:
            assert sentence in " ".join(text.split())
