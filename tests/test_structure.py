"""What the source code of resjax promises to who reads it."""

import ast
import json
import os
import re
import subprocess
import sys
import traceback
from collections import defaultdict
from pathlib import Path

import pytest

import resjax
from resjax.cli.main import main
from resjax.training.losses import LOSSES, cross_entropy

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


@pytest.mark.parametrize("package", ["data", "interop"])
def test_a_package_that_lists_its_modules_lists_them_all(package):
    modules = {name.rpartition(".")[2] for name in MODULES if name.startswith(f"{package}.")}
    listed = re.findall(r"\w+", ast.get_docstring(MODULES[f"{package}.__init__"]))
    assert modules - {*listed, "__init__"} == set()


FRAGMENTS = {
    "also", "and", "as", "at", "because", "but", "by", "for", "from", "how", "if", "in", "nor",
    "not", "of", "on", "only", "or", "since", "so", "than", "that", "though", "to", "unless",
    "until", "what", "when", "where", "whether", "which", "while", "who", "whom", "whose", "why",
    "with", "without",
}  # fmt: skip
"""First words of texts that are neither a noun phrase nor a sentence with a verb in front."""


def public_docstrings(tree, place):
    """Yields (place, docstring) of a module and all public things in it, documented values too."""
    if text := ast.get_docstring(tree):
        yield place, text
    for before, node in zip([None, *tree.body], tree.body, strict=False):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            if not node.name.startswith("_"):
                yield from public_docstrings(node, f"{place}.{node.name}")
        elif isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(node, ast.Expr):
            name = ast.unparse(getattr(before, "target", None) or before.targets[0])
            if isinstance(node.value, ast.Constant) and not name.startswith("_"):
                yield f"{place}.{name}", node.value.value


def is_fragment(text):
    words = text.split()
    return len(words) < 2 or words[0].lower().strip(",:;") in FRAGMENTS


def test_docstrings_begin_with_a_noun_or_a_verb():
    trees = MODULES | {
        f"experiments.{path.stem}": ast.parse(path.read_text("utf-8"))
        for path in sorted((PACKAGE.parent / "experiments").glob("*.py"))
    }
    texts = dict(text for name, tree in trees.items() for text in public_docstrings(tree, name))
    assert len(texts) > 1000
    fragments = {place: text for place, text in texts.items() if is_fragment(text)}
    assert len(fragments) < 0.02 * len(texts), fragments
    assert is_fragment("Whether it is.")
    assert is_fragment("Everywhere.")
    assert not is_fragment("Tells whether it is.")


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
    assert len([name for name in loaded if name.startswith("resjax")]) <= 18
    assert "jax" not in loaded


def test_names_of_tables_are_known_without_jax():
    loaded = loaded_by(
        "from resjax.config.keys import KEYS; from resjax.config import default_config; "
        "from resjax.config.validation import validate; "
        "config = default_config(); config.model.shortcut = 'plain'; config.norm.kind = 'group'; "
        "config.eval.probes = 'paths, gates'; config.data.name = 'folder:x'; validate(config); "
        "assert 'scaled' in KEYS['model.shortcut'].choices"
    )
    assert not {"jax", "numpy", "resjax.models"} & set(loaded)


@pytest.mark.parametrize("name", sorted(resjax.PUBLIC))
def test_a_public_name_is_there_when_it_is_used(name):
    assert getattr(resjax, name).__doc__
    assert name in dir(resjax)


def test_another_name_is_none_of_resjax():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        resjax.trian  # noqa: B018 - it is looked up


LAYERS = (
    ("config", "files", "accelerators", "job", "process", "exits", "interruption", "waits"),
    ("ops",), ("buckets",), ("models", "data"),
    ("training",), ("probes",), ("runs",), ("interop",), ("sweeps",), ("report",), ("cli",),
    ("notebook",), ("__main__",),
)  # fmt: skip
"""Packages and modules, those first that the others are built upon."""


def test_modules_import_what_they_are_built_upon_and_nothing_else():
    """Wherever in a module it imports."""
    rank = {name: number for number, names in enumerate(LAYERS) for name in names}
    upwards = {
        (module, f"{node.module}.{alias.name}")
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "resjax"
        for alias in node.names
        if rank.get(f"{node.module}.{alias.name}".split(".")[1], 0) > rank[module.split(".")[0]]
    }
    assert upwards == set()


def test_names_of_files_that_are_being_written_are_made_in_one_place():
    """Whose names no two processes share."""
    made = {
        module
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr) and ast.unparse(node).rstrip("'\"").endswith(".partial")
    }
    assert made == {"files"}


CACHES = {
    "ops.native._load": "XLA keeps the kernels of a process once they are registered",
    "ops.interpreter._compiled": "JAX keeps a program as long as its function lives, and all "
    "networks draw their parameters by few",
    "models.trace._trace": "counts, shapes, tables and initial values of a network are one trace",
    "training.programs._transformed": "as there; runs of a sweep share their programs",
    "training.optim._rule": "runs share programs whose functions are the same",
    "training.benchmark._matrix_product_speed": "the peak of a device takes seconds to compile",
    "data.orders.by_epoch": "orders and mixing are pure functions of a step, and drawn by epoch",
}
"""Functions of modules that remember what they returned in this process, and why."""


AT_IMPORT = {
    "data.headers": "whatever process opens images needs the filter of Pillow's warnings, and to "
    "set it around each image would not be thread-safe",
    "data.random_crop": "grain's processes import the view that they are sent, and call no set_up",
}
"""Modules that change the process when they are imported, and why."""


def test_few_modules_change_the_process_when_they_are_imported():
    found = {
        module
        for module, tree in MODULES.items()
        for node in tree.body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)  # of another module; not a part made here
    }
    assert found == set(AT_IMPORT)


def test_few_functions_remember_what_they_returned():
    found = set()
    for module, tree in MODULES.items():
        for node in tree.body:
            source = ast.unparse(node)
            if isinstance(node, ast.FunctionDef):
                source = "".join(map(ast.unparse, node.decorator_list))
            elif isinstance(node, ast.ClassDef):
                source = ""  # an object remembers for itself
            if "functools.cache" in source or "lru_cache" in source:
                found.add(f"{module}.{getattr(node, 'name', source)}")
    assert found == set(CACHES)


def test_files_are_of_one_subject():
    """Except for the table of keys."""
    long = {
        name
        for name in MODULES
        if len((PACKAGE / f"{name.replace('.', '/')}.py").read_text().splitlines()) > 350
    }
    assert long == {"config.keys"}


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_the_way_from_the_command_to_the_loss_is_short(tmp_path):
    """A step of training is traced through few functions of ours; XLA alone needs one less."""
    ways = []

    def loss(logits, labels):
        ways.append([
            (Path(frame.filename).relative_to(PACKAGE), frame.name)
            for frame in traceback.extract_stack()
            if Path(frame.filename).is_relative_to(PACKAGE)
        ])  # fmt: skip
        return cross_entropy(logits, labels)

    LOSSES["watched"] = loss
    words = ["train.loss=watched", "model.depth=8", "model.width=2", "train.duration=1 steps"]
    command = ["train", "--config=experiments/degradation.py", f"--workdir={tmp_path / 'run'}"]
    assert main([*command, *(f"--config.{word}" for word in words)]) == 0
    way = next(way for way in ways if way[-1][1] == "loss_of")
    assert way[0] == (Path("cli/main.py"), "main")
    assert len(way) + 1 <= 12  # with the loss itself
    assert len({file for file, _ in way}) + 1 <= 8


LARGE = 200_000
"""Bytes of a tracked file from which on there must be a reason for it."""


def test_no_tracked_file_is_large_and_no_script_is_minified():
    """What others wrote comes with the packages that are installed."""
    root = PACKAGE.parent
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True)
    tracked = [root / name for name in listed.stdout.decode().split("\0") if name]
    tracked = [path for path in tracked if path.is_file()]
    assert PACKAGE / "report/assets/chart.js" in tracked
    assert [path for path in tracked if path.stat().st_size > LARGE] == []
    scripts = [path for path in tracked if path.suffix in (".js", ".mjs", ".cjs", ".css")]
    longest = {path: max(map(len, path.read_text("utf-8").splitlines())) for path in scripts}
    assert {path: length for path, length in longest.items() if length > 400} == {}
