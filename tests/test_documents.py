"""README and docs tell the truth: their Python runs as written, their commands are accepted."""

import re
import shlex
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from flax.traverse_util import flatten_dict

from resjax.cli import main as cli
from resjax.cli.arguments import make_parser, split
from resjax.cli.commands import report, sweep
from resjax.config import default_config, flatten
from resjax.data import sources
from resjax.models.blocks import ORDERS
from resjax.models.build import named_model
from resjax.models.shortcuts import SHORTCUTS
from resjax.models.trace import variable_shapes
from resjax.ops.cost import Kernel
from resjax.probes.table import PROBES
from resjax.runs import doctor, loop, scratch, status
from resjax.runs.probing import Probed
from resjax.runs.summary import Summary
from resjax.training import benchmark, hosts, roofline
from resjax.training.plan import make_plan
from tests.buckets.fixtures import made_ready

ROOT = Path(__file__).parents[1]
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if not path.match("add-*")]
ROOTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS = [*ROOTS, *PAGES]  # the guides, add-a-..., are tried as a whole elsewhere
TEXT = "\n".join(document.read_text() for document in DOCUMENTS)
KEYS = flatten(default_config())
SPEED = benchmark.Measurement(20, 128, 1, 1, 1.0, 1.0, (1.0, 1.0), 1.0, 1, 1, 1.0, 1.0, "cpu", 1)
SUMMARY = Summary(0.5, 1.0, 0.25, 1.0, 1, 1, 1, {"compile": 1.0, "train": 2.0, "eval": 0.5})
PROBED = Probed("none-8-seed0-00000000", "none", 20, (3,), 8, {})
NAMES = "status|sweep|train|report|describe|bench|prepare|doctor|probe|init|keys|completion"
COMMANDS = sorted(set(re.findall(rf"\bresjax (?:{NAMES}) [^`\n)]*", TEXT)))
WEIGHTS = sorted(set(re.findall(r"\bresjax (?:import|export|evaluate|predict) [^`\n]*", TEXT)))
PYTHON = [
    code
    for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    if "photos" not in code  # which test_parquet.py and test_folder.py run on images
]


@pytest.mark.parametrize("command", [*WEIGHTS, "resjax predict runs/resnet50 cat.jpg --top=3"])
def test_commands_on_weights_are_understood(command):
    options, experiment = split(shlex.split(command)[1:])
    assert make_parser().parse_args(options).command in command
    assert not experiment


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code, tmp_path, monkeypatch, shortcuts):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "document", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_accepted(command, monkeypatch, tmp_path, shortcuts, request):
    """Parsed and checked in full; the training itself is left to other tests."""
    checked = []
    if "gs://" in command:
        made_ready(request.getfixturevalue("gs"), monkeypatch)
        request.getfixturevalue("copies")
        monkeypatch.setattr(scratch, "cache_directory", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        loop, "train_and_evaluate", lambda config, *_: checked.append(config) or SUMMARY
    )
    for launcher in ("_work_here", "_work_on_ray", "_work_in_processes"):
        monkeypatch.setattr(sweep, launcher, lambda runs, *_: checked.append(runs) or 0)
    monkeypatch.setattr(report, "write_and_print", lambda *_, **__: checked.append(_) or tmp_path)
    monkeypatch.setattr(status, "look_in", lambda directory: checked.append(directory) or [])
    monkeypatch.setattr(doctor, "examine_all", lambda directory: checked.append(directory) or [])
    for name in ("resjax.cli.commands.doctor.runs_in", "resjax.runs.rundir.runs_in"):
        monkeypatch.setattr(name, lambda directory: checked.append(directory) or [])
    monkeypatch.setattr("resjax.cli.commands.probe.refuse_no_run", lambda directory: None)
    monkeypatch.setattr("webbrowser.open", checked.append)
    monkeypatch.setattr(
        benchmark, "measure_training", lambda config, *_: make_plan(config) and SPEED
    )
    monkeypatch.setattr(benchmark, "training_memory", lambda *_: 10**9)
    monkeypatch.setattr(roofline, "kernels_of", lambda *_: Counter([Kernel(0.0, "", 1.0)]))
    monkeypatch.setattr(roofline, "step_on_a_chip", lambda *_: checked.append(_))
    monkeypatch.setattr(hosts, "connect", lambda *_: None)
    monkeypatch.setattr(hosts, "require_platform", lambda platform: None)
    monkeypatch.setattr("resjax.runs.plans.find_start", lambda *_: None)
    load, archive = sources.load, "cifar:cifar-10-python.tar.gz"
    absent = ("cifar10", "imagenet2012", archive, "folder:photos", "shapes")  # or drawn for seconds
    monkeypatch.setattr(
        sources,
        "load",
        lambda name, request: load(*(("shapes:0:1000",) if name in absent else (name, request))),
    )
    monkeypatch.setattr("resjax.runs.probing.probe_run", lambda *_: checked.append(_) or PROBED)
    monkeypatch.setattr("resjax.report.probes.write_probed", lambda *_: [])
    prepared = SimpleNamespace(done="prepared", directory=tmp_path, examples={"train": 1})
    monkeypatch.setattr("resjax.data.prepare.prepare_set", lambda *_: checked.append(_) or prepared)
    command = re.sub(r"\$\w+", "0", command)
    words = [word.replace("=experiments", f"={ROOT}/experiments") for word in shlex.split(command)]
    monkeypatch.chdir(tmp_path)
    if "mine.py" in command:
        assert cli.main(["init", "mine"]) == 0
    assert cli.main(words[1:]) == 0
    silent = ("describe", "bench", "init", "keys", "completion")
    assert checked or words[1] in silent or "--dry-run" in words


def test_tables_name_what_there_is():
    for name in (*SHORTCUTS, *ORDERS, *PROBES):
        assert f"`{name}`" in TEXT
    groups = "|".join({key.partition(".")[0] for key in KEYS if "." in key})
    for key in re.findall(rf"`((?:{groups})\.[a-z_]+)`", TEXT):
        assert key in KEYS


def test_the_parameters_in_the_table_are_those_of_the_network():
    """Among them one that a mask by the number of axes takes for a kernel."""
    rows = re.findall(r"^\| `(\w+/[\w/]+)` \| `\[([\d, ]+)\]` \|", TEXT, re.MULTILINE)
    found = flatten_dict(variable_shapes(named_model("resnet18"), (64, 64, 3))["params"], sep="/")
    shapes = {path: tuple(map(int, shape.split(", "))) for path, shape in rows}
    assert shapes == {path: found[path].shape for path in shapes}
    assert {path for path in shapes if path.endswith("scale") and len(shapes[path]) > 1}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_and_files_exist(document):
    text = document.read_text()
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (document.parent / link).exists(), link
    for path in re.findall(r"`((?:resjax|experiments|tests|colab)/[\w./]+\.\w+)`", text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"python -m (tests\.[a-z_.]+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
