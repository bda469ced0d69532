"""A path that is not there is answered by the one that is meant."""

import pytest

from resjax.cli.main import main
from resjax.exits import EXIT_USAGE
from resjax.report import report
from tests.report.fabricate import write_run


@pytest.fixture
def sweeps(tmp_path, monkeypatch):
    """The working directory, with the sweeps runs/degradation and runs/depths."""
    monkeypatch.setattr(report, "MOST_DRAWN", 0)  # figures take seconds
    monkeypatch.chdir(tmp_path)
    for name in ("degradation", "depths"):
        write_run(tmp_path / "runs" / name, "run", 0.1)
    (tmp_path / "mine.py").touch()
    return tmp_path


def refused(capsys, *words):
    assert main([*words]) == EXIT_USAGE
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "status", "doctor"])
def test_a_directory_beside_it_is_named_where_there_is_none(command, sweeps, capsys):
    told = refused(capsys, command, "runs/degradaton")
    assert told == "resjax: no run in runs/degradaton; nearest: runs/degradation\n"
    told = refused(capsys, command, "elsewhere/quite")
    assert told.endswith("; start with resjax train or resjax sweep\n")


@pytest.mark.parametrize("command", ["report", "status", "doctor"])
def test_the_sweeps_in_a_directory_are_named(command, sweeps, monkeypatch, capsys):
    monkeypatch.chdir(sweeps / "runs")
    told = refused(capsys, command, ".")
    assert told == "resjax: no run in .; name one of the sweeps in it: degradation, depths\n"


@pytest.mark.parametrize("file", ["mien.py", "mine", "mine.py.txt"])
def test_an_experiment_file_beside_it_is_named(file, sweeps, capsys):
    told = refused(capsys, "train", f"--config={file}")
    assert told == f"resjax: no experiment file {file}; nearest: mine.py\n"


def test_the_page_of_a_report_stands_for_its_sweep(sweeps, capsys):
    assert main(["report", "runs/depths"]) == 0
    shown = capsys.readouterr().out
    assert main(["report", "runs/depths/report/index.html"]) == 0
    assert capsys.readouterr().out == shown
