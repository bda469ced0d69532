"""The first cells of a notebook find resjax, or install it, and a folder for its results."""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import nbformat
import pytest

import resjax
from tests.notebooks import ADDRESS, NOTEBOOKS

CELLS = {cell.id: cell for cell in nbformat.read(NOTEBOOKS[0], as_version=4).cells}

CELL = CELLS["install"]

PLACES = "/proc/driver/nvidia", "/dev/", "/content/drive"
"""What the cell looks at, in place of which it is shown folders of the test."""

T4, V100 = "580.82.07, 7.5\n", "580.82.07, 7.0\n"


class Machine:
    """A machine without resjax on which the cell runs: what it finds there, and what it did."""

    def __init__(self, tmp_path, monkeypatch):
        self.folder, self.monkeypatch = tmp_path, monkeypatch
        self.commands, self.answers = [], {"pip": (0, "")}
        self.modules, self.installed, self.upgraded = set(), set(), {}
        self.namespace = {"resjax": resjax}
        self.here = tmp_path / "content"
        self.here.mkdir()
        monkeypatch.chdir(self.here)
        for name in ("COLAB_TPU_ADDR", "TPU_NAME", "TPU_ACCELERATOR_TYPE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(shutil, "which", lambda name: name if self.knows(name) else None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: name if name in self.modules else None
        )
        monkeypatch.setattr(
            importlib.metadata, "packages_distributions", lambda: {"numpy": ["numpy"], "re": []}
        )
        monkeypatch.setattr(importlib.metadata, "version", lambda n: self.upgraded.get(n, "1"))

    def knows(self, name):
        return name == sys.executable or name in self.answers

    def run(self, command, **options):
        assert options["env"]["GIT_TERMINAL_PROMPT"] == "0"
        self.commands.append(" ".join(command).replace(f"{sys.executable} -m ", ""))
        name = "pip" if command[0] == sys.executable else command[0]
        code, said = self.answers[name]
        if name == "pip" and code == 0:
            self.modules.add("resjax")
            self.upgraded |= dict.fromkeys(self.installed, "2")
        if name == "git" and code == 0:
            self.copy(command[-1])
        return subprocess.CompletedProcess(command, code, said, "")

    def copy(self, *folder, project="resjax"):
        folder = self.here.joinpath(*folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
        return folder.resolve()

    def file(self, path, text=""):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def open_in_colab(self, allowed=True):
        def mount(where):
            self.commands.append("mount")
            if not allowed:
                raise ValueError("mount failed")

        drive = types.ModuleType("drive")
        drive.mount = mount
        colab = types.ModuleType("google.colab")
        colab.drive = drive
        self.monkeypatch.setitem(sys.modules, "google.colab", colab)

    def results(self):
        """The folder for results that the notebook takes on this machine."""
        self.modules.add("resjax")
        self.run_cell()
        exec(compile(CELLS["results"].source, "results", "exec"), self.namespace)
        return self.namespace["RESULTS"]

    def run_cell(self, repository=ADDRESS):
        source = CELL.source.replace(f'REPOSITORY = "{ADDRESS}"', f'REPOSITORY = "{repository}"')
        for place in PLACES:
            source = source.replace(f'"{place}', f'"{self.folder}{place}')
        exec(compile(source, "install", "exec"), self.namespace)

    def extra(self):
        """The extra that is installed on this machine."""
        source = self.copy("resjax-source")
        self.run_cell()
        return self.commands[-1].removeprefix(f"pip install --quiet --editable {source}")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def test_the_address_in_the_cell_is_that_of_the_project():
    assert f'\nREPOSITORY = "{ADDRESS}"' in CELL.source


def test_where_resjax_is_installed_nothing_is_done(machine, capsys):
    machine.modules.add("resjax")
    machine.run_cell()
    assert machine.commands == []
    assert capsys.readouterr().out == "resjax is installed.\nThe runtime need not be restarted.\n"


def test_it_is_cloned_from_its_address_and_can_be_imported_at_once(machine, capsys):
    machine.answers["git"] = (0, "")
    machine.run_cell()
    source = (machine.here / "resjax-source").resolve()
    assert machine.commands == [
        f"git clone --quiet --depth=1 {ADDRESS} resjax-source",
        f"pip install --quiet --editable {source}",
    ]
    assert sys.path[0] == str(source)
    said = capsys.readouterr().out
    assert said.startswith(f"resjax: {ADDRESS}; no accelerator; installing resjax, which")
    assert said.endswith("The runtime need not be restarted.\n")


@pytest.mark.parametrize("folder", [".", "..", "resjax-source", "resjax-main"])
def test_a_copy_beside_the_notebook_comes_before_an_address(machine, folder):
    machine.copy("resjax-aside", project="aside")  # of another project
    source = machine.copy(folder)
    machine.run_cell()
    assert machine.commands == [f"pip install --quiet --editable {source}"]


@pytest.mark.parametrize("repository", ["", ADDRESS])
def test_a_copy_in_drive_is_found_where_no_address_leads_to_one(machine, repository, capsys):
    machine.answers["git"] = (128, "fatal: not found")
    machine.open_in_colab()
    drive = machine.folder / "content/drive/MyDrive"
    (drive / "resjax").mkdir(parents=True)  # what other notebooks left
    source = machine.copy(drive / "resjax-copy")
    machine.run_cell(repository)
    asked = bool(repository) * [f"git clone --quiet --depth=1 {ADDRESS} resjax-source"]
    assert machine.commands == [*asked, "mount", f"pip install --quiet --editable {source}"]
    assert "resjax: Drive, folder resjax-copy;" in capsys.readouterr().out


def test_what_was_looked_at_and_what_to_do_is_said_where_nothing_is_found(machine):
    machine.answers["git"] = (128, "fatal: repository\nnot found")
    machine.open_in_colab()
    with pytest.raises(RuntimeError) as found:
        machine.run_cell()
    said = str(found.value)
    assert f"looked beside this notebook, at {ADDRESS} (fatal: repository not found), in" in said
    assert "Set REPOSITORY in this cell" in said
    assert "folder named resjax-source" in said
    assert not any(command.startswith("pip") for command in machine.commands)


def test_a_notebook_goes_on_where_drive_is_declined(machine, capsys):
    machine.answers["git"] = (128, "fatal: not found")
    machine.open_in_colab(allowed=False)
    with pytest.raises(RuntimeError, match="resjax was not found; looked beside this notebook, at"):
        machine.run_cell()
    source = machine.copy("resjax-source")
    machine.run_cell()
    assert machine.commands[-1] == f"pip install --quiet --editable {source}"
    assert machine.results() == Path("runs")
    said = capsys.readouterr().out
    assert "Drive is not used (mount failed); what is made here lasts as long as this" in said


def test_results_go_to_drive_in_colab_and_beside_the_notebook_elsewhere(machine):
    assert machine.results() == Path("runs")
    assert machine.commands == []
    machine.open_in_colab()
    assert machine.results() == machine.folder / "content/drive/MyDrive/resjax"
    assert machine.commands == ["mount"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_drive_is_asked_for_by_one_function_and_where_something_is_trained(path):
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    assert [name for name, source in cells.items() if "drive.mount(" in source] == ["install"]
    assert ("open_drive()" in cells.get("results", "")) == (path.stem != "residual_block")


def test_a_machine_without_git_says_so(machine):
    with pytest.raises(RuntimeError, match=r"\(there is no git\)"):
        machine.run_cell()


def test_what_pip_said_last_is_shown_where_it_fails(machine):
    machine.copy("resjax-source")
    machine.answers["pip"] = (1, "ERROR: requires Python >=3.11")
    with pytest.raises(RuntimeError, match=r"pip could not install(?s:.*)requires Python >=3\.11"):
        machine.run_cell()


def test_a_restart_is_asked_for_until_it_is_done_where_an_imported_package_changed(machine):
    machine.copy("resjax-source")
    machine.installed = {"numpy", "flax"}  # flax was not imported
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"restart the runtime.* versions of numpy than"):
            machine.run_cell()
    machine.namespace.clear()  # by a restart
    machine.run_cell()


@pytest.mark.parametrize(
    ("asked", "there", "extra"),
    [
        (T4, (), "[cuda13]"),
        (T4, ("jax_cuda12_plugin",), "[cuda12]"),  # as the jax of the machine has it
        (V100, (), "[cuda12]"),
        (V100, ("jax_cuda13_plugin",), "[cuda13]"),
        ("550.54.15, 9.0\n", (), "[cuda12]"),
    ],
)
def test_nvidia_gpus_get_the_cuda_that_their_driver_has_or_jax_has_already(
    machine, asked, there, extra
):
    machine.answers["nvidia-smi"] = (0, asked)
    machine.modules |= set(there)
    machine.file("dev/accel0")  # of NVIDIA's driver as well
    assert machine.extra() == extra


@pytest.mark.parametrize(("version", "extra"), [("575.57.08", "cuda12"), ("590.1.2", "cuda13")])
def test_a_driver_is_seen_without_its_program(machine, version, extra):
    machine.file(
        "proc/driver/nvidia/version",
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build\n",
    )
    assert machine.extra() == f"[{extra}]"


@pytest.mark.parametrize(
    "sign", ["COLAB_TPU_ADDR", "TPU_NAME", "TPU_ACCELERATOR_TYPE", "dev/accel0", "dev/vfio/0"]
)
def test_tpus_are_seen_by_the_environment_or_by_their_files(machine, sign, monkeypatch):
    if "/" in sign:
        machine.file(sign)
    else:
        monkeypatch.setenv(sign, "somewhere")
    assert machine.extra() == "[tpu]"


@pytest.mark.parametrize("program", [(9, "couldn't communicate with the NVIDIA driver"), None])
def test_a_machine_without_an_accelerator_gets_no_extra(machine, program):
    if program:
        machine.answers["nvidia-smi"] = program
    machine.file("dev/vfio/vfio")  # the driver alone
    assert machine.extra() == ""
    assert "TPU_NAME" not in os.environ
