"""The launch files are right in syntax, and every command in them is one that there is."""

import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from resjax.cli.arguments import make_parser, split
from resjax.cli.commands.experiment import read_experiment

ROOT = Path(__file__).parents[2]
LAUNCH = sorted((ROOT / "experiments" / "launch").iterdir())


def texts_of(content):
    """All strings in a document; a list of words is a command."""
    if isinstance(content, dict):
        return [text for value in content.values() for text in texts_of(value)]
    if isinstance(content, list):
        if content and content[0] == "resjax":
            return [shlex.join(content)]
        return [text for value in content for text in texts_of(value)]
    return [content] if isinstance(content, str) else []


def commands_of(path):
    text = path.read_text()
    found = [text, *texts_of(yaml.safe_load(text))] if path.suffix == ".yaml" else [text]
    # With an option, so that no file name or sentence is taken for one.
    commands = re.findall(r"\bresjax sweep --[^\n&\"]*(?:\"\$WORKDIR\"[^\n&]*)?", "\n".join(found))
    return {" ".join(command.split()) for command in commands}


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_a_launch_file_is_right_in_syntax_and_its_commands_exist(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if path.suffix == ".yaml":
        assert isinstance(yaml.safe_load(path.read_text()), dict)
    else:
        subprocess.run(["bash", "-n", path], check=True)
    commands = commands_of(path)
    assert commands
    for command in commands:
        words = shlex.split(command.replace("$WORKDIR", "runs"))
        own, experiment = split(words[1:])
        options = make_parser().parse_args(own)
        assert (options.command, bool(options.workdir)) == ("sweep", True)
        read_experiment(experiment)


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_a_launch_file_says_in_its_header_how_it_is_started(path):
    header = [line for line in path.read_text().splitlines()[:12] if line.startswith("#     ")]
    starters = {"slurm": "sbatch", "gke": "kubectl", "kuberay": "kubectl", "ray": "ray up"}
    starter = next(value for name, value in starters.items() if path.name.startswith(name))
    assert any(line.removeprefix("#     ").startswith(starter) for line in header)
    assert any(f"experiments/launch/{path.name}" in line for line in header)


def traps(process, number):
    status = Path(f"/proc/{process}/status").read_text()
    [caught] = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return bool(int(caught, 16) & 1 << (number - 1))


def test_the_slurm_task_asks_its_run_to_end_and_is_queued_again(tmp_path):
    """With a resjax and an scontrol that tell what is asked of them."""
    (tmp_path / "resjax").write_text(
        "#!/usr/bin/env bash\ntrap 'exit 75' TERM\necho $RESJAX_WORKERS > started\n"
        "while :; do sleep 0.05; done\n"
    )
    (tmp_path / "scontrol").write_text('#!/usr/bin/env bash\necho "$@" > requeued\n')
    for name in ("resjax", "scontrol"):
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path),
        "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8",
    }  # fmt: skip
    script = next(path for path in LAUNCH if path.suffix == ".sbatch")
    task = subprocess.Popen(["bash", script], env=environment, cwd=tmp_path)
    deadline = time.monotonic() + 30
    while not ((tmp_path / "started").exists() and traps(task.pid, signal.SIGTERM)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    task.terminate()
    assert task.wait(timeout=300) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 12_3\n"
    assert (tmp_path / "started").read_text() == "8\n"  # the tasks that share the runs
