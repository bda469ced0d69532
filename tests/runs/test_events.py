import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resjax.config import ConfigError
from resjax.runs import disk, rundir
from resjax.runs.events import TensorBoard, hidden, keep_histograms, scalars
from resjax.runs.journal import Journal
from resjax.runs.loop import train_and_evaluate
from resjax.training.plan import make_plan

ROOT = Path(__file__).parents[2]


def events(directory):
    """The summaries in the event files of a directory, [(step, tag, value)], read as protobuf."""
    from tensorboardX.proto.event_pb2 import Event

    paths = sorted(directory.glob("events.out.tfevents.*"))
    content, found = b"".join(path.read_bytes() for path in paths), []
    while content:  # length, its check, the event, its check
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        found += [(event.step, value.tag, value) for value in event.summary.value]
        content = content[16 + length :]
    return found


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="PyTorch is not installed")
def test_event_files_are_written_without_importing_pytorch(tmp_path):
    program = (
        "import sys; from pathlib import Path; from resjax.runs.events import TensorBoard; "
        "writer = TensorBoard(Path()); writer.add({'step': 1, 'error': 0.5}); writer.close(); "
        "print('torch' in sys.modules)"
    )
    said = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path)
    assert said == "False\n"
    assert [(step, tag) for step, tag, _ in events(tmp_path)] == [(1, "error")]


def test_a_hidden_package_is_found_again_and_one_in_use_stays():
    with hidden("this"), pytest.raises(ModuleNotFoundError):
        import this  # noqa: F401
    assert "this" not in sys.modules
    with hidden("json"):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_the_event_file_has_the_numbers_of_the_lines(tiny, tmp_path):
    train_and_evaluate(tiny, tmp_path)
    found = {(step, tag): value.simple_value for step, tag, value in events(tmp_path)}
    lines = rundir.read_metrics(tmp_path)
    assert len(found) == sum(len(line) - 2 for line in lines)
    for line in lines:
        for name, value in line.items():
            if name not in ("step", "epoch"):
                assert found[line["step"], name] == np.float32(value)


def test_a_number_that_is_not_finite_is_no_event_as_it_is_none_in_the_file():
    line = {"step": 1, "epoch": 0.5, "error": 1.0, "loss": math.nan}
    assert scalars(line) == scalars(disk.opened(json.dumps(disk.sealed(line)))) == {"error": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("histograms", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 1e6], ids=["saved", "unsaved"])
def test_the_event_files_of_a_run_that_went_on_have_each_number_and_histogram_once(
    tiny, tmp_path, monkeypatch, seconds, histograms
):
    def note_and_end(journal, event, **more):
        note(journal, event, **more)
        if event == "evaluated" and journal.at.step == 20:  # and no checkpoint knows of that
            raise KeyboardInterrupt

    tiny.log.histograms, tiny.checkpoint.seconds, note = histograms, seconds, Journal.note
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train_and_evaluate(tiny, whole)
    with monkeypatch.context() as ending:
        ending.setattr(Journal, "note", note_and_end)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(tiny, cut)
    for _ in range(2):
        train_and_evaluate(tiny, cut)
        assert contents(cut) == contents(whole)
        (cut / "result.json").unlink()


def contents(directory):
    return sorted((step, tag, value.SerializeToString()) for step, tag, value in events(directory))


@pytest.fixture
def board(tmp_path):
    """An event file with a histogram at steps 0, 10 and 20, and its sizes after each."""
    board = TensorBoard(tmp_path)
    [path] = tmp_path.iterdir()
    sizes = {}
    for step in (0, 10, 20):
        board.add({"step": step, "error": 0.5})
        board.add_histograms(step, {"a": np.arange(step + 1.0)})
        sizes[step] = path.stat().st_size
    board.close()
    return path, sizes


@pytest.mark.parametrize("last", [-1, 0, 10, 15, 20])
def test_only_histograms_up_to_a_step_are_kept(board, last):
    path, _ = board
    there = keep_histograms(path, last)
    assert there == path.exists() == (last >= 0)
    assert [found[:2] for found in events(path.parent)] == [
        (step, "a") for step in (0, 10, 20) if step <= last
    ]


@pytest.mark.parametrize("damage", ["cut in its length", "cut", "changed", "zeros"])
def test_histograms_up_to_the_damage_of_a_file_are_kept(board, damage):
    path, sizes = board
    content = bytearray(path.read_bytes())
    last = {
        "cut in its length": content[sizes[10] : sizes[10] + 5],
        "cut": content[sizes[10] : -1],
        "changed": content[sizes[10] : -30] + b"x" + content[-29:],
        "zeros": bytes(100),
    }[damage]
    path.write_bytes(content[: sizes[10]] + last)
    assert keep_histograms(path, 20)
    assert [found[:2] for found in events(path.parent)] == [(0, "a"), (10, "a")]


def test_histograms_are_of_every_array(tiny, tmp_path):
    tiny.log.histograms = True
    summary = train_and_evaluate(tiny, tmp_path)
    found = {tag: value.histo for step, tag, value in events(tmp_path) if step == 20}
    counted = sum(h.num for tag, h in found.items() if tag.startswith("params/"))
    assert counted == summary.params
    assert {tag.partition("/")[0] for tag in found if "/" in tag} == {"params", "batch_stats"}


def test_pictures_are_those_of_the_files(tmp_path):
    import matplotlib.image

    picture = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    matplotlib.image.imsave(tmp_path / "figure.png", picture)
    board = TensorBoard(tmp_path)
    board.add_figures(7, [tmp_path / "figure.png"])
    board.close()
    [(step, tag, value)] = events(tmp_path)
    assert (step, tag) == (7, "figure")
    (tmp_path / "read.png").write_bytes(value.image.encoded_image_string)
    read = np.uint8(255 * matplotlib.image.imread(tmp_path / "read.png"))[..., :3]
    np.testing.assert_array_equal(read, picture)


def test_a_run_and_a_probe_replace_their_own_event_file_alone(tiny, tmp_path):
    def written(config):
        TensorBoard(tmp_path, config).close()
        return sorted(path.name.endswith(".probe") for path in tmp_path.iterdir())

    assert written(tiny) == [False]
    assert written(None) == written(None) == written(tiny) == [False, True]


def test_writers_that_are_not_there_are_refused(tiny, monkeypatch):
    tiny.log.writers = ("tensorbored",)
    with pytest.raises(ConfigError, match="choose one of: tensorboard, wandb"):
        make_plan(tiny)
    tiny.log.writers = ("wandb",)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"not installed: pip install -e '\.\[wandb\]'"):
        make_plan(tiny)


@pytest.mark.slow
def test_weights_and_biases_has_the_run(tiny, tmp_path):
    pytest.importorskip("wandb")
    words = [
        sys.executable, "-m", "resjax", "train", "--config=experiments/degradation.py",
        "--config.model.depth=8", "--config.model.width=2", "--config.train.duration=20 steps",
        "--config.log.writers=('wandb',)", "--config.log.histograms=True",
        f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    environment = os.environ | {"WANDB_MODE": "offline"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True)
    [stored] = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    name = disk.read_json(tmp_path / "run" / "manifest.json")["run"]
    assert stored.name == f"run-{name}.wandb"
    content = stored.read_bytes()
    for part in (b"train_error", b"params/head/kernel", b"model.shortcut"):
        assert part in content
