"""What a shell completes, asked as it asks: by its own script, in bash, zsh and fish."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resjax.cli.commands import COMMANDS
from resjax.cli.main import main
from resjax.config import defaults
from resjax.models.shortcuts import SHORTCUTS

ROOT = Path(__file__).parents[2]

ASK = """
source ./script
COMP_LINE={line} COMP_POINT={point} COMP_TYPE=9 COMP_CWORD={word}
COMP_WORDS=({line_words})
_python_argcomplete resjax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    """A directory with an experiment, and `resjax` on the path."""
    command = tmp_path / "bin" / "resjax"
    command.parent.mkdir()
    command.write_text(f'#!/bin/bash\nPYTHONPATH={ROOT} exec {sys.executable} -m resjax "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    axes = "".join(f"def sweep_{name}():\n    ...\n" for name in ("depth", "width"))
    lines = """SHORTCUTS["half"] = Half\nshortcuts.SHORTCUTS['thrice'] = Thrice\n"""
    lines += """KEYS["model.kept"] = Key(0.5)\nPROBES["mine"] = Probe(mine)\n"""
    (tmp_path / "mine.py").write_text(axes + lines)  # cannot be run, only read
    (tmp_path / "notes.txt").touch()
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["completion", "bash"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    return tmp_path


def completed(line):
    """What bash would offer for the last word of a line."""
    words = line.split(" ")
    text = ASK.format(
        line=shlex.quote(line), point=len(line), word=len(words) - 1, line_words=shlex.join(words)
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.slow
def test_commands_are_completed(shell):
    assert completed("resjax sw") == ["sweep"]
    assert {*COMMANDS} <= {*completed("resjax ")}


@pytest.mark.slow
def test_options_are_completed_and_their_choices(shell):
    assert completed("resjax sweep --lau") == ["--launcher="]
    assert completed("resjax sweep --launcher=") == ["local", "ray"]
    assert completed("resjax sweep --dry") == ["--dry-run"]
    assert completed("resjax completion z") == ["zsh"]
    assert "--seeds=" not in completed("resjax train --")


@pytest.mark.slow
def test_an_experiment_file_and_its_axes_are_completed(shell):
    assert {*completed("resjax sweep --config=")} == {"mine.py", "bin/", "runs/"}
    assert completed("resjax sweep --config=mine.py --sweep=w") == ["width"]
    assert completed("resjax sweep --config=mine.py --sweep=depth,w") == ["depth,width"]
    assert completed("resjax status r") == ["runs/"]


@pytest.mark.slow
def test_keys_of_a_config_are_completed_once_they_are_begun(shell):
    assert completed("resjax sweep --config.model.dep") == ["--config.model.depth="]
    model = [f"--config.{key}=" for key in defaults() if key.startswith("model.")]
    assert completed("resjax sweep --config.model.") == model
    options = completed("resjax sweep --")
    assert "--config." in options
    assert not any(option.startswith("--config.model") for option in options)
    assert completed("resjax sweep --axis=model.dep") == ["model.depth="]
    assert completed("resjax keys model.dep") == ["model.depth"]


@pytest.mark.slow
def test_values_of_a_key_are_completed(shell):
    assert completed("resjax train --config.model.shortcut=") == [*SHORTCUTS]


@pytest.mark.slow
def test_what_an_experiment_file_adds_is_completed_where_it_is_named(shell):
    line = "resjax train --config=mine.py:arg --config.model.shortcut="
    assert completed(line) == [*SHORTCUTS, "half", "thrice"]
    assert completed("resjax train --config=none.py --config.model.shortcut=th") == [""]
    assert completed("resjax train --config=mine.py --config.model.order=th") == [""]
    assert completed("resjax train --config=mine.py --config.model.ke") == [
        "--config.model.kept=", "--config.model.kernel_init=",
    ]  # fmt: skip
    assert completed("resjax sweep --config=mine.py --axis=model.kep") == ["model.kept="]
    assert completed("resjax train --config=mine.py --config.eval.probes=mi") == ["mine"]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh")
def test_zsh_understands_its_script(shell, capsys):
    assert main(["completion", "zsh"]) == 0
    script = f"autoload -U compinit; compinit -u\n{capsys.readouterr().out}\nprint $_comps[resjax]"
    done = subprocess.run(
        ["zsh", "-f", "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"HOME": str(shell)},
    )  # fmt: skip
    assert done.stdout == "_python_argcomplete\n"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish")
def test_fish_completes_with_descriptions(shell, capsys):
    assert main(["completion", "fish"]) == 0
    script = f"{capsys.readouterr().out}\ncomplete -C 'resjax sweep --config.model.dep'"
    done = subprocess.run(
        ["fish", "-c", script], capture_output=True, text=True, check=True,
        env=os.environ | {"HOME": str(shell)},
    )  # fmt: skip
    option, _, about = done.stdout.partition("\t")
    assert option == "--config.model.depth="
    assert "layers" in about
