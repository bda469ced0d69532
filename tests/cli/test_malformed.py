"""Whatever is wrong with a command, it ends with exit code 2 and one line."""

import io
import string
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resjax.cli.main import main
from resjax.config import default_config, flatten
from resjax.config.keys import KEYS
from resjax.models.shortcuts import SHORTCUTS

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "degradation.py"

DEFAULTS = flatten(default_config())

TEXT = st.text(string.printable, max_size=20)
NAMES = st.text(string.ascii_lowercase + "._", min_size=1, max_size=15)


def override(key, value):
    return [f"--config.{key}={value}"]


@st.composite
def out_of_range(draw):
    key = draw(st.sampled_from(sorted(key for key, said in KEYS.items() if said.within)))
    lowest, highest = KEYS[key].within
    kind = type(DEFAULTS[key])
    beyond = draw(st.sampled_from([kind(lowest) - 1, kind(highest) * 2 + 1]))
    return override(key, beyond)


@st.composite
def wrong_type(draw):
    kinds = (int, float, bool)
    keys = sorted(key for key, value in DEFAULTS.items() if type(value) in kinds)
    key = draw(st.sampled_from(keys))
    return override(key, draw(NAMES.filter(lambda text: text not in ("inf", "nan", "t", "f"))))


def unknown_name():
    keys = ("model.shortcut", "model.name", "model.order", "norm.kind", "optim.name", "data.name",
            "optim.schedule", "train.parallel", "data.standardise", "eval.select")  # fmt: skip
    known = {"none", "mlp", "post", "batch", "sgd", "lars", "step", "shapes", *SHORTCUTS}
    return st.builds(
        override, st.sampled_from(keys), NAMES.map("x_".__add__).filter(lambda n: n not in known)
    )


def no_duration():
    keys = [key for key, said in KEYS.items() if said.duration and isinstance(said.default, str)]
    return st.builds(override, st.sampled_from(keys), TEXT.filter(lambda t: not t[:1].isdigit()))


def unknown_key():
    return st.builds(override, NAMES.filter(lambda name: name not in DEFAULTS), st.integers())


def unknown_option():
    return NAMES.filter(lambda n: not n.startswith("config")).map(lambda name: [f"--x{name}"])


def impossible_depth():
    return st.integers(3, 10_000).filter(lambda n: n % 6 != 2).map(
        lambda depth: override("model.depth", depth)
    )  # fmt: skip


MALFORMED = st.one_of(
    out_of_range(), wrong_type(), unknown_name(), no_duration(), unknown_key(), unknown_option(),
    impossible_depth(), st.just(["--workdir="]), TEXT.map(lambda text: [f"--workdir=gs://{text}"]),
)  # fmt: skip

COMMON = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def refused(words):
    """The one line that a command ends with."""
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()) as printed:
        code = main(words)
    error = told.getvalue()
    assert (code, printed.getvalue()) == (2, ""), (words, error)
    assert error.startswith("resjax: "), (words, error)
    assert error.count("\n") == 1, (words, error)
    assert error.endswith("\n")
    return error


@pytest.mark.slow
@settings(COMMON, max_examples=200)
@given(words=MALFORMED, command=st.sampled_from(["train", "sweep"]))
def test_200_malformed_commands(tmp_path, words, command):
    axes = ["--sweep=seed"] if command == "sweep" else []
    workdir = [f"--workdir={tmp_path / 'run'}"]
    refused([command, f"--config={EXPERIMENT}", *axes, *workdir, *words])
    assert list(tmp_path.iterdir()) == [], words


SNIPPETS = (
    "def get_config({}):\n", "    return {}\n", "raise {}('{}')\n", "import {}\n", "{} = {}\n",
    "def get_config(arg=None):\n    return {}\n", "def sweep_{}():\n    yield {}\n", "{}\n",
)  # fmt: skip


@pytest.mark.slow
@settings(COMMON, max_examples=100)
@given(lines=st.lists(st.sampled_from(SNIPPETS), max_size=4), fills=st.lists(NAMES | TEXT))
def test_100_malformed_experiments(tmp_path, lines, fills):
    import itertools

    endless = itertools.cycle(fills or ["x"])
    text = "".join(line.format(next(endless), next(endless)) for line in lines)
    path = tmp_path / "experiment.py"
    path.write_text(text, encoding="utf-8", errors="replace")
    refused(["sweep", f"--config={path}", f"--workdir={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["report", "doctor"])
@settings(COMMON, max_examples=20)
@given(content=st.binary(max_size=60), name=st.sampled_from(["config.json", "result.json"]))
def test_files_that_are_no_run_s(tmp_path, command, content, name):
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    for path in run.iterdir():
        path.unlink()
    (run / name).write_bytes(content)
    with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()):
        code = main([command, str(tmp_path)])
    assert code in (0, 1, 2)
    assert "Traceback" not in told.getvalue()
