"""Sweeps that cannot be run: each ends with exit code 2 and one line, and writes nothing."""

import gc
import importlib
import shutil
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from resjax.cli.main import main
from resjax.config import ConfigError
from resjax.runs.rundir import DONE, FAILED, run_state
from resjax.runs.summary import read_summary
from resjax.sweeps.experiment import load_experiment
from tests.report.fabricate import write_run

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

BEGINNING = "from resjax.config import default_config as get_config\n"


def refused(words, capsys):
    """The line that a sweep ends with."""
    assert main(["sweep", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("resjax: ")
    assert told.err.count("\n") == 1
    return told.err


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--jobs=1"]], ids=str)
@pytest.mark.parametrize(("axes", "message"), [
    ("def sweep_depth():\n    yield {'model.dpth': 8}\n",
     "an axis sets unknown key 'model.dpth'; nearest: model.depth"),
    ("def sweep_depth():\n    yield {'model.depth': 8}\n"
     "def sweep_seed():\n    yield from ()\n",
     "the grid is empty: an axis has no points"),
    ("def sweep_depth():\n    yield {'model.depth': 8}\n"
     "def sweep_size():\n    yield {'model.depth': 14, 'model.width': 8}\n",
     "axes 'depth' and 'size' both set model.depth; leave one out with --sweep=size"),
    ("def sweep_depth():\n    yield {'model.depth': 'deep'}\n",
     "an axis sets {'model.depth': 'deep'}"),
    ("def sweep_depth():\n    yield 8\n",
     "sweep_depth() of the experiment must yield {dotted key: value}, not 8"),
    *((f"def sweep_depth():\n    yield {{{key}: 8, 'seed': 1}}\n",
       "sweep_depth() of the experiment must yield {dotted key: value}")
      for key in ("8", "None", "('model', 'depth')", "b'model.depth'")),
    *((f"def sweep_rate():\n    yield {{'{key}': {value}}}\n", f"{key}={value} is not ")
      for key, value in (("optim.learning_rate", None), ("model.depth", 0), ("seed", -1))),
    ("async def sweep_depth():\n    return [{'model.depth': 8}]\n",
     "sweep_depth() of the experiment is asynchronous; write def instead of async def"),
    ("async def sweep_depth():\n    yield {'model.depth': 8}\n",
     "sweep_depth() of the experiment is asynchronous; write def instead of async def"),
    ("def sweep_rate():\n    yield {'train.duration': 3}\n",
     "an axis sets {'train.duration': 3}: TypeError"),
])  # fmt: skip
def test_axes_of_an_experiment_that_make_no_grid(tmp_path, axes, message, how, capsys):
    path = tmp_path / "experiment.py"
    path.write_text(BEGINNING + axes)
    words = [f"--config={path}", f"--workdir={tmp_path / 'runs'}", *how]
    assert message in refused(words, capsys)
    assert not (tmp_path / "runs").exists()


def test_an_asynchronous_get_config_is_refused_and_never_called(tmp_path, capsys):
    path = tmp_path / "experiment.py"
    path.write_text("async def get_config():\n    raise SystemExit\n")
    with warnings.catch_warnings(record=True) as warned:
        told = refused([f"--config={path}"], capsys)
        gc.collect()  # where a coroutine that is not awaited would warn
    assert told.endswith("is asynchronous; write def instead of async def\n")
    assert not warned


@pytest.mark.parametrize(("words", "message"), [
    (["--axis=model.dpth=8"], "unknown config key 'model.dpth'; nearest: model.depth"),
    (["--axis=model.depth="], "is not KEY=VALUE,VALUE"),
    (["--axis=model.depth=8,20"], "axes 'depth' and 'model.depth' both set model.depth"),
    (["--config.model.depth=8"], "--config.model.depth has no effect: axis 'depth' sets it"),
    (["--sweep=deepth"], "no axis 'deepth' in this experiment; nearest: depth"),
    (["--only=shortcut=scaled"], "leaves no run; model.shortcut is"),
    (["--only=shortcut=dense"], "unknown model.shortcut 'dense'; choose one of: none"),
    (["--seeds=0"], "--seeds='0' is not a positive number"),
    (["--seeds=10001"], "--seeds=10001 is not a number from 1 to 10000"),
    (["--only=depth=9"], "--only depth=9 leaves no run; model.depth is 8, 20, 56"),
    (["--json"], "--json is for --dry-run; add that, or use resjax status --json"),
])  # fmt: skip
def test_axes_of_the_command_line_that_make_no_grid(tmp_path, words, message, capsys):
    words = [f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'runs'}", *words]
    assert message in refused(words, capsys)
    assert not (tmp_path / "runs").exists()


def test_a_cluster_that_cannot_be_reached_ends_the_command_in_a_line(tmp_path, capsys, monkeypatch):
    cluster = pytest.importorskip("resjax.sweeps.ray.cluster")
    words = [f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'runs'}", "--launcher=ray"]
    refusal = refused([*words, "--address=127.0.0.1:1"], capsys)
    assert "--address=127.0.0.1:1 cannot be reached (Connection refused); start it" in refusal

    def connect(place, timeout):
        raise TimeoutError(f"{place} {timeout}")

    monkeypatch.setattr(cluster.socket, "create_connection", connect)
    refusal = refused([*words, "--address=10.1.2.3:6379"], capsys)
    assert "cannot be reached (no answer within 10 s)" in refusal
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_run_that_fails_is_left_with_its_traceback_and_the_others_end(
    tmp_path, capsys, monkeypatch
):
    trained = []

    def train(run):
        trained.append(run.directory)
        if seed := run.plan.config.seed:
            made = write_run(tmp_path / "made", run.directory.name, 0.1, seed=seed)
            shutil.copytree(made, run.directory, dirs_exist_ok=True)
            return {run.directory: read_summary(run.directory)}
        raise MemoryError("of the device")

    monkeypatch.setattr("resjax.runs.together.fit", train)
    words = ["sweep", f"--config={EXPERIMENT}", f"--workdir={tmp_path / 'runs'}", "--sweep=seed",
             "--seeds=2"]  # fmt: skip
    assert main(words) == 1
    failed, done = trained
    assert (run_state(failed), run_state(done)) == (FAILED, DONE)
    assert "failed: MemoryError: of the device" in capsys.readouterr().err
    text = (failed / "error.txt").read_text()
    assert text.startswith("MemoryError: of the device\n\nTraceback")


@pytest.mark.parametrize(("body", "told"), [
    ("raise ValueError", "ValueError"),
    ("raise ValueError('a\\n\\x1b[2J[red]\\ud800')", "ValueError: a \\x1b[2J[red]\\ud800"),
    ("class Odd(Exception):\n    def __str__(self): return 3\nraise Odd", "Odd"),
    ("class Odd(Exception):\n    def __str__(self): raise Odd\nraise Odd", "Odd"),
    ("raise GeneratorExit", "GeneratorExit"),
    ("import sys; sys.exit()", "SystemExit"),
    ("import sys; sys.exit(0)", "SystemExit: 0"),
    ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
    ("raise StopIteration", "StopIteration"),
], ids=range(9))  # fmt: skip
@pytest.mark.parametrize(
    "place", ["", "def get_config():", "def sweep_x():", "class Mine(Identity):"]
)
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_whatever_an_experiment_raises_is_told_in_a_line(
    tmp_path, capsys, shortcuts, body, told, place, command
):
    method = place.startswith("class")
    if place:
        body = textwrap.indent(body, "    ")
        if place == "def sweep_x():":
            body += "\n    yield {}"
        if method:
            body = "    def __call__(self, *x, **given):\n" + textwrap.indent(body, "    ")
    path = tmp_path / "experiment.py"
    path.write_text(
        "from resjax.config import default_config\n"
        "from resjax.models.shortcuts import SHORTCUTS, Identity\n"
        + (
            "def get_config():\n    return default_config()\n"
            if place != "def get_config():"
            else ""
        )
        + f"{place}\n{body}\n"
        + ("SHORTCUTS['mine'] = Mine\n" if method else "")
    )
    words = [f"--config={path}", f"--workdir={tmp_path / 'runs'}"]
    words += ["--config.model.shortcut=mine", "--config.model.depth=8"] if method else []
    if place == "def sweep_x():" and (command == "train" or "StopIteration" in told):
        pytest.skip("no axis is made, or none is wrong")
    code = main([command, *words])
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert f"{told}\n" in error
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("resjax: ")
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


OWN = """
from resjax.models.shortcuts import SHORTCUTS, Identity

class Mine(Identity):
    ...

{line}
"""


def experiment(path, line):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BEGINNING + OWN.format(line=line))
    return path


@pytest.mark.parametrize("line", [
    "SHORTCUTS['identity'] = Mine",
    "SHORTCUTS.update(mine=Mine, identity=Mine)",
    "SHORTCUTS['identity'] = Mine; raise NameError('identity')",
    "def get_config():\n    SHORTCUTS['identity'] = Mine",
], ids=["set", "update", "fails", "get_config"])  # fmt: skip
def test_a_file_that_makes_a_known_shortcut_another_one_is_refused(
    tmp_path, shortcuts, line, capsys
):
    """Its runs would be named as those of the other one are; the table stays what it was."""
    before, path = dict(shortcuts), experiment(tmp_path / "mine.py", line)
    told = refused([f"--config={path}", f"--workdir={tmp_path / 'runs'}"], capsys)
    assert "identity" in told
    if "raise" not in line:
        assert f"{path} replaces model.shortcut 'identity' of resjax" in told
        assert told.endswith("give its own another name, such as my_identity\n")
    assert shortcuts == before
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("name", "value"), [
    ("'mine'", "3"), ("'mine'", "..."), ("'mine'", "lambda *x: x"), ("'mine'", "int"),
    ("'mine'", "None"), ("'mine'", "''"), ("1", "Mine"), ("None", "Mine"), ("('a',)", "Mine"),
])  # fmt: skip
def test_a_file_that_adds_what_is_no_shortcut_is_refused(tmp_path, shortcuts, name, value, capsys):
    before, path = dict(shortcuts), experiment(tmp_path / "mine.py", f"SHORTCUTS[{name}] = {value}")
    words = [f"--config={path}", f"--workdir={tmp_path / 'runs'}", "--config.model.shortcut=mine"]
    told = refused(words, capsys)
    assert f" as model.shortcut {name}, and not a Flax module" in told
    assert shortcuts == before


def test_a_file_may_add_its_shortcut_again_and_another_file_may_not(tmp_path, shortcuts):
    first, second = (
        experiment(tmp_path / name / "mine.py", "SHORTCUTS['mine'] = Mine") for name in "ab"
    )
    for _ in range(2):
        module, _ = load_experiment(str(first))
        assert shortcuts["mine"] is module.Mine
    with pytest.raises(ConfigError, match=f"b/mine.py replaces model.shortcut 'mine' of {first}"):
        load_experiment(str(second))
    assert shortcuts["mine"] is module.Mine
    experiment(second, "SHORTCUTS['yours'] = Mine")
    theirs, _ = load_experiment(str(second))
    again, _ = load_experiment(f"{first.parent}/../a/mine.py")
    assert (shortcuts["mine"], shortcuts["yours"]) == (again.Mine, theirs.Mine)


@pytest.fixture
def modules(monkeypatch):
    """What is imported, and from where; what a test adds is taken back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]


@pytest.mark.usefixtures("modules")
def test_an_experiment_may_return_a_frozen_config(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import FrozenConfigDict\n"
        "from resjax.config import default_config\n"
        "def get_config():\n"
        "    return FrozenConfigDict(default_config())\n"
        "def sweep_depth():\n"
        "    yield {'model.depth': 8}\n"
    )
    words = [f"--config={path}", "--config.optim.milestones=('40%',)", "--dry-run"]
    assert main(["sweep", *words]) == 0
    assert "identity-8-seed0" in capsys.readouterr().out


def test_an_experiment_imports_the_modules_beside_it(tmp_path, shortcuts, monkeypatch):
    """Each its own, though they have the same names, and as they are when it is loaded."""
    monkeypatch.chdir("/")
    for directory, depth in (("one", 14), ("other", 26)):
        package = tmp_path / directory / "my_package"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "depths.py").write_text(f"DEPTH = {depth}\n")
        (tmp_path / directory / "my_width.py").write_text(f"WIDTH = {depth - 10}\n")
        (tmp_path / directory / "random.py").write_text("raise ImportError")  # Python's is there
        (tmp_path / directory / "mine.py").write_text(
            "from resjax.config import default_config\n"
            "from my_package.depths import DEPTH\n"
            "def get_config():\n"
            "    import random\n"
            "    from my_width import WIDTH\n"  # when it is called
            "    config = default_config()\n"
            "    config.model.depth, config.model.width = DEPTH, WIDTH\n"
            "    return config\n"
        )
    for directory, depth in (("one", 14), ("other", 26), ("one", 14), ("one", 14)):
        _, config = load_experiment(str(tmp_path / directory / "mine.py"))
        assert (config.model.depth, config.model.width) == (depth, depth - 10)


@pytest.mark.usefixtures("modules")
def test_an_error_of_a_module_beside_an_experiment_is_told_in_a_line(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(f"import my_helper\n{BEGINNING}")
    words = [f"--config={path}", f"--workdir={tmp_path / 'runs'}"]
    assert "ModuleNotFoundError: No module named 'my_helper'" in refused(words, capsys)
    (tmp_path / "my_helper.py").write_text("1 / 0\n")
    assert "ZeroDivisionError: division by zero" in refused(words, capsys)


def test_a_file_that_python_has_imported_may_add_its_shortcut(tmp_path, shortcuts, monkeypatch):
    path = experiment(tmp_path / "imported_mine.py", "SHORTCUTS['mine'] = Mine")
    monkeypatch.syspath_prepend(tmp_path)
    imported = importlib.import_module(path.stem)
    assert shortcuts["mine"] is imported.Mine
    module, _ = load_experiment(str(path))
    assert shortcuts["mine"] is module.Mine


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_an_experiment_file_is_read_as_python_reads_it(encoding, tmp_path):
    """With a byte order mark, the ends of lines of Windows, or an encoding that it names."""
    text = "# coding: latin-1\r\n" * (encoding == "latin-1") + (
        'from resjax.config import default_config as get_config\r\nNAME = """Müs\r\nli"""\r\n'
    )
    (tmp_path / "mine.py").write_bytes(text.encode(encoding))
    module, _ = load_experiment(str(tmp_path / "mine.py"))
    assert module.NAME == "Müs\nli"
