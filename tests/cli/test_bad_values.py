"""Every option of every command, with every kind of wrong value: refused in a line, with no trace.

The options are those that the parsers have, and the values are chosen by the type of an option, so
that a new option is in here by itself.
"""

import io
import os
import stat
import unicodedata
from contextlib import redirect_stderr, redirect_stdout

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from resjax.cli import parsing
from resjax.cli.arguments import command_parser, make_parser
from resjax.cli.commands import COMMANDS
from resjax.cli.main import main
from resjax.config import default_config
from resjax.config.keys import KEYS
from resjax.interop.exporting import export_file
from resjax.models.build import build_model
from resjax.models.trace import variable_shapes
from resjax.runs import weights
from tests.report.fabricate import write_run

TEXTS = {
    "empty": "", "blank": "  ", "NUL": "a\0b", "control": "\x1b[2J\r\x07", "line": "two\nlines",
    "markup": "[red]x[/red] [/]", "unicode": "日本é\u202e", "no UTF-8": os.fsdecode(b"\xff\xfe"),
    "long": 300 * "x", "longer": 5000 * "y", "spaces": " a b ", "percent": "%s%d{}",
    "option": "-x", "quotes": "'\"`$(x)", "comma": ",,", "colon": "::", "brackets": "[:",
    "equals": "==",
}  # fmt: skip
"""That name nothing."""

PATHS = TEXTS | {
    "user": "~nobody-at-all/x", "bucket": "gs://bucket/x", "missing": "missing/x",
    "file": "file", "folder": "folder", "below a file": "file/x", "dangling": "dangling",
    "loop": "loop", "below a loop": "loop/x", "device": "/dev/null", "root": "/", "here": ".",
    "run": "run", "cut image": "cut.png", "no image": "text.png", "no weights": "text.safetensors",
    "empty weights": "empty.safetensors", "cut weights": "cut.safetensors", "experiment": "mine.py",
}  # fmt: skip

NUMBERS = TEXTS | {
    "nan": "nan", "inf": "inf", "minus": "-1", "minus inf": "-inf", "half": "0.5e", "power": "1e",
    "hexadecimal": "0x10", "huge": "99999999999", "very huge": 5000 * "9", "sign": "+-1",
    "underscore": "_1", "fraction": "½", "superscript": "²", "zeros": "-000",
    "zero of another script": "\u0660",
}  # fmt: skip

SWITCHES = {"a value": "yes", "no value": ""}

VALUES = {
    parsing.path: PATHS,
    parsing.path_or_address: PATHS,
    parsing.filled: TEXTS,
    parsing.whole: NUMBERS | {"zero": "0"},
    parsing.count: NUMBERS,
    parsing.pixels: NUMBERS | {"zero": "0"},
    parsing.seconds: NUMBERS | {"zero": "0"},
    parsing.wholes: NUMBERS | {"zero": "0", "one of two": "1,0"},
    int: NUMBERS | {"zero": "0"},
    None: TEXTS,
}
"""By the type of an option."""

NO_BATCH = "--config.train.batch_size=9999999"
"""Whatever else is right, this is refused, and after all that is read."""

BASES = {
    # What is said beside the option in question, with which nothing heavy is done.
    "train": ["--config=mine.py", "--workdir=new", NO_BATCH],
    "sweep": ["--config=mine.py", "--workdir=new", NO_BATCH],
    "bench": ["--config=mine.py", NO_BATCH],
    "describe": ["resnet18", "--config.model.order=no"],
    "status": ["missing"],
    "report": ["missing"],
    "doctor": ["missing"],
    "probe": ["run"],
    "import": ["text.safetensors", "--out=new"],
    "export": ["text.safetensors", "--out=new.safetensors", "--names=timm"],
    "evaluate": ["net.safetensors", "--split=no"],
    "predict": ["net.safetensors", "text.png"],
    "prepare": ["imagenet2012", "--data-dir=folder"],
    "init": ["1"],
    "keys": ["dash"],
    "completion": ["dash"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A directory with what paths can lead to; what is in it, a case must leave as it is."""
    world = tmp_path_factory.mktemp("world")
    for name in ("file", "text.png", "text.safetensors"):
        (world / name).write_text("text")
    (world / "empty.safetensors").touch()
    (world / "folder").mkdir()
    (world / "dangling").symlink_to("nowhere")
    (world / "loop").symlink_to("loop")
    (world / "mine.py").write_text("from resjax.config import default_config as get_config\n")
    (world / "bare.py").write_text("1\n")
    write_run(world, "run", 0.1)
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(image).save(world / "image.png")
    (world / "cut.png").write_bytes((world / "image.png").read_bytes()[:-100])
    write_network(world / "net.safetensors", depth=8, width=2)
    write_network(world / "wide.safetensors", depth=20, identity_pad="both")
    export_file(
        weights.read_weights(world / "wide.safetensors"), world / "theirs.safetensors", "akamaster"
    )
    (world / "cut.safetensors").write_bytes((world / "net.safetensors").read_bytes()[:-100])
    return world


def write_network(path, **model):
    config = default_config()
    config.model.update(model)
    config.data.name = "fake:32x32x3:10"
    shape = (32, 32, 3)
    leaves = weights.paths(variable_shapes(build_model(config, 10), shape))
    tensors = {name: np.ones(leaf.shape, np.float32) for name, leaf in leaves.items()}
    about = weights.About(config, tuple("abcdefghij"), shape)
    mean, deviation = np.zeros(3, np.float32), np.ones(3, np.float32)
    weights.write_weights(path, weights.Weights(about, weights.unflatten(tensors), mean, deviation))


def tree(directory):
    """All that is in a directory: files with their bytes, links with where they lead."""
    found = {}
    for path in sorted(directory.rglob("*")):
        mode = path.lstat().st_mode
        content = os.readlink(path) if path.is_symlink() else None
        if stat.S_ISREG(mode):
            content = path.read_bytes()
        found[path.relative_to(directory)] = mode, content
    return found


UNSEEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Categories of letters that move a cursor, end a line, or are none."""


def faults(cases, world):
    """What is wrong with how some command lines end, and how many there were."""
    before, wrong, number = tree(world), [], 0
    for words in cases:
        number += 1
        with redirect_stderr(io.StringIO()) as told, redirect_stdout(io.StringIO()) as printed:
            try:
                code = main(list(words))
            except SystemExit as left:
                code = left.code
            except Exception as error:
                code = repr(error)
        error, output = told.getvalue(), printed.getvalue()
        lines = error.count("\n")
        whole = error.startswith("resjax: ") and error.endswith("\n") and len(error) < 1500
        shown = not {unicodedata.category(letter) for letter in error[:-1]} & UNSEEN
        if code not in (1, 2) or lines != 1 or output or not whole or not shown:
            wrong.append((words, code, error[:300], output[:100]))
        if (after := tree(world)) != before:
            wrong.append((words, code, "left", sorted(after.items() ^ before.items())[:3]))
            before = after
    return wrong, number


def actions(command):
    """The options and arguments of a command that its parser has."""
    for action in command_parser(make_parser(), command)._actions:
        if not {"--help", "--config.KEY"} & {*action.option_strings}:
            yield action


def said(action, value, base):
    """The words of a base in which an option has a value."""
    if not action.option_strings:
        return [value, *(word for word in base if word.startswith("--"))]
    option = action.option_strings[-1]
    return [*(word for word in base if not word.startswith(f"{option}=")), f"{option}={value}"]


RIGHT = {
    **dict.fromkeys((("status", "dir"), ("report", "dir"), ("doctor", "dir")), ("here", "run")),
    ("init", "name"): ("missing", "file", "folder", "dangling", "loop", "run", "device"),
    ("keys", "pattern"): ("spaces",),
}
"""Values that are not wrong; `init` adds a suffix to its names, `keys` searches for words."""


def cases(command):
    """Every option of a command with every value of its type, {what it is: words}."""
    for action in actions(command):
        values = SWITCHES if action.nargs == 0 else VALUES[action.type]
        if action.option_strings == ["--config"]:
            values = PATHS | {"no config": "bare.py", "an argument": "mine.py:cifar"}
        for name, value in values.items():
            if name not in RIGHT.get((command, action.dest), ()):
                yield [command, *said(action, value, BASES[command])]


@pytest.fixture
def within(world, monkeypatch):
    monkeypatch.chdir(world)
    return world


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_of_any_option_is_refused_in_a_line_and_leaves_nothing(command, within):
    """About 2,000 command lines over all commands."""
    wrong, number = faults(cases(command), within)
    assert not wrong
    assert number >= len(TEXTS)


def test_the_table_has_more_than_300_command_lines_and_all_commands():
    assert set(BASES) == set(COMMANDS)
    assert sum(len(list(cases(command))) for command in COMMANDS) > 1500


OUT_OF_REACH = (
    "file/x", "loop/x", "/dev/null/x", "/proc/none/x", "dangling/x", f"{300 * 'x'}/x", 5000 * "y",
    f"new/{300 * 'x'}", "a\0b", "~nobody-at-all/x", "gs://bucket/x", "",
)  # fmt: skip
"""Where nothing can be written, by whomever."""


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    ["train", "--config=mine.py", "--workdir={}"],
    ["sweep", "--config=mine.py", "--workdir={}", "--jobs=1"],
    ["bench", "--config=mine.py", "--trace={}", "--seconds=0.001"],
    ["describe", "resnet18", "--diagram={}"],
    ["export", "net.safetensors", "--out={}.stablehlo"],
    ["export", "net.safetensors", "--out={}.safetensors", "--names=akamaster"],
    ["import", "theirs.safetensors", "--out={}"],
    ["init", "{}"],
], ids=lambda words: words[0])  # fmt: skip
def test_what_cannot_be_written_is_refused_before_any_work(words, within):
    """With all else right; where a directory was made for a file that cannot be, it may stay."""
    lines = [[word.replace("{}", place) for word in words] for place in OUT_OF_REACH]
    wrong, _ = faults(lines, within)
    assert not wrong


@pytest.mark.slow
def test_hosts_that_cannot_be_are_refused_in_a_line(within):
    """Without waiting for them where they have no address; one that is silent is awaited."""
    start = ["train", "--config=mine.py", NO_BATCH]
    several = [*start, "--processes=2", "--process=1", "--connect-timeout=1"]
    ports = ("", ":", ":0", ":-1", ":65536", ":x", f":{5000 * '9'}", ":²", ":1 ")
    hosts = ("a..b", 300 * "x", "\x00", os.fsdecode(b"\xff"), "[red]", "日本", "127.0.0.1")
    lines = [[*several, f"--coordinator=node{port}"] for port in ports]
    lines += [[*several, f"--coordinator={host}:1"] for host in hosts]
    lines += [
        [*start, *(f"--{key}=1" for key in keys)]
        for keys in (["coordinator"], ["processes"], ["process"], ["process", "processes"])
    ]
    lines += [[*start, "--coordinator=a:1", "--processes=1", "--process=1"]]
    wrong, _ = faults(lines, within)
    assert not wrong


@pytest.mark.parametrize(("name", "value"), [
    *(("TFDS_DATA_DIR", value) for value in ("~nobody-at-all/x", "gs://x/y", "file", "loop/x",
                                             os.fsdecode(b"\xff"), 5000 * "x", "[red]")),
    ("SLURM_STEP_NUM_TASKS", "two"), ("SLURM_STEP_NUM_TASKS", 5000 * "9"),
    ("OMPI_COMM_WORLD_SIZE", "x"), ("MEGASCALE_NUM_SLICES", "1.5"),
])  # fmt: skip
def test_an_environment_that_makes_no_sense_is_refused_in_a_line(name, value, within, monkeypatch):
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "0")
    monkeypatch.setenv(name, value)
    words = ["train", "--config=mine.py", "--workdir=new", "--config.data.name=cifar10"]
    wrong, _ = faults([words], within)
    assert not wrong


WORDS = (
    *TEXTS.values(), "nan", "inf", "-inf", "1e400", "1e-320", "-0.0", "(1,2)", "(2,1)", "('a',)",
    "(nan,nan)", "(1e400,1e400)", "()", "[1]", "{}", "None", "True", "1j", "0x10", "1_0", "-1",
    "0", "1", "0.5", "1e9", 30 * "9", 5000 * "9", 5000 * "(", "b'x'", "__import__('os')",
    "lambda:0", "1 steps", "1e9 epochs", "nan epochs", "101%", "train[", "train[:0]",
    "train[50%:40%]", "folder:", "folder:file", "folder:folder", "folder:loop", "tfds:",
    "tfds:../x", "tfds:x/y:z", "fake:0x0x0:0", "fake:9999999x99999x3:10", "shapes:2", "zeros",
    "none", "identity", "auto", "all",
)  # fmt: skip
"""Values of keys: most are wrong for most of them."""

SOMEWHERE_ELSE = ("train", "--config=mine.py", "--workdir=.")
"""A run that is refused whatever its config says, and after that: there is one in the directory."""


@pytest.mark.slow
@settings(max_examples=400, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    overrides=st.lists(
        st.tuples(st.sampled_from(list(KEYS)), st.sampled_from(WORDS) | st.text(max_size=20)),
        min_size=1, max_size=3,
    ),
    words=st.sampled_from([
        SOMEWHERE_ELSE, ("bench", "--config=mine.py", NO_BATCH),
        ("describe", "--config=mine.py", NO_BATCH),
        ("import", "theirs.safetensors", "--out=run"), ("evaluate", "net.safetensors", "--data=no"),
        ("predict", "net.safetensors", "text.png"), ("export", "net.safetensors", "--out=x"),
    ]),
)  # fmt: skip
def test_400_settings_of_any_keys_are_refused_in_a_line(overrides, words, within):
    """By what they are, or by what else is wrong with the command; none is heavy, nor a fault."""
    given = [f"--config.{key}={value}" for key, value in overrides]
    if NO_BATCH in words and any(key == "train.batch_size" for key, _ in overrides):
        words = SOMEWHERE_ELSE
    wrong, _ = faults([[*words, *given]], within)
    assert not wrong


LINES = (
    "import {}", "from . import {}", "raise {}", "{} = {}", "del {}", "exit()", "\0", "\ufeff",
    "def get_config({}):", "    return {}", "    yield {}",
    "class get_config: {}", "get_config = {}", "get_config = lambda *x: {}", "assert {}", "(" * 300,
    "def sweep_{}(config):", "from resjax.config import default_config as get_config",
    "import sys; sys.exit({})", "import os; os.abort", "while False: {}", "import resjax.{}",
    "from resjax.models.shortcuts import SHORTCUTS; SHORTCUTS[{}] = {}", "# coding: {}",
)  # fmt: skip

FILLS = (
    "x",
    "None",
    "1",
    "''",
    "{}",
    "lambda: x",
    "int",
    "object()",
    "1/0",
    "()",
    "...",
    "latin-1",
)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    content=st.binary(max_size=40)
    | st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(FILLS)), max_size=5).map(
        lambda lines: "\n".join(line.replace("{}", fill) for line, fill in lines).encode()
    ),
    words=st.sampled_from([
        SOMEWHERE_ELSE, ("sweep", NO_BATCH, "--dry-run"), ("bench", NO_BATCH),
        ("describe", NO_BATCH), ("evaluate", "net.safetensors", "--data=no"), ("probe", "run"),
        ("predict", "net.safetensors", "text.png"), ("export", "net.safetensors", "--out=x"),
    ]),
)  # fmt: skip
def test_300_experiment_files_are_refused_in_a_line(content, words, within, shortcuts):
    """By any command that takes one."""
    (within / "theirs.py").write_bytes(content)
    words = [word for word in words if not word.startswith("--config=")]
    wrong, _ = faults([[*words, "--config=theirs.py"]], within)
    assert not wrong
