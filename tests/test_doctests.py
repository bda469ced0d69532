"""The examples in docstrings print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "resjax").rglob("*.py")
    if "    >>> " in path.read_text(encoding="utf-8")
}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_examples_of(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed, "the examples above"
