import math
import subprocess
import sys

import pytest

from resjax.config import ConfigError
from resjax.training import rundir


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    rundir.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        rundir.write_json(path, {"a": object()})
    assert rundir.read_json(path) == {"a": 1}
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        rundir.write_json(path, {"a": 2})
    assert rundir.read_json(path) == {"a": 1}


def test_numbers_that_are_not_finite_become_null(tmp_path):
    rundir.append_line(tmp_path / "m.jsonl", {"a": math.nan, "b": {"c": -math.inf, "d": 0.5}})
    assert rundir.read_lines(tmp_path / "m.jsonl") == [{"a": None, "b": {"c": None, "d": 0.5}}]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert rundir.read_lines(tmp_path / "m.jsonl") == [{"step": 1}, {"step": 2}]


def test_what_a_directory_is(tmp_path):
    assert rundir.run_state(tmp_path / "missing") == rundir.ABSENT
    for name, state in [
        ("metrics.jsonl", rundir.ABSENT),
        ("config.json", rundir.UNFINISHED),
        ("error.txt", rundir.FAILED),
        ("result.json", rundir.DONE),
    ]:
        (tmp_path / name).touch()
        assert rundir.run_state(tmp_path) == state


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name in ("run", "x" * 300):
        with pytest.raises(ConfigError, match="choose another directory"):
            rundir.make_directory(tmp_path / "file" / name)
    with pytest.raises(ConfigError, match="choose another directory"):
        rundir.run_state(tmp_path / ("x" * 300))


def test_a_second_process_in_a_directory_is_refused(tmp_path):
    code = (
        "import sys; from pathlib import Path; from resjax.training import rundir\n"
        "with rundir.locked(Path(sys.argv[1])):\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"locked\n"
        refused = pytest.raises(ConfigError, match="is being run by another process")
        with refused, rundir.locked(tmp_path):
            pass
        process.kill()
        process.wait()
        with rundir.locked(tmp_path):  # it died with its owner
            pass
