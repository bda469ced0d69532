"""What the source code of resjax promises to who reads it."""

import ast
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import resjax

PACKAGE = Path(resjax.__file__).parent

MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
}


def test_no_public_class_or_function_has_the_name_of_another():
    homes = defaultdict(list)
    for module, tree in MODULES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                homes[node.name].append(module)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def loaded_by(program):
    """Names of the modules that a new process has loaded after a program."""
    show = "; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program + show], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_importing_resjax_loads_nothing_else_and_changes_no_environment():
    assert "same" in subprocess.run(
        [sys.executable, "-c", "import os; a = dict(os.environ); import resjax, sys; "
         "assert not [m for m in sys.modules if m.startswith(('resjax.', 'jax', 'numpy'))]; "
         "print('same' * (a == dict(os.environ)))"],
        capture_output=True, text=True, check=True,
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    ).stdout  # fmt: skip


def test_runs_are_read_by_few_modules_and_without_jax():
    loaded = loaded_by("import resjax.report.runs")
    assert len([name for name in loaded if name.startswith("resjax")]) <= 15
    assert "jax" not in loaded


@pytest.mark.parametrize("name", sorted(resjax.PUBLIC))
def test_a_public_name_is_there_when_it_is_used(name):
    assert getattr(resjax, name).__doc__
    assert name in dir(resjax)


def test_another_name_is_none_of_resjax():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        resjax.trian  # noqa: B018 - it is looked up


LAYERS = (
    ("config", "process", "exits", "interruption"), ("ops",), ("buckets",), ("models", "data"),
    ("training",), ("runs",), ("interop", "probes"), ("sweeps",), ("report",), ("cli",),
    ("notebook",),
)  # fmt: skip
"""Packages and modules, those first that the others are built upon."""

UPWARDS = {
    # A plan is refused where what it names is not there: weights to start from, and writers.
    ("training.start", "runs"),
    ("training.start", "runs.matching"),
    ("training.start", "runs.weights"),
    ("training.plan", "runs.events"),
}


def test_modules_import_what_they_are_built_upon_and_nothing_else():
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = set()
    for module, tree in MODULES.items():
        if module == "__init__":
            continue
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("resjax."):
                imported = node.module.removeprefix("resjax.")
                if rank[imported.split(".")[0]] > rank[module.split(".")[0]]:
                    found.add((module, imported))
    assert found == UPWARDS


def test_files_are_of_one_subject():
    """Except for tables, and the network that a paper's names make."""
    long = {
        name
        for name in MODULES
        if len((PACKAGE / f"{name.replace('.', '/')}.py").read_text().splitlines()) > 350
    }
    assert long <= {"config.keys", "models.networks"}
