import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from resjax.config import ConfigError, default_config
from resjax.config.naming import run_id
from resjax.files import replacing
from resjax.runs import disk, rundir


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    disk.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        disk.write_json(path, {"a": object()})
    assert disk.read_json(path) == {"a": 1}
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        disk.write_json(path, {"a": 2})
    assert disk.read_json(path) == {"a": 1}


def test_a_file_that_several_write_at_once_is_that_of_one_of_them(tmp_path):
    def write(number):
        for _ in range(50):
            disk.write_text(tmp_path / "progress.json", f"{number}" * 1000, durable=False)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]
    assert (tmp_path / "progress.json").read_text() in [f"{n}" * 1000 for n in range(4)]


def test_what_a_process_left_that_was_killed_while_it_wrote_goes_when_the_run_goes_on(tmp_path):
    writing = replacing(tmp_path / "progress.json")
    writing.__enter__().touch()
    assert rundir.partial_files(tmp_path) == list(tmp_path.iterdir())
    rundir.begin_run(tmp_path, default_config())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    content = {"a": math.nan, "b": {"c": -math.inf, "d": 0.5}, "e": [{"f": [math.inf, 1.0]}]}
    found = {"a": None, "b": {"c": None, "d": 0.5}, "e": [{"f": [None, 1.0]}]}
    disk.append_line(tmp_path / "m.jsonl", content)
    assert disk.read_lines(tmp_path / "m.jsonl") == [found]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "m.jsonl"
    disk.write_lines(path, [{"step": 1}, {"step": 2}])
    with path.open("a") as file:
        file.write('{"st')
    assert disk.read_lines(path) == [{"step": 1}, {"step": 2}]
    disk.append_line(path, {"step": 3})
    assert disk.read_lines(path) == [{"step": 1}, {"step": 2}, {"step": 3}]


@pytest.mark.parametrize("end", [b"\x0b", b"\x8a", b"J"])
def test_a_last_line_whose_end_is_another_byte_is_damaged_and_not_cut_off(tmp_path, end):
    path = tmp_path / "m.jsonl"
    disk.write_lines(path, [{"step": 1}, {"step": 2}])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + end)
    with pytest.raises(ConfigError, match="resjax doctor"):
        disk.read_lines(path)
    disk.mend_lines(path, {"event": "damaged"})
    assert disk.read_lines(path) == [{"step": 1}, {"event": "damaged"}]
    path.write_bytes(whole[:-1])
    assert disk.read_lines(path) == [{"step": 1}]


def test_a_changed_value_or_a_missing_digest_is_refused(tmp_path):
    path = tmp_path / "result.json"
    disk.write_json(path, {"train_error": 0.125, "text": "é"})
    for old, new in (("0.125", "0.126"), ("sha256", "sha257"), ("train", "trait")):
        disk.write_json(path, {"train_error": 0.125, "text": "é"})
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ConfigError, match=r"digest.*resjax doctor .* says what to do"):
            disk.read_json(path)


def test_the_metrics_of_a_run_that_is_done_are_all_there(tmp_path):
    disk.write_json(tmp_path / "config.json", {})
    disk.write_lines(tmp_path / "metrics.jsonl", [{"step": 1}, {"step": 2}])
    rundir.write_result(tmp_path, {"train_error": 0.1})
    assert len(rundir.read_metrics(tmp_path)) == 2
    disk.write_lines(tmp_path / "metrics.jsonl", [{"step": 1}])
    with pytest.raises(ConfigError, match=r"it is not that of result.json"):
        rundir.read_metrics(tmp_path)


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


def test_processes_that_start_together_take_no_file_from_each_other(tmp_path):
    """Threads, which have one PID, as the processes of several containers may."""
    rundir.begin_run(tmp_path, default_config())

    def start(number):
        for _ in range(100):
            rundir.make_directory(tmp_path)
            rundir.begin_run(tmp_path, default_config())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(4)))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_what_another_process_removed_meanwhile_need_not_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(rundir, "partial_files", lambda run: [run / ".progress.json.partial"])
    rundir.begin_run(tmp_path, default_config())
    assert rundir.run_state(tmp_path) == rundir.UNFINISHED


def test_what_is_left_of_another_run_without_its_config_is_refused_at_once(tmp_path):
    config, other = default_config(), default_config()
    other.model.depth = 56
    run = tmp_path / "run"
    for name in ("manifest.json", "checkpoints/8/checkpoint.json"):
        (run / name).parent.mkdir(parents=True)
        disk.write_json(run / name, {"run": run_id(config)})
        rundir.refuse_other_config(run, config)  # it goes on
        with pytest.raises(ConfigError, match=rf"{name} is of another run, {run_id(config)}; ch"):
            rundir.refuse_other_config(run, other)
        (run / name).write_text("damaged")
        rundir.refuse_other_config(run, other)
        shutil.rmtree(run)


def test_a_run_of_another_config_is_refused_in_the_words_of_both(tmp_path):
    config, other = default_config(), default_config()
    config.train.duration, other.train.duration = "4 steps", "2.5 epochs"
    rundir.begin_run(tmp_path, config)
    told = r"\(train.duration is '4 steps' there, '2.5 epochs' here\)"
    with pytest.raises(ConfigError, match=told):
        rundir.refuse_other_config(tmp_path, other)
    other.train.duration, other.model.remat = "4.0 step", True  # the same in other words
    rundir.refuse_other_config(tmp_path, other)


def test_a_directory_of_other_programs_is_no_sweep(tmp_path):
    for number, said in enumerate(({"model_type": "resnet", "depths": [2, 2]}, ["x"])):
        (tmp_path / f"w{number}").mkdir()
        (tmp_path / f"w{number}" / "config.json").write_text(json.dumps(said))
    rundir.refuse_sweep(tmp_path)
    with pytest.raises(ConfigError, match="no run in"):
        rundir.refuse_no_run(tmp_path)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "config.json").write_text('{"model_type')  # it may have been any
    with pytest.raises(ConfigError, match=r"is a sweep \(runs so far: 1\)"):
        rundir.refuse_sweep(tmp_path)


def test_a_run_is_put_neither_into_a_run_nor_into_a_sweep(tmp_path):
    config, run = default_config(), tmp_path / "sweep" / "run"
    run.mkdir(parents=True)
    rundir.begin_run(run, config)
    with pytest.raises(ConfigError, match=r"sweep is a sweep \(runs so far: 1\); give this run"):
        rundir.refuse_other_config(tmp_path / "sweep", config)
    with pytest.raises(ConfigError, match="run is a run; choose a directory that is not in one"):
        rundir.refuse_other_config(run / "inner", config)
    rundir.refuse_other_config(tmp_path / "sweep" / "other", config)
