"""The command line as a person meets it: its help, what it says of a slip, its lines."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import resjax
from resjax import exits
from resjax.cli.arguments import command_parser, make_parser
from resjax.cli.commands import COMMANDS
from resjax.cli.main import main
from resjax.cli.terminal.lines import wrapped
from tests.report.fabricate import write_run, write_sweep


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_fits_into_80_columns(name, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    lines = help_of(capsys, *name.split()).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: resjax {name}".rstrip())
    assert any(line == "examples:" for line in lines)
    assert lines[-1].startswith(f"  resjax {name}".rstrip())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_its_line_of_help(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, name)
    for action in command_parser(make_parser(), name)._actions:
        assert action.help, action
        for option in action.option_strings:
            assert re.search(rf"^  .*{re.escape(option)}\b.*  +\S", text, re.MULTILINE), option
    assert not re.search(r"^ {20,}\S", text, re.MULTILINE), text  # none goes on in another line


def test_the_help_has_every_command_in_a_line_and_every_exit_code(capsys):
    text = help_of(capsys)
    for name, command in COMMANDS.items():
        assert f"\n  {name:12}{command.summary}\n" in text
    for name, code in vars(exits).items():
        if name.startswith("EXIT_"):
            assert re.search(rf"^  {code} +\w", text, re.MULTILINE), name


@pytest.mark.parametrize(("words", "message"), [
    ([], "no command given; start with resjax init mine, or see resjax --help"),
    (["swep"], "unknown command 'swep'; nearest: sweep"),
    (["xyz"], "unknown command 'xyz'; known: train, sweep, "),
    (["--verison"], "unknown option --verison; nearest: --version; see resjax --help"),
    (["--seeds=3"], "unknown option --seeds; known: -h, --help, --version; see resjax --help"),
    (["help", "swep"], "unknown command 'swep'; nearest: sweep"),
    (["sweep", "--seed=3"], "unknown option --seed; use --seeds=3; see resjax sweep --help"),
    (["bench", "--depth", "20"], "unknown option --depth; use --depths; see resjax bench --help"),
    (["train", "--seeds=2"], "--seeds; it is an option of resjax sweep; see resjax train --help"),
    (["train", "--optim.lr=0.1"], "unknown option --optim.lr; use --config.optim.learning_rate;"),
    (["sweep", "--learning-rate=0.1"], "--learning-rate; use --config.optim.learning_rate;"),
    (["sweep", "--seeds=1,2"], "--seeds='1,2' is not a positive number; see resjax sweep --help"),
    (["sweep", "--seeds=0"], "--seeds='0' is not a positive number; see resjax sweep --help"),
    (["sweep", "--seeds"], "--seeds has no value; write --seeds=VALUE; see resjax sweep --help"),
    (["completion", "tcsh"], "unknown shell 'tcsh'; choose one of: bash, zsh, fish; see "),
    *(([command, "runs/x", "--config.seed=1"], "unknown option --config.seed; known: -h, --help, ")
      for command in ("report", "status", "doctor")),
    (["probe", "runs/x", "--config.seed=1"], "unknown option --config.seed; nearest: --config"),
    (["report", "runs/x", "--config=mine.py"], "unknown option --config; known: -h, --help, "),
    (["sweep", "--sedes=3"], "unknown option --sedes; nearest: --seeds"),
    (["sweep", "--confg=mine.py"], "unknown option --confg; nearest: --config"),
    (["train", "--depth", "8"], "unknown option --depth; use --config.model.depth; see resjax tr"),
    (["train", "--batch-size=8"],
     "unknown option --batch-size; use --config.train.batch_size or --config.eval.batch_size"),
    (["train", "--model.depth=8"], "unknown option --model.depth; use --config.model.depth"),
    (["status", "runs", "--depth=8"], "unknown option --depth; known: -h, --help, "),
    (["status", "runs", "more"], "unknown argument 'more'; see resjax status --help"),
    (["sweep", "mine.py"], "unknown argument 'mine.py'; use --config=mine.py; see resjax sweep"),
    (["status"], "the following arguments are required: DIR; see resjax status --help"),
    (["sweep", "--launcher=rai"], "unknown --launcher 'rai'; choose one of: local, ray; see"),
    (["sweep"], "no experiment given; use one --config=FILE"),
    (["train", "--config=experiments/degradation.py", "--config.model.dpth=8"],
     "unknown config key 'model.dpth'; nearest: model.depth"),
    (["train", "--config=experiments/degradation.py", "--config.zzz=8"],
     "unknown config key 'zzz'; nearest: "),
    (["train", "--config=experiments/degradation.py", "--config.model.depth=abc"],
     "model.depth=abc is not a number of layers, such as 56"),
    (["train", "--config=experiments/degradation.py", "--config.optim.nesterov=perhaps"],
     "optim.nesterov=perhaps is not True or False"),
    (["train", "--config=experiments/degradation.py", "--config.model.depth", "--workdir=y"],
     "--config.model.depth has no value; write --config.model.depth=VALUE"),
    (["train", "--config", "experiments/degradation.py", "--config.model.depth", "8",
      "--config.model.width=x"], "model.width=x is not a number of channels, such as 16"),
    (["train", "--config=experiments/degradation.py", "--config.model.depth"],
     "--config.model.depth has no value"),
    (["train", "--config"], "--config has no value; write --config=VALUE"),
    (["train", "--config=experiments/degradation.py", "--config.data.flip", "--wrkdir=y"],
     "unknown option --wrkdir; nearest: --workdir"),
    (["bench", "--config=experiments/degradation.py", "--trace=README.md/x", "--depths=8"],
     "cannot write to README.md/x: Not a directory"),
    *((["bench", "--config=experiments/degradation.py", f"--seconds={text}"],
       f"'{text}' is not a number of seconds") for text in ("nan", "-1", "inf", "0", "x")),
    (["describe", "resnet18", "--size=99999999999"], "'99999999999' is more than 2147483647"),
    (["describe", "resnet18", "--size=16385"], "'16385' is more than 16384"),
    (["describe", "resnet18", "--classes=99999999999"], "is more than 2147483647"),
    (["describe", "resnet18", "--shortcut=identity"],
     "unknown option --shortcut; use --config.model.shortcut"),
    (["describe", "resnet18", "--batch=9"], "option --batch; use --config.train.batch_size"),
    (["describe", "resnet18", "--config.data.size=64"],
     "data.size has no effect on resnet18, a network without data; leave it out, or use --size"),
    (["describe", "resnet18", "--config=experiments/speed.py"],
     "describe takes either a name such as resnet50 or --config=FILE"),
    (["describe", "--config.model.depth=20"], "describe takes either a name"),
    (["describe", "resnet18", "--device="], "the value is empty; is a variable not set?"),
    (["describe", "resnext50_32x0d"], "network 'resnext50_32x0d'; nearest: resnext50_32x4d"),
    (["describe", "resnext50_9999x9999d"], "is not a positive factor, such as 2.0"),
    (["probe", "runs/x", "--examples=10^9"], "'10^9' is not a positive number"),
    *(([command, "runs/x", option], "the value is empty; is a variable not set?")
      for command, option in (("evaluate", "--data="), ("evaluate", "--split="),
                              ("probe", "--data="), ("probe", "--probe="), ("probe", "--data= "))),
    *((["sweep", "--config=experiments/degradation.py", f"--axis={text}"],
       f"--axis {text} has an empty value; leave out a comma")
      for text in ("model.depth=8,,", "model.depth=,8", "data.area=(0.1,1),,(0.2,1)")),
    (["train", "--config=experiments/degradation.py", "--config.train.grow_from=20",
      "--config.model.depth=20"], "train.grow_from=20 has no effect: it is model.depth; set it"),
    (["sweep", "--config=experiments/degradation.py", "--jobs=2", "--process=0"],
     "--process has no effect: --jobs are of one machine; leave it out"),
    (["train", "--config=experiments/degradation.py", "--workdir=README.md/run"],
     "cannot write to README.md: File exists; make it writable, or choose another directory"),
])  # fmt: skip
def test_a_slip_is_answered_by_one_line_with_what_is_nearest(words, message, capsys):
    assert main(words) == exits.EXIT_USAGE
    output, error = capsys.readouterr()
    assert message in error
    assert not output
    assert error.startswith("resjax: ")
    assert error.count("\n") == 1
    assert len(error) < 300


def test_keys_of_the_config_change_a_named_network(capsys):
    words = ["--config.model.stride_in=1x1", "--config.model.shortcut=none"]
    assert main(["describe", "resnet50", *words]) == 0
    title, *_, totals = capsys.readouterr().out.splitlines()
    named = "resnet50, model.stride_in=1x1, model.shortcut=none: 50 weighted layers, 0 projections"
    assert title.startswith(named)
    assert totals.split() == ["total", "22,780,456", "45,440", "3,498,311,680"]


def test_a_network_of_more_digits_than_a_number_has_is_refused(capsys):
    for name in ("cifar-resnet{}", "cifar-plain{}", "wrn28-{}", "wrn{}-10", "resnet{}"):
        assert main(["describe", name.format(5000 * "9")]) == exits.EXIT_USAGE
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(("words", "meant"), [
    (["help"], ["--help"]), (["help", "sweep"], ["sweep", "--help"]), (["version"], ["--version"]),
])  # fmt: skip
def test_help_and_version_may_be_asked_for_as_commands(words, meant, capsys):
    shown = []
    for each in (words, meant):
        with pytest.raises(SystemExit) as ended:
            main(each)
        assert ended.value.code == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != ""


def test_help_and_version_need_no_jax():
    for words in (["--help"], ["--version"], ["sweep", "--help"]):
        code = f"import sys; from resjax.cli.main import main\ntry: main({words})\nfinally: assert "
        done = subprocess.run(
            [sys.executable, "-c", f"{code}'jax' not in sys.modules"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252:strict", "ascii:strict", "utf-8"])
def test_no_letter_is_too_much_for_an_output(tmp_path, encoding):
    """Names of shortcuts in a table, beside ±, and in an error."""
    name = "日本 é €"
    write_sweep(tmp_path, {(name, 20): [0.1, 0.2], ("none", 20): [0.3, 0.2]})
    for words, code in ((["report", str(tmp_path)], 0), (["status", str(tmp_path / name)], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "resjax", *words], capture_output=True, check=False,
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        )  # fmt: skip
        shown = name.encode(encoding.partition(":")[0], "replace")
        assert done.returncode == code, done.stderr
        assert shown in done.stdout + done.stderr
        sign = "+-" if encoding == "ascii:strict" else "±"
        assert words[0] == "status" or f"15{sign}7" in done.stdout.decode(
            encoding.partition(":")[0]
        )
        assert b"Traceback" not in done.stderr


def test_a_warning_is_one_line():
    code = (
        "import sys, warnings; from resjax.cli import main as cli\n"
        "cli.main = lambda: warnings.warn('two\\nlines', UserWarning) or 0\n"
        "cli.command()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "warning: two lines\n"


@pytest.mark.parametrize("said", ["error", "ignore", "ignore::UserWarning", "error::UserWarning"])
def test_what_is_to_be_known_is_told_whatever_the_environment_says_of_warnings(said):
    code = (
        "import warnings; from resjax.cli import main as cli; from resjax.config import Notice\n"
        "cli.main = lambda: warnings.warn('of 9 images 3 remain', Notice) or 0\n"
        "cli.command()"
    )
    environment = os.environ | {"PYTHONWARNINGS": said}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "warning: of 9 images 3 remain\n")


def test_every_warning_of_the_package_is_one_that_is_told():
    calls = [
        (file.name, [ast.unparse(each) for each in node.args[1:]])
        for file in Path(resjax.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
    ]
    assert calls == [("errors.py", ["Notice"])]


def test_in_a_terminal_lines_are_broken_between_words_and_paths_are_not():
    path = "runs/" + 90 * "x"
    line = f"  a verdict of {'many words ' * 12}of {path}"
    broken = wrapped(line, 80).split("\n")
    assert " ".join(broken).split() == line.split()
    assert max(len(part) for part in broken if path not in part) <= 80
    assert broken[0].startswith("  a verdict")
    assert all(part.startswith("    ") for part in broken[1:])


@pytest.mark.slow
def test_a_refusal_has_its_exit_code_where_no_errors_are_heard(tmp_path):
    command = f"{shlex.quote(sys.executable)} -m resjax status {shlex.quote(str(tmp_path))}"
    for closed in ("2>&-", ">&- 2>&-", "<&- >&- 2>&-"):
        assert subprocess.run(["sh", "-c", f"{command} {closed}"]).returncode == exits.EXIT_USAGE


@pytest.mark.slow
def test_a_signal_ends_a_process_where_no_errors_are_heard():
    code = (
        "import os, signal, time; from resjax.interruption import deferred, interruptible\n"
        "with interruptible(75, 'the end'), deferred():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)"
    )
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} 2>&-"
    assert subprocess.run(["sh", "-c", command], timeout=300).returncode == 75


@pytest.mark.slow
@pytest.mark.parametrize("words", ["status {}", "keys", "report {}"])
def test_a_reader_that_has_seen_enough_is_no_failure(words, tmp_path):
    write_run(tmp_path, "run", 0.1)
    command = f"{shlex.quote(sys.executable)} -m resjax {words.format(shlex.quote(str(tmp_path)))}"
    ended = subprocess.run(
        ["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("0\n", "")


def test_a_command_whose_output_is_closed_ends_without_a_traceback():
    command = f"{shlex.quote(sys.executable)} -m resjax --help >&-"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
